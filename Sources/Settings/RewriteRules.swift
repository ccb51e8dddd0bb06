// The addresses of `inner.rewriteSources`, and its rules against each other and the tunnels.

import Forwarding
import IP

extension Codec<Prefix> {
    /// One IPv6 address: only one for one can be undone without state.
    private static var oneAddress: Codec {
        prefix.refined { field, host in
            if host.isIPv4 {
                return field.wrong("is IPv4; only IPv6 sources are rewritten, so write IPv6")
            }
            return host.isHost
                ? host
                : field.wrong("is more than one address; write one, as \(host.address.text)/128")
        }
    }

    static var rewrittenSource: Codec {
        oneAddress.refined { field, host in
            host.isUnicast || host.isLinkLocal
                ? host : field.wrong("is nobody's source; write the address that probes come from")
        }
    }

    fileprivate static var global: Codec {
        oneAddress.refined { field, host in
            if host.isLinkLocal {
                return field.wrong("is link-local, which no router forwards; write a global one")
            }
            return host.isUnicast ? host : field.wrong("is no unicast address; write a global one")
        }
    }
}

extension Codec<Address> {
    static var rewriteTarget: Codec {
        let host = Codec<Prefix>.global
        return Codec(
            shape: host.shape, read: { host.read($0)?.address }, item: { .scalar(Item.quoted($0.text)) })
    }
}

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

extension Prefix {
    fileprivate var isLinkLocal: Bool { Prefix.linkLocal.covers(self) }

    /// IPv6 that may be somebody's address beyond a link.
    fileprivate var isUnicast: Bool {
        !isLinkLocal && !Prefix.reserved.contains { $0.covers(self) }
    }

    private static let linkLocal = Prefix(Address(high: 0xfe80 << 48, low: 0), length: 10)!
    /// ::/96 with :: and ::1, multicast, site-local.
    private static let reserved = [
        Prefix(Address(high: 0, low: 0), length: 96)!,
        Prefix(Address(high: 0xff00 << 48, low: 0), length: 8)!,
        Prefix(Address(high: 0xfec0 << 48, low: 0), length: 10)!,
    ]
}
