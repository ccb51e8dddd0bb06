// Which frames of an interface are ours by a policy, as tables of prefixes: what the claim program in the
// kernel looks up. Says the same as the judge's `pass` or not-`pass`, without looking at the inner packet.

import IP
import Routing

/// Frames of protocol 4 or 41, and native ones, that are ours on one interface. No bound on the tables but
/// the kernel's memory.
public struct Claims: Sendable, Equatable, Codable {
    public struct Local: Sendable, Equatable, Codable {
        public var prefix: Prefix
        /// Index into `remotes`: only from these, and never from an endpoint, because an overlay
        /// shares the address. nil: from anyone.
        public var remotes: Int?

        public init(prefix: Prefix, remotes: Int? = nil) { (self.prefix, self.remotes) = (prefix, remotes) }
    }

    /// Native IPv6 frames that the judge injects: TCP, UDP or ICMPv6 of these sources, without
    /// extension headers, to where a tunnel's destinations allow.
    public struct Native: Sendable, Equatable, Codable {
        public enum Ports: Sendable, Hashable, Codable {
            case never
            case any
            /// Index into `portSets`.
            case set(Int)
        }
        public struct Target: Sendable, Equatable, Codable {
            /// IPv6, also where its addresses are mapped ones.
            public var prefix: Prefix
            public var protocolNumber: UInt8
            public var ports: Ports

            public init(prefix: Prefix, protocolNumber: UInt8, ports: Ports) {
                (self.prefix, self.protocolNumber, self.ports) = (prefix, protocolNumber, ports)
            }
        }
        /// All different.
        public var sources: [Address]
        /// Of those with the packet's protocol the longest prefix decides.
        public var targets: [Target] = []
        /// Ranges in rising order that do not touch each other.
        public var portSets: [[ClosedRange<UInt16>]] = []

        public init(sources: [Address]) { self.sources = sources }
    }

    /// The longest prefix that holds a frame's destination decides; without one the frame is the
    /// kernel's.
    public var locals: [Local] = []
    public var remotes: [[Prefix]] = []
    /// The tunnels' own addresses, all different: never claimed where a set of `remotes` counts.
    public var endpoints: [Address] = []
    /// nil where no rule rewrites sources or no destination is in reach.
    public var native: Native?

    public init() {}
}

extension Policy {
    /// The claims of one interface (index into `interfaces`).
    public func claims(interface: Int) -> Claims {
        var claims = Claims()
        claims.native = nativeClaims(interface: interface)
        var pairs: [(prefix: Prefix, item: Int)] = []
        for (index, tunnel) in tunnels.enumerated() where tunnel.interfaces.contains(interface) {
            pairs += tunnel.local.map { ($0, index) }
        }
        var sets: [[Int]: Int] = [:]
        for (prefix, indices) in coveringItems(pairs) {
            guard tunnels[indices[0]].passOtherRemotes else {
                claims.locals.append(Claims.Local(prefix: prefix))
                continue
            }
            let set = sets[indices] ?? claims.remotes.count
            if set == claims.remotes.count {
                sets[indices] = set
                claims.remotes.append(Set(indices.flatMap { tunnels[$0].remotes }).sorted())
            }
            claims.locals.append(Claims.Local(prefix: prefix, remotes: set))
        }
        if !claims.remotes.isEmpty {
            claims.endpoints = Set(tunnels.flatMap(\.local).filter(\.isHost)).sorted().map(\.address)
        }
        return claims
    }

    private func nativeClaims(interface: Int) -> Claims.Native? {
        let sources = Set(rewrites.filter { $0.interface == interface }.map(\.from))
        let reachable = tunnels.filter { $0.interfaces.contains(interface) }.flatMap {
            $0.destinations.isEmpty ? [Destination(prefix: .allIPv6)] : $0.destinations
        }.filter { !$0.prefix.isIPv4 }
        var claims = Claims.Native(
            sources: sources.map { Prefix(host: $0) }.sorted().map(\.address))
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
                + SpecialPrefix.unroutableIPv6.map { (prefix: $0, item: never) }
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
}
