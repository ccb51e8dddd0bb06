// Part of Control (Supervisor.swift): what it makes of a host that changes. Links and routes come by the
// kernel's notices; namespaces of pods and what could not be opened are looked for again.

import Glibc
import HostPlan
import LinuxIO
import Routing
import Settings

extension Control {
    /// Reads all links again after any notice; applies route changes one by one.
    func followKernel() {
        Host.pause(milliseconds: Timing.noticesMilliseconds)
        // In a storm this is when workers have taken what was published last.
        letGo()
        var told = notices.takeNotices()
        // A dump of routes takes notices itself; a link that changed meanwhile is told of only once.
        told.addWhatConcernsLinks(of: routes.takeUnseen())
        host.note(told)
        guard !told.isEmpty || routes.due != nil else { return }
        follow(told, reopening: false)
    }

    /// What failed before and is due.
    func retry() {
        let now = Host.monotonicNanoseconds()
        if let refollow, refollow.dueNanoseconds <= now {
            follow(KernelNotices(), reopening: true)
        }
        if let republish, republish.dueNanoseconds <= now { noteRefusals() }
    }

    /// Opens again what is absent and due, and devices whose pod's namespace went or came.
    /// - Parameters:
    ///   - isTold: a directory of namespaces has changed. A namespace is mounted on its name some
    ///     moments after that is made, and of the mount nobody tells.
    ///   - looks: whether to look at each namespace.
    func followNamespaces(isTold: Bool, looks: Bool) {
        if isTold {
            watch.clear()
            expectedUntil = Host.monotonicNanoseconds() + Timing.namespaceNanoseconds
        }
        let isExpecting = Host.monotonicNanoseconds() < expectedUntil
        // A directory may come late, too.
        if looks || isTold {
            for directory in snapshot.configuration.namespaceDirectories { watch.watch(directory) }
        }
        if snapshot.plumbing.isDue(
            snapshot.configuration, looksAtNamespaces: looks || isTold || isExpecting)
        {
            follow(KernelNotices(), reopening: true)
        }
    }

    /// Sets right what others changed and shuck had set, and names what it may not.
    func watchHost() {
        guard Host.monotonicNanoseconds() >= host.dueNanoseconds else { return }
        let found = host.look(snapshot.configuration, snapshot.plumbing, log)
        guard found != snapshot.host else { return }
        snapshot.host = found
        share()
        announce()
    }

    private func follow(_ told: KernelNotices, reopening: Bool) {
        do {
            if !reopening && !told.concernsLinks {
                // Routes alone: what receives and injects stays as it is.
                if told.routes.contains(where: { !$0.isNew }) {
                    snapshot.plumbing.restoreRoutes()
                }
                if try routes.follow(told, netlink, notices, links: snapshot.links) {
                    publish(routes.generation)
                }
                share()
            } else {
                try followLinks(told, reopening: reopening)
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

    private func followLinks(_ told: KernelNotices, reopening: Bool) throws {
        let links = try netlink.links()
        let old = snapshot.plumbing
        let isChanged =
            reopening
            || Self.changesPlumbing(from: reachedLinks, to: links, snapshot.configuration)
        var plumbing = old
        if isChanged {
            let facts = HostFacts.read(for: snapshot.configuration, cpus: cpus, links: links)
            _ = try plumbing.reach(snapshot.configuration, facts, .follow)
            reachedLinks = links
        }
        plumbing.restoreRoutes()
        snapshot.links = try netlink.links()
        snapshot.plumbing = plumbing
        var failure: SystemError?
        do throws(SystemError) {
            _ = try routes.follow(told, netlink, notices, links: snapshot.links)
        } catch {
            failure = error
        }
        // What was opened is handed out even when routes could not be read.
        publish(routes.generation, replacing: isChanged ? old : nil)
        logArrivals(unlike: old)
        share()
        announce()
        if let failure { throw failure }
    }

    /// Whether a configured interface or a device came, went, or was made again, or the MTU of an interface
    /// changed, by which pods' answers are clamped.
    private static func changesPlumbing(
        from old: [Link], to new: [Link], _ configuration: Configuration
    ) -> Bool {
        let names =
            configuration.interfaces
            + configuration.devices.filter { $0.netns == nil }.map(\.name)
        let (before, after) = (old.byName, new.byName)
        return names.contains { before[$0]?.index != after[$0]?.index || before[$0]?.mtu != after[$0]?.mtu }
    }
}
