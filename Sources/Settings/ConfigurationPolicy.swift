// From a configuration to the part of it that decides a packet's verdict.

import Forwarding

extension Configuration {
    /// The policy to compile. Names become indices; a tunnel without interfaces has all, a
    /// destination without a device the first; the overrides of `reversePath` are folded in.
    /// - Precondition: names refer to what is configured, as `load` makes sure of.
    public var policy: Policy {
        let tunnels = withNames.tunnels
        let places = places(of: interfaces)
        let devicePlaces = self.places(of: devices.map(\.name))
        return Policy(
            interfaces: interfaces.map {
                Policy.Interface(
                    name: $0, reversePath: reversePath.interfaces[$0] ?? reversePath.mode)
            },
            tunnels: tunnels.map { policy(of: $0, interfaces: places, devices: devicePlaces) },
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
                    interface: place(of: $0.interface, in: places))
            })
    }

    private func policy(
        of tunnel: Tunnel, interfaces places: [String: Int], devices devicePlaces: [String: Int]
    ) -> Policy.Tunnel {
        Policy.Tunnel(
            name: tunnel.name,
            interfaces: tunnel.interfaces.map { place(of: $0, in: places) },
            local: tunnel.local,
            remotes: tunnel.remotes,
            passOtherRemotes: tunnel.otherRemotes == .pass,
            modes: tunnel.modes,
            destinations: tunnel.destinations.map { destination in
                Policy.Destination(
                    prefix: destination.prefix,
                    protocolNumber: destination.protocolNumber,
                    ports: destination.ports,
                    device: destination.device.map { place(of: $0, in: devicePlaces) } ?? 0,
                    mss: destination.mss)
            })
    }

    private func places(of names: [String]) -> [String: Int] {
        Dictionary(zip(names, names.indices)) { first, _ in first }
    }

    private func place(of name: String, in places: [String: Int]) -> Int {
        guard let place = places[name] else {
            preconditionFailure("\(name) is not configured")
        }
        return place
    }
}

extension ReplyRate {
    /// nil: none may be sent.
    public init?(_ settings: Configuration.ICMP) {
        guard settings.ratePerSecond > 0 else { return nil }
        self.init(perSecond: settings.ratePerSecond, burst: settings.burst)
    }
}
