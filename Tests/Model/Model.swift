// What each packet must get, as slow and obvious code: whole arrays, linear searches, every reason
// collected and the first in precedence taken. Shares the names of things with Forwarding, no code.

import Forwarding
import Routing

public struct Model {
    /// A frame that is wrong in two ways has the reason that stands first.
    static let precedence: [DropReason] = [
        .packetTooSmall, .invalidHeader, .invalidChecksum, .badExtensionHeader, .sourceRoute,
        .fragmentOverlap, .duplicateFragment, .fragmentMemoryLimit, .fragmentsDisabled,
        .remoteNotAllowed, .modeNotAllowed, .tunnelECN, .nestedTunnel, .ttlExpired,
        .invalidSource, .localSource, .reversePath, .invalidDestination, .destinationNotAllowed,
        .packetTooBig, .rateLimit, .deviceFull, .deviceError, .gsoInvalid,
    ]

    struct Tunnel {
        var interfaces: [Int]
        var local: [Network]
        var remotes: [Network]
        var passOtherRemotes: Bool
        var modes: Set<Mode>
        var destinations: [Destination]
    }

    struct Destination {
        var network: Network
        var protocolNumber: UInt8?
        var ports: [ClosedRange<UInt16>]
        var device: Int
        var mss: MSSClamp?
        /// Among all tunnels' destinations; nil when the tunnel has none and takes any.
        var ordinal: Int?
    }

    struct Route {
        var network: Network
        var entry: RouteEntry
    }

    let setting: Setting
    let policy: Policy
    let tunnels: [Tunnel]
    let deny: [Network]
    let exempt: [Network]
    let routes: [Route]?

    public init(_ setting: Setting) {
        self.setting = setting
        policy = setting.policy
        var ordinal = 0
        var tunnels: [Tunnel] = []
        for tunnel in policy.tunnels {
            var destinations: [Destination] = []
            for destination in tunnel.destinations {
                destinations.append(
                    Destination(
                        network: Network(destination.prefix),
                        protocolNumber: destination.protocolNumber, ports: destination.ports,
                        device: destination.device, mss: destination.mss, ordinal: ordinal))
                ordinal += 1
            }
            if destinations.isEmpty {
                destinations = [Prefix.allIPv4, Prefix.allIPv6].map {
                    Destination(network: Network($0), ports: [], device: 0)
                }
            }
            tunnels.append(
                Tunnel(
                    interfaces: tunnel.interfaces, local: tunnel.local.map(Network.init),
                    remotes: tunnel.remotes.map(Network.init),
                    passOtherRemotes: tunnel.passOtherRemotes, modes: tunnel.modes,
                    destinations: destinations))
        }
        self.tunnels = tunnels
        deny = policy.denySources.map(Network.init)
        exempt = policy.exemptSources.map(Network.init)
        routes = setting.routes.map { $0.map { Route(network: Network($0.prefix), entry: $0) } }
    }

    public func answer(_ frame: Arrival) -> Answer {
        // O3: other hosts' frames, VLANs and protocols are the kernel's.
        guard frame.isForUs else { return .pass }
        switch frame.etherType {
        case 0x0800: return answer4(frame)
        case 0x86dd: return answer6(frame)
        default: return .pass
        }
    }

    private func answer4(_ frame: Arrival) -> Answer {
        let bytes = frame.bytes
        guard bytes.count >= 20 else {
            if bytes.count > 9 && !Upper.isTunnel(bytes[9]) { return .pass }
            return Answer(refusal: .packetTooSmall)
        }
        guard Upper.isTunnel(bytes[9]) else { return .pass }
        let mode: Mode = bytes[9] == 4 ? .ipip : .ip6ip
        guard
            let match = match(
                frame.interface, mode, from: Array(bytes[12..<16]), to: Array(bytes[16..<20]))
        else { return .pass }
        return answer(frame, .ipv4(bytes), mode, match)
    }

    private func answer6(_ frame: Arrival) -> Answer {
        let bytes = frame.bytes
        guard bytes.count >= 40 else {
            if bytes.count > 6 && !Upper.isTunnel(bytes[6]) && !Upper.isExtension(bytes[6]) {
                return .pass
            }
            return Answer(refusal: .packetTooSmall)
        }
        let outer = OuterHeader.ipv6(bytes)
        // A chain that breaks off may lead to a tunnel.
        guard outer.isUnfinished || Upper.isTunnel(outer.protocolNumber) else { return .pass }
        let mode: Mode = outer.protocolNumber == 41 ? .ip6ip6 : .ipip6
        guard
            let match = match(
                frame.interface, mode, from: Array(bytes[8..<24]), to: Array(bytes[24..<40]))
        else { return .pass }
        return answer(frame, outer, mode, match)
    }

    /// O4, O12. nil: not ours.
    private func match(_ interface: Int, _ mode: Mode, from source: [UInt8], to local: [UInt8])
        -> (tunnel: Int, reason: DropReason?)?
    {
        let candidates = tunnels.indices.filter {
            tunnels[$0].interfaces.contains(interface) && tunnels[$0].local.hold(local)
        }
        guard let first = candidates.first else { return nil }
        // Nobody else has a tunnel's own address.
        let isOwn = tunnels.contains { $0.local.contains { $0.isHost && $0.bytes == source } }
        let allowing = isOwn ? [] : candidates.filter { tunnels[$0].remotes.hold(source) }
        if source != local {
            if let tunnel = allowing.first(where: { tunnels[$0].modes.contains(mode) }) {
                return (tunnel, nil)
            }
            if let tunnel = allowing.first { return (tunnel, .modeNotAllowed) }
        }
        // From anyone else, or from itself. The first tunnel speaks, unless it would let pass
        // what another one's remote sent.
        if !tunnels[first].passOtherRemotes { return (first, .remoteNotAllowed) }
        if let tunnel = allowing.first { return (tunnel, .remoteNotAllowed) }
        return nil
    }

    private func answer(
        _ frame: Arrival, _ outer: OuterHeader, _ mode: Mode,
        _ match: (tunnel: Int, reason: DropReason?)
    ) -> Answer {
        var reasons = outer.reasons
        if frame.cut > 0 { reasons.append(.packetTooSmall) }
        var inner: InnerPacket?
        if outer.isWhole && outer.isFragment {
            reasons.append(.fragmentsDisabled)
        } else if outer.isWhole {
            let content = Array(frame.bytes[outer.payload])
            inner = mode == .ipip || mode == .ipip6 ? .ipv4(content) : .ipv6(content)
            reasons += inner!.reasons
        }
        if let reason = match.reason { reasons.append(reason) }
        guard let inner, reasons.isEmpty else {
            return Answer(refusal: Self.first(reasons), tunnel: match.tunnel, mode: mode)
        }
        return answer(frame, outer, inner, mode, match.tunnel)
    }

    /// What is refused although it is whole.
    private func answer(
        _ frame: Arrival, _ outer: OuterHeader, _ inner: InnerPacket, _ mode: Mode, _ tunnel: Int
    ) -> Answer {
        var reasons: [DropReason] = []
        let cell = (inner.trafficClass & 3) * 4 + outer.trafficClass & 3
        let ecn = Marks.ecn(policy.ecn, inner: inner.trafficClass & 3, outer: outer.trafficClass & 3)
        if ecn == nil { reasons.append(.tunnelECN) }
        if Upper.nested.contains(inner.protocolNumber) { reasons.append(.nestedTunnel) }
        let ttl = policy.ttl == .uniform ? min(inner.ttl, outer.ttl) : inner.ttl
        if ttl == 0 { reasons.append(.ttlExpired) }
        reasons += reasonsOfSource(inner.source, frame.interface)
        if isUnroutableDestination(inner.destination) { reasons.append(.invalidDestination) }
        let destination = self.destination(of: inner, tunnels[tunnel])
        if destination == nil { reasons.append(.destinationNotAllowed) }
        let vnet = Offloading.rebased(frame, stripped: outer.payload.lowerBound, inner)
        if vnet == nil { reasons.append(.gsoInvalid) }
        guard reasons.isEmpty, let ecn, let destination, let vnet else {
            return Answer(
                refusal: Self.first(reasons), tunnel: tunnel, mode: mode, ecnCell: cell)
        }
        var answer = Answer(kind: .inject)
        answer.tunnel = tunnel
        answer.mode = mode
        answer.ecnCell = cell
        answer.device = destination.device
        answer.destination = destination.ordinal
        answer.vnet = vnet
        let dscp = (policy.dscp == .uniform ? outer : nil)?.trafficClass ?? inner.trafficClass
        answer.bytes = Marks.marked(inner, trafficClass: dscp & 0xfc + ecn, ttl: ttl)
        if let limit = segmentLimit(mode, destination, mtu: setting.interfaces[frame.interface].mtu) {
            Segments.clamp(&answer, inner, to: limit)
        }
        return answer
    }

    static func first(_ reasons: [DropReason]) -> DropReason {
        precedence.first { reasons.contains($0) }!
    }
}
