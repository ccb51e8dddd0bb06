// Which frames of an interface are ours by a policy: what a filter in the kernel is built from.
// Says the same as the judge's `pass` or not-`pass`, without looking at the inner packet.

import IP
import Routing

extension Policy {
    /// The claims of one interface (index into `interfaces`).
    public func claims(interface: Int) -> Claims {
        var claims = Claims()
        claims.native = nativeClaims(interface: interface)
        var pairs: [(prefix: Prefix, item: Int)] = []
        for (index, tunnel) in tunnels.enumerated() where tunnel.interfaces.contains(interface) {
            for prefix in Set(tunnel.local) { pairs.append((prefix, index)) }
        }
        var sets: [[Int]: Int] = [:]
        for (prefix, indices) in coveringItems(pairs) {
            guard tunnels[indices[0]].passOtherRemotes else {
                claims.locals.append(Claims.Local(prefix: prefix))
                continue
            }
            let unique = Set(indices).sorted()
            let set = sets[unique] ?? claims.remotes.count
            if set == claims.remotes.count {
                sets[unique] = set
                claims.remotes.append(
                    Set(unique.flatMap { tunnels[$0].remotes }).sorted(by: Self.order))
            }
            claims.locals.append(Claims.Local(prefix: prefix, remotes: set))
        }
        if !claims.remotes.isEmpty {
            claims.endpoints = Set(tunnels.flatMap(\.local).filter(\.isHost))
                .sorted(by: Self.order).map(\.address)
        }
        return claims
    }

    private func nativeClaims(interface: Int) -> Claims.Native? {
        let sources = Set(rewrites.filter { $0.interface == interface }.map(\.from))
        let reachable = tunnels.filter { $0.interfaces.contains(interface) }.flatMap {
            $0.destinations.isEmpty ? [Destination(prefix: .allIPv6)] : $0.destinations
        }.filter { !$0.prefix.isIPv4 }
        var claims = Claims.Native(
            sources: sources.map { Prefix(host: $0) }.sorted(by: Self.order).map(\.address))
        var sets: [[ClosedRange<UInt16>]: Int] = [:]
        for number in NativeProbe.protocols {
            // As the judge has it: any protocol means any port, and ICMPv6 has none.
            let allowed = reachable.filter {
                $0.protocolNumber == nil
                    || ($0.protocolNumber == number
                        && (number != ProtocolNumber.icmpv6 || $0.ports.isEmpty))
            }
            if allowed.isEmpty { continue }
            let never = allowed.count
            let pairs =
                allowed.enumerated().map { (prefix: $1.prefix, item: $0) }
                + Martians.unroutable.map { (prefix: $0, item: never) }
            for (prefix, items) in coveringItems(pairs) {
                var ports = Claims.Native.Ports.never
                if !items.contains(never) {
                    let joined = Self.joined(
                        items.map { allowed[$0].protocolNumber == nil ? [] : allowed[$0].ports })
                    ports =
                        joined.map { ranges in
                            let set = sets[ranges] ?? sets.count
                            if sets.updateValue(set, forKey: ranges) == nil {
                                claims.portSets.append(ranges)
                            }
                            return .set(set)
                        } ?? .any
                }
                claims.targets.append(
                    Claims.Native.Target(prefix: prefix, protocolNumber: number, ports: ports))
            }
        }
        return claims.sources.isEmpty || claims.targets.isEmpty ? nil : claims
    }

    /// All ranges of several lists; nil when one of the lists is empty, which means any port.
    private static func joined(
        _ lists: [[ClosedRange<UInt16>]]
    ) -> [ClosedRange<UInt16>]? {
        if lists.contains(where: \.isEmpty) { return nil }
        var result: [ClosedRange<UInt16>] = []
        for range in lists.joined().sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, Int(range.lowerBound) <= Int(last.upperBound) + 1 {
                result[result.count - 1] =
                    last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    private static func order(_ left: Prefix, _ right: Prefix) -> Bool {
        (left.address.high, left.address.low, left.length)
            < (right.address.high, right.address.low, right.length)
    }
}
