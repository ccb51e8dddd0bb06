// A frame's verdict: tunnel match, structure, policy. Reads the frame, writes only `Frame.head`.
// No allocation, no reference counting, no clock, no I/O; one layer is stripped, never two.

import IP
import Routing

package enum Judge {
    /// Judges `count` frames against one world.
    /// - Parameter cache: the worker's, emptied when the world changed; without one every frame
    ///   takes the long way.
    /// - Parameter reassembler: the worker's; without one outer fragments are refused. The frame
    ///   that completes a datagram is replaced by it, in memory that stays until the next call.
    @inline(never)
    package static func judge(
        _ frames: UnsafeMutablePointer<Frame>, into verdicts: UnsafeMutablePointer<Verdict>,
        count: Int, world: UnsafePointer<WorldView>, cache: OuterCache?,
        reassembler: Reassembler?, times: UnsafePointer<ArrivalTimes>
    ) {
        if let reassembler, !reassembler.isEmpty {
            reassembler.expire(now: times.pointee.of(frames))
        }
        reassembler?.recycle()
        var frame = frames
        var result = verdicts
        let end = frames + count
        guard let cache else {
            while frame < end {
                decide(frame, world, reassembler, times, into: result)
                frame += 1
                result += 1
            }
            return
        }
        cache.beginBatch()
        while frame < end {
            if !FastPath.accepts(frame, world, cache, result) {
                decide(frame, world, cache, reassembler, times, into: result)
            }
            frame += 1
            result += 1
        }
    }

    /// One frame or few, all of them `now`.
    package static func judge(
        _ frames: UnsafeMutablePointer<Frame>, into verdicts: UnsafeMutablePointer<Verdict>,
        count: Int, world: UnsafePointer<WorldView>, cache: OuterCache? = nil,
        reassembler: Reassembler? = nil, now: UInt64 = 0
    ) {
        var times = ArrivalTimes(first: frames, now: now)
        judge(
            frames, into: verdicts, count: count, world: world, cache: cache,
            reassembler: reassembler, times: &times)
    }

    /// Out of line: the loop's registers are for the common packet.
    @inline(never)
    private static func decide(
        _ frame: UnsafeMutablePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ cache: OuterCache, _ reassembler: Reassembler?, _ times: UnsafePointer<ArrivalTimes>,
        into result: UnsafeMutablePointer<Verdict>
    ) {
        decide(frame, world, reassembler, times, into: result)
        guard result.pointee.kind == .inject else { return }
        cache.noteAnyFlow()
        if result.pointee.mode != .native {
            cache.insert(frame, tunnel: result.pointee.tunnel)
        }
    }

    private static func decide(
        _ frame: UnsafeMutablePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ reassembler: Reassembler?, _ times: UnsafePointer<ArrivalTimes>,
        into result: UnsafeMutablePointer<Verdict>
    ) {
        result.initialize(to: verdict(frame, world, keepsFragments: reassembler != nil))
        guard result.pointee.kind == .hold else {
            // The reassembler is not touched, nor its references counted, but for such a frame.
            if frame.pointee.etherType == EtherType.ipv6, result.pointee.kind != .inject,
                mayBeStray(frame), let reassembler
            {
                refuseDatagram(ofStray: frame, world, reassembler, times.pointee.of(frame))
            }
            return
        }
        guard let reassembler else { return }
        let (fragment, now) = (fragment(frame, world), times.pointee.of(frame))
        if result.pointee.reason != .none {
            // As net/ipv4/ip_fragment.c `ip_frag_queue`: an empty one tells of a datagram, but is
            // none of its fragments; any other would have been queued, and met the others.
            reassembler.refuse(fragment.key, opens: fragment.payload.count > 0, now: now)
            result.pointee.kind = .drop
            return
        }
        switch reassembler.insert(fragment, now: now) {
        case .held: break
        case .refused(let reason):
            result.pointee.kind = .drop
            result.pointee.reason = reason
        case .whole(let datagram, let length):
            frame.pointee.network = datagram
            frame.pointee.length = length
            frame.pointee.wireLength = length
            result.initialize(to: verdict(frame, world, keepsFragments: true))
        }
    }

    /// An IPv6 packet with extension headers, one of which may be a fragment header.
    @inline(__always)
    private static func mayBeStray(_ frame: UnsafePointer<Frame>) -> Bool {
        frame.pointee.length >= 40 && frame.pointee.isForUs
            && ExtensionHeader.isWalked(
                Bytes(frame.pointee.network, count: frame.pointee.length).ipv6.nextHeader)
    }

    /// An IPv6 fragment that is not a tunnel's, and yet shares the key of a datagram that is, since
    /// the protocol is not part of it (RFC 8200 §4.5): for the kernel they are one, so what it
    /// overlaps would not be delivered.
    @inline(never)
    private static func refuseDatagram(
        ofStray frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ reassembler: Reassembler, _ now: UInt64
    ) {
        guard !reassembler.isEmpty, frame.pointee.length == frame.pointee.wireLength else { return }
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        let outer = Outer.parseIPv6(packet)
        guard outer.isFragment, !outer.isDamaged else { return }
        reassembler.refuse(
            key(packet, outer, isIPv4: false, frame, world), opens: false, now: now)
    }

    /// Describes a frame that was judged `hold`.
    private static func fragment(
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>
    ) -> Fragment {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        let isIPv4 = frame.pointee.etherType == EtherType.ipv4
        let outer: Outer = isIPv4 ? .parseIPv4(packet) : .parseIPv6(packet)
        let total = isIPv4 ? Int(packet.ipv4.totalLength) : packet.ipv6.totalLength
        let header =
            outer.isLaterFragment
            ? 0
            : isIPv4 ? outer.fragmentPayload : outer.fragmentPayload &- FragmentHeader.byteCount
        return Fragment(
            key: key(packet, outer, isIPv4: isIPv4, frame, world), offset: outer.fragmentOffset,
            payload: packet.dropFirst(
                outer.fragmentPayload, count: total &- outer.fragmentPayload),
            moreFragments: outer.moreFragments, ecn: outer.trafficClass & 3,
            header: packet.dropFirst(0, count: header), nextHeaderAt: outer.fragmentNamedAt,
            nextHeader: isIPv4
                ? 0
                : packet.fragmentHeader(at: outer.fragmentPayload &- FragmentHeader.byteCount).nextHeader)
    }

    private static func key(
        _ packet: Bytes, _ outer: Outer, isIPv4: Bool, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> DatagramKey {
        let vrf = world.pointee.interfaces[Int(frame.pointee.interface)].vrf
        return isIPv4
            ? DatagramKey(
                source: Address(ipv4: packet.ipv4.source),
                destination: Address(ipv4: packet.ipv4.destination),
                identification: outer.identification, vrf: vrf,
                protocolNumber: UInt16(outer.protocolNumber))
            : DatagramKey(
                source: packet.ipv6.source, destination: packet.ipv6.destination,
                identification: outer.identification, vrf: vrf, protocolNumber: DatagramKey.ipv6)
    }

    @inline(__always)
    private static func verdict(
        _ frame: UnsafeMutablePointer<Frame>, _ world: UnsafePointer<WorldView>,
        keepsFragments: Bool
    ) -> Verdict {
        guard frame.pointee.isForUs else { return .pass }
        if frame.pointee.etherType == EtherType.ipv4 { return verdictIPv4(frame, world, keepsFragments) }
        if frame.pointee.etherType == EtherType.ipv6 { return verdictIPv6(frame, world, keepsFragments) }
        return verdictTagged(frame, world, keepsFragments)
    }

    /// Of frames that are neither IPv4 nor IPv6 at once. Apart from `verdict`, which would save
    /// registers for it with each frame.
    @inline(never)
    private static func verdictTagged(
        _ frame: UnsafeMutablePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ keepsFragments: Bool
    ) -> Verdict {
        guard frame.pointee.dropPriorityTags() else { return .pass }
        switch frame.pointee.etherType {
        case EtherType.ipv4: return verdictIPv4(frame, world, keepsFragments)
        case EtherType.ipv6: return verdictIPv6(frame, world, keepsFragments)
        default: return .pass
        }
    }

    private static func verdictIPv4(
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>, _ keepsFragments: Bool
    ) -> Verdict {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        guard packet.count >= IPv4Header.byteCount else {
            return verdictOfShort(packet, protocolAt: IPv4Header.Offset.protocolNumber)
        }
        let number = packet.ipv4.protocolNumber
        guard ProtocolNumber.isTunnel(number) else { return .pass }
        let (source, destination) = (packet.ipv4.source, packet.ipv4.destination)
        let mode: Mode = number == ProtocolNumber.ipv4 ? .ipip : .ip6ip
        let match = TunnelMatch.find(
            world, list: world.pointee.policy.locals.lookup(ipv4: destination),
            interface: frame.pointee.interface, modes: 1 &<< mode.rawValue,
            isImpossible: source == destination || NobodysAddress.holds(ipv4: source),
            isEndpoint: world.pointee.policy.sources.lookup(ipv4: source)
                & SourceClass.endpoint != 0
        ) { $0.lookup(ipv4: source) != 0 }
        guard match.isOurs else { return .pass }
        return finish(frame, world, packet, .parseIPv4(packet), match, mode, keepsFragments)
    }

    private static func verdictIPv6(
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>, _ keepsFragments: Bool
    ) -> Verdict {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        guard packet.count >= IPv6Header.byteCount else {
            return verdictOfShort(packet, protocolAt: IPv6Header.Offset.nextHeader)
        }
        let next = packet.ipv6.nextHeader
        guard ProtocolNumber.isTunnel(next) || ExtensionHeader.isWalked(next) else {
            return world.pointee.policy.rewriteCount == 0
                ? .pass : NativeProbe.verdict(frame, world, packet)
        }
        let (source, destination) = (packet.ipv6.source, packet.ipv6.destination)
        let list = world.pointee.policy.locals.lookup(ipv6: destination)
        guard list != 0 else { return .pass }
        let outer = Outer.parseIPv6(packet)
        // Headers may stand between the fragment header and the tunnel's protocol, as Linux's
        // own encapsulation limit does: only the first fragment shows what they lead to.
        let mayBeTunnel =
            outer.isLaterFragment
            && ExtensionHeader.isWalked(outer.protocolNumber)
        guard
            outer.isUnfinished || mayBeTunnel
                || ProtocolNumber.isTunnel(outer.protocolNumber)
        else { return .pass }
        let mode: Mode = outer.protocolNumber == ProtocolNumber.ipv6 ? .ip6ip6 : .ipip6
        let match = TunnelMatch.find(
            world, list: list, interface: frame.pointee.interface,
            modes: mayBeTunnel ? Mode.overIPv6 : 1 &<< mode.rawValue,
            isImpossible: source == destination || NobodysAddress.holds(ipv6: source),
            isEndpoint: world.pointee.policy.sources.lookup(ipv6: source)
                & SourceClass.endpoint != 0
        ) { $0.lookup(ipv6: source) != 0 }
        guard match.isOurs else { return .pass }
        let verdict = finish(frame, world, packet, outer, match, mode, keepsFragments)
        return mayBeTunnel && verdict.kind != .hold ? .pass : verdict
    }

    /// Too short for a network header. What is certainly not a tunnel's is not ours to refuse.
    private static func verdictOfShort(_ packet: Bytes, protocolAt offset: Int) -> Verdict {
        if packet.count > offset {
            let number = packet.u8(offset)
            let mayBeTunnel =
                ProtocolNumber.isTunnel(number)
                || (offset == IPv6Header.Offset.nextHeader && ExtensionHeader.isWalked(number))
            if !mayBeTunnel { return .pass }
        }
        return Verdict(kind: .drop, reason: .packetTooSmall)
    }

    @inline(__always)
    private static func finish(
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>, _ packet: Bytes,
        _ header: Outer, _ match: TunnelMatch, _ mode: Mode, _ keepsFragments: Bool
    ) -> Verdict {
        var outer = header
        var inner = Inner()
        if frame.pointee.length < frame.pointee.wireLength { outer.note(.packetTooSmall) }
        if outer.isReadable {
            if outer.isFragment {
                if !keepsFragments { outer.note(.fragmentsDisabled) }
                // Its checksum would cover what is not there.
                if frame.pointee.vnet.flags & VirtioHeader.needsChecksum != 0
                    || frame.pointee.vnet.gsoType != VirtioHeader.gsoNone
                {
                    outer.note(.gsoInvalid)
                }
            } else {
                let bytes = packet.dropFirst(outer.innerOffset, count: outer.innerLength)
                inner = mode.innerIsIPv4 ? .parseIPv4(bytes) : .parseIPv6(bytes)
                if inner.failure != .none { outer.note(inner.failure) }
            }
        }
        if match.reason != .none { outer.note(match.reason) }
        if outer.isEmptyFragment { outer.note(.packetTooSmall) }
        var verdict = Verdict(kind: .inject, mode: mode, tunnel: match.tunnel)
        if outer.isFragment, keepsFragments, match.reason == .none, !outer.isDamaged,
            frame.pointee.length == frame.pointee.wireLength
        {
            // With a reason: it is dropped, and its datagram with it.
            verdict.kind = .hold
            verdict.reason = outer.failure
            return verdict
        }
        if outer.failure == .none {
            outer.failure = decide(&verdict, frame, world, packet, outer, inner)
        }
        if outer.failure != .none {
            if verdict.kind != .reply { verdict.kind = .drop }
            verdict.reason = outer.failure
        }
        return verdict
    }

    /// Everything behind a whole header: marks, addresses, reverse path, destination, rewriting.
    @inline(__always)
    private static func decide(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ packet: Bytes, _ outer: Outer, _ inner: Inner
    ) -> DropReason {
        let policy = world.pointee.policy
        verdict.ecnCell = (inner.trafficClass & 3) << 2 | outer.trafficClass & 3
        if policy.ecn == .standard && verdict.ecnCell == ECN.notCapableCongested {
            return .tunnelECN
        }
        if ProtocolNumber.isNest(inner.protocolNumber) { return .nestedTunnel }
        let ttl = policy.ttl == .uniform ? min(inner.ttl, outer.ttl) : inner.ttl
        if ttl == 0 { return .ttlExpired }
        let bytes = packet.dropFirst(outer.innerOffset, count: inner.length)
        var rewrite: (rule: UnsafePointer<SourceRewriteRecord>, checksum: Int)?
        if verdict.mode.innerIsIPv4 {
            let refusal = SourceCheck.checkIPv4(bytes, inner, frame, world)
            if refusal != .none { return refusal }
        } else {
            let source = bytes.ipv6.source
            let flags = policy.sources.lookup(ipv6: source)
            if flags & SourceClass.rewritten != 0 {
                rewrite = SourceRewrite.find(
                    source, bytes, inner, frame.pointee.interface, policy)
            }
            let refusal =
                rewrite != nil
                ? .none : SourceCheck.checkIPv6(bytes, inner, flags, frame, world)
            if refusal != .none { return refusal }
        }
        let found = DestinationCheck.find(
            bytes, inner, verdict.mode, world, policy.tunnels[Int(verdict.tunnel)])
        guard let rule = found.rule else { return found.refusal }
        verdict.device = rule.pointee.device
        verdict.destination = rule.pointee.index
        verdict.offset = UInt32(truncatingIfNeeded: outer.innerOffset)
        verdict.length = UInt32(truncatingIfNeeded: inner.length)
        let mtu = Int(rule.pointee.mtu)
        if inner.length > mtu, TooBig.size(bytes, inner, frame) > mtu {
            // An error to a link-local source would need its link, which those sockets have not.
            if rewrite == nil, TooBig.isAnswered(bytes, inner, verdict.mode, frame, mtu: mtu) {
                verdict.kind = .reply
            }
            return .packetTooBig
        }
        let offload = Offload.rebase(
            &verdict.vnet, frame, bytes, strip: frame.pointee.linkLength &+ outer.innerOffset,
            inner, verdict.mode)
        if offload != .none { return offload }
        Rewrite.apply(
            &verdict, frame, world, bytes, inner, rule, rewrite,
            trafficClass: trafficClass(policy, inner: inner, outer: outer), ttl: ttl)
        return .none
    }

    @inline(__always)
    private static func trafficClass(
        _ policy: PolicyView, inner: Inner, outer: Outer
    ) -> UInt8 {
        let dscp = (policy.dscp == .uniform ? outer : nil)?.trafficClass ?? inner.trafficClass
        return dscp & 0xfc
            | ECN.decapsulated(
                policy.ecn, inner: inner.trafficClass & 3,
                outer: outer.trafficClass & 3)
    }
}

/// RFC 6040 §4.2, figure 4. Codepoints: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
enum ECN {
    /// Cell inner Not-ECT, outer CE: the sender could not learn of the congestion.
    static let notCapableCongested: UInt8 = 0b0011

    @inline(__always)
    static func decapsulated(_ mode: ECNMode, inner: UInt8, outer: UInt8) -> UInt8 {
        switch mode {
        case .pipe: return inner
        case .copy: return outer
        case .standard:
            // Only an ECN-capable inner packet takes a mark over: CE, or ECT(1) onto ECT(0).
            if inner == 0 { return 0 }
            if outer == 3 { return 3 }
            return inner == 2 && outer == 1 ? 1 : inner
        }
    }
}

/// Outer sources that are refused though a list of remotes holds them, as 0.0.0.0/0 does: those
/// of net/ipv4/route.c `ip_route_input_slow` and net/ipv6/ip6_input.c `ip6_rcv_core`.
enum NobodysAddress {
    /// 0/8, 127/8, multicast and the limited broadcast.
    @inline(__always)
    static func holds(ipv4 address: UInt32) -> Bool {
        let first = address >> 24
        return first == 0 || first == 127 || first >> 4 == 14 || address == .max
    }

    /// ::1, multicast and IPv4-mapped addresses.
    @inline(__always)
    static func holds(ipv6 address: Address) -> Bool {
        address.high >> 56 == 0xff || address.isIPv4 || (address.high == 0 && address.low == 1)
    }
}

/// Which tunnel a frame belongs to: interface, family, protocol, local and remote, all of them.
struct TunnelMatch {
    var isOurs = false
    var reason = DropReason.none
    var tunnel = Verdict.noIndex

    /// - Parameter modes: bit n: the mode of raw value n; more than one where it is not yet known.
    /// - Parameter isImpossible: the frame's source is its destination, or nobody's. Refused where
    ///   it is a remote, and not left to the kernel: what a remote sends is ours, as `Claim` has it.
    /// - Parameter isEndpoint: the source is a tunnel's own host address, so nobody's remote.
    @inline(__always)
    static func find(
        _ world: UnsafePointer<WorldView>, list: UInt32, interface: UInt16, modes: UInt8,
        isImpossible: Bool, isEndpoint: Bool, contains: (PrefixTable.View) -> Bool
    ) -> TunnelMatch {
        var match = TunnelMatch()
        if list == 0 { return match }
        let candidates = world.pointee.policy.candidates + Int(list)
        let count = Int(candidates[0])
        var index = 1
        while index <= count {
            let tunnel = candidates[index]
            index &+= 1
            let record = world.pointee.policy.tunnels + Int(tunnel)
            guard record.pointee.takes(interface: interface) else { continue }
            let isRemote = !isEndpoint && contains(record.pointee.remotes)
            if isRemote && !isImpossible {
                if record.pointee.modes & modes != 0 {
                    return TunnelMatch(isOurs: true, reason: .none, tunnel: tunnel)
                }
                if match.reason != .modeNotAllowed {
                    match = TunnelMatch(isOurs: true, reason: .modeNotAllowed, tunnel: tunnel)
                }
            } else if match.tunnel == Verdict.noIndex || (isRemote && !match.isOurs) {
                // The first tunnel of this address speaks for everyone else's frames.
                match = TunnelMatch(
                    isOurs: isRemote || !record.pointee.passOtherRemotes,
                    reason: .remoteNotAllowed, tunnel: tunnel)
            }
        }
        return match
    }
}
