// Part of Engine (Engine.swift): links and routes of a host that changes, by the kernel's notices.

import Forwarding
import HostPlan
import LinuxIO
import Routing
import Settings

extension Engine {
    /// Reads all links again after any notice that concerns them; applies route changes one by one.
    func followKernel() {
        Host.pause(milliseconds: Timing.noticesMilliseconds)
        // In a storm this is when workers have taken what was published last.
        letGo()
        var told = notices.takeNotices()
        // A dump of routes takes notices itself; a link that changed meanwhile is told of only once.
        told.addWhatConcernsLinks(of: routes.takeUnseen())
        guard !told.isEmpty || routes.due != nil else { return }
        follow(told, again: false)
    }

    /// - Parameter again: what was told is lost, as an attempt failed.
    func follow(_ told: KernelNotices, again: Bool) {
        do {
            if again || told.concernsLinks {
                try followLinks(told)
            } else {
                if try routes.follow(told, netlink, notices, links: snapshot.links) {
                    publish(routes.generation)
                }
                share()
            }
            if refollow != nil { log.notice("the host's links and routes are followed again") }
            refollow = nil
        } catch {
            if refollow == nil {
                log.error("the host's links or routes changed and could not be followed: \(error)")
            }
            // What was told is lost.
            routes.ask(.lost)
            refollow = Backoff.Retry(after: refollow, now: Host.monotonicNanoseconds())
        }
    }

    private func followLinks(_ told: KernelNotices) throws {
        snapshot.links = try netlink.links()
        var failure: SystemError?
        do throws(SystemError) {
            _ = try routes.follow(told, netlink, notices, links: snapshot.links)
        } catch {
            failure = error
        }
        // States of links are handed out even when routes could not be read.
        publish(routes.generation)
        share()
        announce()
        if let failure { throw failure }
    }

    static func states(_ configuration: Configuration, _ links: [Link]) -> [InterfaceState] {
        configuration.policy.interfaces.map { interface in
            let link = links.first { $0.name == interface.name }
            return InterfaceState(
                index: link?.index ?? 0, mtu: Int32(clamping: link?.mtu ?? 0),
                reversePath: interface.reversePath,
                vrf: link.flatMap { slave in links.first { $0.index == slave.master } }?.vrfTable
                    ?? 0)
        }
    }
}
