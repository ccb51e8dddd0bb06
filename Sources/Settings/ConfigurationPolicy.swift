// From a configuration to the part of it that decides a packet's verdict.

import Forwarding

extension Configuration {
    /// The policy to compile. Names become indices; a tunnel without interfaces has all, a
    /// destination without a device the first; the overrides of `reversePath` are folded in.
    /// - Precondition: names refer to what is configured, as `load` makes sure of.
    public var policy: Policy {
        Policy(
            interfaces: interfaces.map {
                Policy.Interface(
                    name: $0, reversePath: reversePath.interfaces[$0] ?? reversePath.mode)
            },
            tunnels: tunnels.map(policy(of:)),
            devices: devices.map {
                Policy.Device(name: $0.name, mtu: $0.mtu, isElsewhere: $0.netns != nil)
            },
            mssIPv4: mss.ipv4,
            mssIPv6: mss.ipv6,
            ecn: outer.ecn,
            dscp: outer.dscp,
            ttl: outer.ttl,
            dropMartians: inner.martians == .drop,
            denySources: inner.deny,
            exemptSources: reversePath.exempt,
            rewrites: inner.rewriteSources.map {
                Policy.SourceRewrite(
                    from: $0.from.address, to: $0.to,
                    interface: index(of: $0.interface, in: interfaces))
            })
    }

    private func policy(of tunnel: Tunnel) -> Policy.Tunnel {
        Policy.Tunnel(
            name: tunnel.name,
            interfaces: tunnel.interfaces.isEmpty
                ? Array(interfaces.indices)
                : tunnel.interfaces.map { index(of: $0, in: interfaces) },
            local: tunnel.local,
            remotes: tunnel.remotes,
            passOtherRemotes: tunnel.otherRemotes == .pass,
            modes: tunnel.modes,
            destinations: tunnel.destinations.map { destination in
                Policy.Destination(
                    prefix: destination.prefix,
                    protocolNumber: destination.protocolNumber,
                    ports: destination.ports,
                    device: destination.device.map { index(of: $0, in: devices.map(\.name)) } ?? 0,
                    mss: destination.mss)
            })
    }

    private func index(of name: String, in names: [String]) -> Int {
        guard let index = names.firstIndex(of: name) else {
            preconditionFailure("\(name) is not configured")
        }
        return index
    }
}

extension ReplyRate {
    /// nil: none may be sent.
    public init?(_ settings: Configuration.ICMP) {
        guard settings.ratePerSecond > 0 else { return nil }
        self.init(perSecond: settings.ratePerSecond, burst: settings.burst)
    }
}
