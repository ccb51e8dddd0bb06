// Which frames of an interface are ours, as a flat list: what a filter in the kernel is built from.
// Says the same as the judge's `pass` or not-`pass`, without looking at the inner packet.

import Routing

extension Policy {
    /// Frames of protocol 4 or 41 to `local`. The first claim whose prefix holds a frame's
    /// destination decides.
    public struct Claim: Sendable, Equatable {
        public enum Sources: Sendable, Equatable {
            /// From anyone.
            case all
            /// Only from these, and never from our own addresses: an overlay shares `local`.
            case only([Prefix], excluding: [Prefix])
        }
        public var local: Prefix
        public var sources: Sources
    }

    /// Native IPv6 frames that the judge injects: TCP, UDP or ICMPv6 of these sources, without
    /// extension headers, to where a tunnel's destinations allow.
    public struct NativeClaim: Sendable, Equatable {
        /// One destination of any of the tunnels; as `Policy.Destination` has them.
        public struct Target: Sendable, Hashable {
            public var prefix: Prefix
            public var protocolNumber: UInt8?
            public var ports: [ClosedRange<UInt16>]
        }
        public var sources: [Address]
        public var targets: [Target]
        /// Destinations that are never claimed; IPv4's prefix stands for IPv4-mapped addresses.
        public var excluded: [Prefix]
    }

    /// What is claimed of an interface's native frames; nil where no rule rewrites sources or no
    /// destination is in reach.
    public func nativeClaim(interface: Int) -> NativeClaim? {
        let sources = rewrites.filter { $0.interface == interface }.map(\.from)
        var targets: [NativeClaim.Target] = []
        var seen: Set<NativeClaim.Target> = []
        for tunnel in tunnels where tunnel.interfaces.contains(interface) {
            let destinations = tunnel.destinations.isEmpty
                ? [Destination(prefix: .allIPv6)] : tunnel.destinations
            for one in destinations where !one.prefix.isIPv4 {
                guard one.protocolNumber == nil || [6, 17, 58].contains(one.protocolNumber) else {
                    continue
                }
                let target = NativeClaim.Target(
                    prefix: one.prefix, protocolNumber: one.protocolNumber, ports: one.ports)
                if seen.insert(target).inserted { targets.append(target) }
            }
        }
        if sources.isEmpty || targets.isEmpty { return nil }
        return NativeClaim(sources: sources, targets: targets, excluded: Martians.unroutable)
    }

    /// The claims of one interface (index into `interfaces`), longest prefix first.
    public func claims(interface: Int) -> [Claim] {
        var pairs: [(prefix: Prefix, item: Int)] = []
        for (index, tunnel) in tunnels.enumerated() where tunnel.interfaces.contains(interface) {
            for prefix in Set(tunnel.local) { pairs.append((prefix, index)) }
        }
        let endpoints = Set(tunnels.flatMap(\.local).filter(\.isHost))
        let claims = coveringItems(pairs).map { local, indices in
            guard tunnels[indices[0]].passOtherRemotes else {
                return Claim(local: local, sources: .all)
            }
            let remotes = Set(indices.flatMap { tunnels[$0].remotes }).filter {
                $0.isIPv4 == local.isIPv4
            }
            let own = endpoints.filter { $0.isIPv4 == local.isIPv4 }
            return Claim(
                local: local,
                sources: .only(remotes.sorted(by: Self.order), excluding: own.sorted(by: Self.order)))
        }
        return claims.sorted { $0.local.length > $1.local.length }
    }

    private static func order(_ left: Prefix, _ right: Prefix) -> Bool {
        (left.address.high, left.address.low, left.length)
            < (right.address.high, right.address.low, right.length)
    }
}
