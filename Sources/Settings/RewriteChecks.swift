// The rules of `inner.rewriteSources` against each other and against the tunnels.

import Forwarding
import IP

extension Loader {
    private typealias RewriteSource = Configuration.RewriteSource

    /// - Parameter sections: where each rule of the configuration stands.
    func checkRewrites(_ sections: [Section], _ configuration: Configuration) {
        let rules = Array(zip(configuration.inner.rewriteSources, sections))
        for (index, (rule, section)) in rules.enumerated() {
            checkEqual(rule, section, earlier: rules[..<index])
            checkTunnels(rule, section, configuration)
        }
        if let first = sections.first, knowsDevices,
            configuration.devices.allSatisfy({ $0.netns != nil })
        {
            report.error(
                first.position,
                "\(first.path): answers come back through a device in the host's own namespace; "
                    + "write a device without netns")
        }
    }

    private func checkEqual(
        _ rule: RewriteSource, _ section: Section, earlier: ArraySlice<(RewriteSource, Section)>
    ) {
        if let (_, other) = earlier.first(where: { $0.0.to == rule.to }) {
            section["to"]?.error(
                "\(rule.to.text) is also that of the rule at \(report.place(other.position)), so "
                    + "answers could not be told apart; write another")
        }
        if let (_, other) = earlier.first(where: {
            $0.0.from == rule.from && $0.0.interface == rule.interface
        }) {
            report.error(
                section.position,
                "\(section.path): never matches, since the rule at \(report.place(other.position)) has "
                    + "the same from and interface; remove one")
        }
    }

    /// Answers to `to` are ours to rewrite, so nobody else may have it.
    private func checkTunnels(
        _ rule: RewriteSource, _ section: Section, _ configuration: Configuration
    ) {
        let to = rule.to
        for tunnel in configuration.tunnels {
            let isLocal = tunnel.local.contains { $0.length > 0 && $0.contains(to) }
            let isPod = tunnel.destinations.contains { $0.prefix.isHost && $0.prefix.contains(to) }
            if isLocal || isPod {
                section["to"]?.error(
                    "\(to.text) is in tunnels.\(tunnel.name).\(isLocal ? "local" : "destinations"); "
                        + "write an address that nothing else has")
                return
            }
        }
        let isCovered = configuration.tunnels.contains { $0.interfaces.contains(rule.interface) }
        if knowsInterfaces, interfaces.contains(rule.interface), !isCovered {
            report.warning(
                section.position,
                "\(section.path): no tunnel has \(rule.interface) among its interfaces, so nothing is "
                    + "rewritten; name another one")
        }
    }
}
