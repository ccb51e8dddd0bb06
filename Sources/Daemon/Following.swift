// Part of Control (Supervisor.swift): what it makes of a host that changes. Links come by the kernel's
// notices; namespaces of pods and what could not be opened are looked for again. Routes are the engine's
// (RouteFollowing.swift).

import Glibc
import HostPlan
import LinuxIO
import Routing
import Settings

extension Control {
    /// Looks at all links again after any notice.
    func followHost() {
        Host.pause(milliseconds: Timing.noticesMilliseconds)
        let told = notices.takeNotices()
        host.note(told)
        if told.concernsLinks { follow(reopening: false) }
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
            for directory in configuration.namespaceDirectories { watch.watch(directory) }
        }
        if plumbing.isDue(configuration, looksAtNamespaces: looks || isTold || isExpecting) {
            follow(reopening: true)
        }
    }

    /// Sets right what others changed and shuck had set, and names what it may not.
    func watchHost() {
        guard Host.monotonicNanoseconds() >= host.dueNanoseconds else { return }
        plumbing.restoreRoutes()
        let found = host.look(configuration, plumbing, log)
        guard found != report.host else { return }
        report.host = found
        tell()
    }

    /// Opens what came, again where it was made again, and lets go of what went.
    /// - Parameter reopening: also what nobody told of.
    func follow(reopening: Bool) {
        do {
            let links = try netlink.links()
            if reopening || Self.changesPlumbing(from: reachedLinks, to: links, configuration) {
                let old = plumbing
                let facts = HostFacts.read(for: configuration, cpus: cpus, links: links)
                var next = plumbing
                _ = try next.reach(configuration, facts, .follow)
                (plumbing, reachedLinks) = (next, links)
                engine.follow(provision)
                if engine.hasEnded {
                    plumbing.removeSurplus(of: old)
                } else {
                    superseded.append(
                        Superseded(
                            sequence: engine.sequence, plumbing: old, configuration: configuration))
                }
                logArrivals(unlike: old)
                keepStored()
            }
            plumbing.restoreRoutes()
            if refollow != nil { log.notice("the host's links are followed again") }
            refollow = nil
        } catch {
            if refollow == nil {
                log.error("the host's links changed and could not be followed: \(error)")
            }
            refollow = Backoff.Retry(after: refollow, now: Host.monotonicNanoseconds())
        }
    }

    /// The engine could not take all that it was given: a little later it is given that again.
    func provideAgain() {
        engine.isMissingParts = false
        if refollow == nil { log.error("the engine could not take all that was opened: it gets it again") }
        refollow = Backoff.Retry(after: refollow, now: Host.monotonicNanoseconds())
        // A notice meanwhile finds it changed as well.
        reachedLinks = []
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
