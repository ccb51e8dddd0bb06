// From a configuration to the part of it that decides a packet's verdict.

import Forwarding

extension Configuration {
    /// The policy to compile. Names become indices; a tunnel without interfaces has all, a destination
    /// without a device has the first; the overrides of `reversePath` are folded in.
    /// - Precondition: names refer to what is configured, as `load` makes sure.
    public var policy: Policy {
        func indices(_ names: [String]) -> [String: Int] {
            Dictionary(zip(names, names.indices)) { first, _ in first }
        }
        let interfaceIndices = indices(interfaces)
        let deviceIndices = indices(devices.map(\.name))
        var policy = Policy(
            interfaces: interfaces.map {
                Policy.Interface(
                    name: $0, reversePath: reversePath.interfaces[$0] ?? reversePath.mode)
            },
            tunnels: withNames.tunnels.map { tunnel in
                Policy.Tunnel(
                    name: tunnel.name, interfaces: tunnel.interfaces.map { interfaceIndices[$0]! },
                    local: tunnel.local, remotes: tunnel.remotes,
                    passOtherRemotes: tunnel.otherRemotes == .pass, modes: tunnel.modes,
                    destinations: tunnel.destinations.map {
                        Policy.Destination(
                            prefix: $0.prefix, protocolNumber: $0.protocolNumber, ports: $0.ports,
                            device: $0.device.map { deviceIndices[$0]! } ?? 0, mss: $0.mss)
                    })
            },
            devices: devices.map {
                Policy.Device(name: $0.name, mtu: $0.mtu, isElsewhere: $0.netns != nil)
            })
        (policy.mssIPv4, policy.mssIPv6) = (mss.ipv4, mss.ipv6)
        (policy.ecn, policy.dscp, policy.ttl) = (outer.ecn, outer.dscp, outer.ttl)
        policy.dropMartians = inner.martians == .drop
        policy.denySources = inner.deny
        policy.exemptSources = reversePath.exempt
        policy.rewrites = inner.rewriteSources.map {
            Policy.SourceRewrite(
                from: $0.from.address, to: $0.to, interface: interfaceIndices[$0.interface]!)
        }
        return policy
    }
}

extension ICMPErrorTokens {
    /// nil: no error may be sent.
    public init?(_ settings: Configuration.ICMP) {
        guard settings.ratePerSecond > 0 else { return nil }
        self.init(perSecond: settings.ratePerSecond, burst: settings.burst)
    }
}
