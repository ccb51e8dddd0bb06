// What each packet must get, as slow and obvious code: whole arrays, linear searches, every reason
// collected and the first in precedence taken. Shares the names of things with Forwarding, no code.

import Forwarding
import IP
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
    private var reassembly: Reassembly?

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
        reassembly = setting.fragmentTimeout.map { Reassembly(timeout: $0, cells: setting.fragmentCells) }
        routes = setting.routes.map { $0.map { Route(network: Network($0.prefix), entry: $0) } }
    }

    /// Failed datagrams, by cause.
    public var failures: Reassembler.Failures { reassembly?.failures ?? .init() }

    /// - Parameter now: nanoseconds.
    public mutating func answer(_ arrival: Arrival, now: UInt64 = 0) -> Answer {
        let frame = Self.untagged(arrival)
        let (answer, fragment) = answerAlone(frame)
        guard let fragment, !fragment.isDamaged, frame.cut == 0 else { return answer }
        guard answer.kind == .hold else {
            // What is not kept takes its datagram along; a tunnel's own also one that is to come. Of
            // IPv6 it need not be a tunnel's: the key does not hold the protocol.
            if fragment.isMatched || frame.etherType == 0x86dd {
                reassembly?.refuse(
                    fragment.key, opens: fragment.isMatched && !fragment.payload.isEmpty, now: now)
            }
            return answer
        }
        var outcome = reassembly!.insert(fragment, now: now)
        if case .held = outcome { outcome = reassembly!.complete(fragment.key) }
        switch outcome {
        case .held: return answer
        case .refused(let reason):
            return Answer(refusal: reason, tunnel: answer.tunnel, mode: answer.mode)
        case .whole(let bytes):
            var whole = frame
            whole.bytes = bytes
            whole.cut = 0
            return answerAlone(whole).answer
        }
    }

    /// Goes on with the fragments that another model holds: a worker keeps them when its policy changes.
    public mutating func takeOver(_ other: Model) { reassembly = other.reassembly }

    /// Gives up what has waited too long; without a time all of it.
    public mutating func expire(now: UInt64 = .max) { reassembly?.expire(now: now) }

    /// O3: a tag of VLAN 0 says nothing but a priority. At most eight are looked behind.
    private static func untagged(_ arrival: Arrival) -> Arrival {
        var frame = arrival
        for _ in 0..<8 where [0x8100, 0x88a8].contains(frame.etherType) && frame.bytes.count >= 4 {
            let tag = frame.bytes[..<4]
            guard tag[0] & 15 == 0, tag[1] == 0 else { return arrival }
            frame.etherType = UInt16(tag[2]) << 8 | UInt16(tag[3])
            frame.bytes.removeFirst(4)
            frame.linkLength += 4
        }
        return frame
    }

    private func answerAlone(_ frame: Arrival) -> (answer: Answer, fragment: OuterFragment?) {
        // O3: other hosts' frames, VLANs and protocols are the kernel's.
        guard frame.isForUs else { return (.pass, nil) }
        switch frame.etherType {
        case 0x0800: return answer4(frame)
        case 0x86dd: return answer6(frame)
        default: return (.pass, nil)
        }
    }

    private func answer4(_ frame: Arrival) -> (Answer, OuterFragment?) {
        let bytes = frame.bytes
        guard bytes.count >= 20 else {
            if bytes.count > 9 && !Upper.isTunnel(bytes[9]) { return (.pass, nil) }
            return (Answer(refusal: .packetTooSmall), nil)
        }
        guard Upper.isTunnel(bytes[9]) else { return (.pass, nil) }
        let mode: Mode = bytes[9] == 4 ? .ipip : .ip6ip
        var outer = OuterHeader.ipv4(bytes)
        guard
            let match = match(
                frame.interface, [mode], from: Array(bytes[12..<16]), to: Array(bytes[16..<20]))
        else { return (.pass, outer.fragment) }
        outer.fragment?.isMatched = match.reason == nil
        return (answer(frame, outer, mode, match), outer.fragment)
    }

    private func answer6(_ frame: Arrival) -> (Answer, OuterFragment?) {
        let bytes = frame.bytes
        guard bytes.count >= 40 else {
            if bytes.count > 6 && !Upper.isTunnel(bytes[6]) && !Upper.isExtension(bytes[6]) {
                return (.pass, nil)
            }
            return (Answer(refusal: .packetTooSmall), nil)
        }
        if !Upper.isTunnel(bytes[6]) && !Upper.isExtension(bytes[6]) {
            return (answerNative(frame), nil)
        }
        var outer = OuterHeader.ipv6(bytes)
        // A chain that breaks off may lead to a tunnel, as may one that a later fragment is from.
        let isLater = outer.fragment.map { $0.offset > 0 } ?? false
        let isOpen = isLater && Upper.isExtension(outer.protocolNumber)
        guard outer.isUnfinished || isOpen || Upper.isTunnel(outer.protocolNumber) else {
            return (.pass, outer.fragment)
        }
        let mode: Mode = outer.protocolNumber == 41 ? .ip6ip6 : .ipip6
        guard
            let match = match(
                frame.interface, isOpen ? [.ipip6, .ip6ip6] : [mode], from: Array(bytes[8..<24]),
                to: Array(bytes[24..<40]))
        else { return (.pass, outer.fragment) }
        outer.fragment?.isMatched = match.reason == nil
        let answer = answer(frame, outer, mode, match)
        // Of what may be another protocol's only what is told apart as a fragment is ours.
        let isTold =
            match.reason == nil && reassembly != nil && frame.cut == 0
            && outer.fragment?.isDamaged == false
        return (isOpen && !isTold ? .pass : answer, outer.fragment)
    }

    /// O4, O12. nil: not ours.
    /// - Parameter modes: those that the packet may be of.
    private func match(
        _ interface: Int, _ modes: [Mode], from source: [UInt8], to local: [UInt8]
    ) -> (tunnel: Int, reason: DropReason?)? {
        let candidates = tunnels.indices.filter {
            tunnels[$0].interfaces.contains(interface) && tunnels[$0].local.hold(local)
        }
        guard let first = candidates.first else { return nil }
        // Nobody else has a tunnel's own address.
        let isOwn = tunnels.contains { $0.local.contains { $0.isHost && $0.bytes == source } }
        let allowing = isOwn ? [] : candidates.filter { tunnels[$0].remotes.hold(source) }
        if source != local && !Self.isNobodys(source) {
            if let tunnel = allowing.first(where: { !tunnels[$0].modes.isDisjoint(with: modes) }) {
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

    /// The tunnel that takes frames with this outer header, were they otherwise right.
    public func matchedTunnel(_ arrival: Arrival) -> Int? {
        let frame = Self.untagged(arrival)
        let bytes = frame.bytes
        let isIPv4 = frame.etherType == 0x0800
        guard frame.isForUs, isIPv4 || frame.etherType == 0x86dd, bytes.count >= (isIPv4 ? 20 : 40)
        else { return nil }
        let number = bytes[isIPv4 ? 9 : 6]
        guard Upper.isTunnel(number) else { return nil }
        let mode: Mode = isIPv4 ? number == 4 ? .ipip : .ip6ip : number == 4 ? .ipip6 : .ip6ip6
        let match =
            isIPv4
            ? match(frame.interface, [mode], from: Array(bytes[12..<16]), to: Array(bytes[16..<20]))
            : match(frame.interface, [mode], from: Array(bytes[8..<24]), to: Array(bytes[24..<40]))
        return match.flatMap { $0.reason == nil ? $0.tunnel : nil }
    }

    /// O13: no frame comes from there.
    private static func isNobodys(_ source: [UInt8]) -> Bool {
        if source.count == 4 {
            return [0, 127].contains(source[0]) || (224...239).contains(source[0])
                || source == [255, 255, 255, 255]
        }
        let mapped = [UInt8](repeating: 0, count: 10) + [255, 255]
        return source[0] == 255 || source.starts(with: mapped)
            || source == [UInt8](repeating: 0, count: 15) + [1]
    }

    private func answer(
        _ frame: Arrival, _ outer: OuterHeader, _ mode: Mode,
        _ match: (tunnel: Int, reason: DropReason?)
    ) -> Answer {
        var reasons = outer.reasons
        if frame.cut > 0 { reasons.append(.packetTooSmall) }
        var inner: InnerPacket?
        if outer.isWhole && outer.fragment != nil {
            if reassembly == nil { reasons.append(.fragmentsDisabled) }
            // A checksum or a length of what is not all there.
            if frame.vnet.flags & 1 != 0 || frame.vnet.gsoType != 0 { reasons.append(.gsoInvalid) }
        } else if outer.isWhole {
            let content = Array(frame.bytes[outer.payload])
            inner = mode == .ipip || mode == .ipip6 ? .ipv4(content) : .ipv6(content)
            reasons += inner!.reasons
        }
        if let reason = match.reason { reasons.append(reason) }
        if let fragment = outer.fragment, fragment.payload.isEmpty {
            reasons.append(.packetTooSmall)
        }
        guard reasons.isEmpty else {
            return Answer(refusal: Self.first(reasons), tunnel: match.tunnel, mode: mode)
        }
        guard let inner else {
            var answer = Answer(kind: .hold)
            answer.tunnel = match.tunnel
            answer.mode = mode
            return answer
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
        let rule = rewriteRule(inner, frame.interface)
        if rule == nil { reasons += reasonsOfSource(inner, frame.interface) }
        if isUnroutableDestination(inner.destination) { reasons.append(.invalidDestination) }
        let destination = self.destination(of: inner, tunnels[tunnel])
        if destination == nil { reasons.append(.destinationNotAllowed) }
        let tooBig = destination.flatMap { self.tooBig(frame, inner, mode, $0) }
        if tooBig != nil { reasons.append(.packetTooBig) }
        let vnet = Offloading.rebased(frame, stripped: outer.payload.lowerBound, inner)
        if vnet == nil { reasons.append(.gsoInvalid) }
        guard reasons.isEmpty, let ecn, let destination, let vnet else {
            var answer = Answer(
                refusal: Self.first(reasons), tunnel: tunnel, mode: mode, ecnCell: cell)
            if answer.reason == .packetTooBig, case .answered(let message) = tooBig {
                answer.kind = .reply
                answer.device = destination?.device
                answer.destination = destination?.ordinal
                answer.bytes = message
            }
            return answer
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
        if let rule { Probes.rewrite(&answer, inner, rule) }
        return answer
    }

    static func first(_ reasons: [DropReason]) -> DropReason {
        precedence.first { reasons.contains($0) }!
    }
}
