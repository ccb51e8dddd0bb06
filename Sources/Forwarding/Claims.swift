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
