// A frame's verdict: tunnel match, structure, policy. Reads the frame, writes only `Frame.head`.
// No allocation, no reference counting, no clock, no I/O; one layer is stripped, never two.

import IP

package enum Judge {
    /// Judges `count` frames against one generation of tables.
    /// - Parameter cache: the worker's, emptied when the tables change.
    /// - Parameter reassembler: the worker's; without one outer fragments are refused. The frame
    ///   that completes a datagram is replaced by it, in memory that stays until the next call.
    @inline(never)
    package static func judge(
        _ frames: UnsafeMutablePointer<Frame>, into verdicts: UnsafeMutablePointer<Verdict>,
        count: Int, tables: UnsafePointer<ForwardingView>, cache: OuterCache, reassembler: Reassembler?,
        times: UnsafePointer<ArrivalTimes>
    ) {
        if let reassembler, !reassembler.isEmpty {
            reassembler.expire(now: times.pointee.of(frames))
        }
        reassembler?.recycle()
        var frame = frames
        var result = verdicts
        let end = frames + count
        cache.beginBatch(tables.pointee.policy)
        while frame < end {
            if !FastPath.accepts(frame, tables, cache, result) {
                decide(frame, tables, cache, reassembler, times, into: result)
            }
            frame += 1
            result += 1
        }
    }

    /// Out of line: the loop's registers are for the common packet.
    @inline(never)
    private static func decide(
        _ frame: UnsafeMutablePointer<Frame>, _ tables: UnsafePointer<ForwardingView>,
        _ cache: OuterCache, _ reassembler: Reassembler?, _ times: UnsafePointer<ArrivalTimes>,
        into result: UnsafeMutablePointer<Verdict>
    ) {
        decide(frame, tables, reassembler, times, into: result)
        guard result.pointee.kind == .inject else { return }
        cache.noteAnyFlow()
        if result.pointee.mode != .native {
            cache.insert(frame, tunnel: result.pointee.tunnel)
        }
    }

    package static func decide(
        _ frame: UnsafeMutablePointer<Frame>, _ tables: UnsafePointer<ForwardingView>,
        _ reassembler: Reassembler?, _ times: UnsafePointer<ArrivalTimes>,
        into result: UnsafeMutablePointer<Verdict>
    ) {
        result.initialize(to: verdict(frame, tables, keepsFragments: reassembler != nil))
        guard result.pointee.kind == .hold else {
            // The reassembler is not touched, nor its references counted, but for such a frame.
            if frame.pointee.etherType == EtherType.ipv6, result.pointee.kind != .inject,
                mayBeStray(frame), let reassembler
            {
                refuseDatagram(ofStray: frame, tables, reassembler, times.pointee.of(frame))
            }
            return
        }
        guard let reassembler else { return }
        let (fragment, now) = (fragment(frame, tables), times.pointee.of(frame))
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
            result.initialize(to: verdict(frame, tables, keepsFragments: true))
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
        ofStray frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>,
        _ reassembler: Reassembler, _ now: UInt64
    ) {
        guard !reassembler.isEmpty, frame.pointee.length == frame.pointee.wireLength else { return }
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        let outer = OuterHeader.parseIPv6(packet)
        guard outer.isFragment, !outer.isDamaged else { return }
        reassembler.refuse(
            key(packet, outer, isIPv4: false, frame, tables), opens: false, now: now)
    }

    /// Describes a frame that was judged `hold`.
    private static func fragment(
        _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>
    ) -> Fragment {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        let isIPv4 = frame.pointee.etherType == EtherType.ipv4
        let outer: OuterHeader = isIPv4 ? .parseIPv4(packet) : .parseIPv6(packet)
        let total = isIPv4 ? Int(packet.ipv4.totalLength) : packet.ipv6.totalLength
        let header =
            outer.isLaterFragment
            ? 0
            : isIPv4 ? outer.fragmentPayload : outer.fragmentPayload &- FragmentHeader.byteCount
        return Fragment(
            key: key(packet, outer, isIPv4: isIPv4, frame, tables), offset: outer.fragmentOffset,
            payload: packet.dropFirst(
                outer.fragmentPayload, count: total &- outer.fragmentPayload),
            moreFragments: outer.moreFragments, ecn: outer.trafficClass & 3,
            header: packet.dropFirst(0, count: header), nextHeaderAt: outer.fragmentNamedAt,
            nextHeader: isIPv4
                ? 0
                : packet.fragmentHeader(at: outer.fragmentPayload &- FragmentHeader.byteCount).nextHeader)
    }

    private static func key(
        _ packet: Bytes, _ outer: OuterHeader, isIPv4: Bool, _ frame: UnsafePointer<Frame>,
        _ tables: UnsafePointer<ForwardingView>
    ) -> DatagramKey {
        let vrf = tables.pointee.interfaces[Int(frame.pointee.interface)].vrf
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
        _ frame: UnsafeMutablePointer<Frame>, _ tables: UnsafePointer<ForwardingView>,
        keepsFragments: Bool
    ) -> Verdict {
        guard frame.pointee.isForUs else { return .pass }
        if frame.pointee.etherType == EtherType.ipv4 { return verdictIPv4(frame, tables, keepsFragments) }
        if frame.pointee.etherType == EtherType.ipv6 { return verdictIPv6(frame, tables, keepsFragments) }
        return verdictTagged(frame, tables, keepsFragments)
    }

    /// Of frames that are neither IPv4 nor IPv6 at once. Apart from `verdict`, which would save
    /// registers for it with each frame.
    @inline(never)
    private static func verdictTagged(
        _ frame: UnsafeMutablePointer<Frame>, _ tables: UnsafePointer<ForwardingView>,
        _ keepsFragments: Bool
    ) -> Verdict {
        guard frame.pointee.dropPriorityTags() else { return .pass }
        switch frame.pointee.etherType {
        case EtherType.ipv4: return verdictIPv4(frame, tables, keepsFragments)
        case EtherType.ipv6: return verdictIPv6(frame, tables, keepsFragments)
        default: return .pass
        }
    }

    private static func verdictIPv4(
        _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>, _ keepsFragments: Bool
    ) -> Verdict {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        guard packet.count >= IPv4Header.byteCount else {
            return verdictOfShort(packet, protocolAt: IPv4Header.Offset.protocolNumber)
        }
        let number = packet.ipv4.protocolNumber
        guard ProtocolNumber.isTunnel(number) else { return .pass }
        let (source, destination) = (packet.ipv4.source, packet.ipv4.destination)
        let mode: Mode = number == ProtocolNumber.ipv4 ? .ipip : .ip6ip
        let flags = tables.pointee.policy.addresses.lookup(ipv4: source)
        let match = TunnelMatch.find(
            tables, list: tables.pointee.policy.locals.lookup(ipv4: destination),
            interface: frame.pointee.interface, modes: 1 &<< mode.rawValue,
            source: flags | (source == destination ? AddressClass.noRemote : 0)
        ) { $0.lookup(ipv4: source) != 0 }
        guard match.isOurs else { return .pass }
        return finish(frame, tables, packet, .parseIPv4(packet), match, mode, keepsFragments)
    }

    private static func verdictIPv6(
        _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>, _ keepsFragments: Bool
    ) -> Verdict {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        guard packet.count >= IPv6Header.byteCount else {
            return verdictOfShort(packet, protocolAt: IPv6Header.Offset.nextHeader)
        }
        let next = packet.ipv6.nextHeader
        guard ProtocolNumber.isTunnel(next) || ExtensionHeader.isWalked(next) else {
            return tables.pointee.policy.rewriteCount == 0
                ? .pass : NativeProbe.verdict(frame, tables, packet)
        }
        let (source, destination) = (packet.ipv6.source, packet.ipv6.destination)
        let list = tables.pointee.policy.locals.lookup(ipv6: destination)
        guard list != 0 else { return .pass }
        let outer = OuterHeader.parseIPv6(packet)
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
        let flags = tables.pointee.policy.addresses.lookup(ipv6: source)
        let match = TunnelMatch.find(
            tables, list: list, interface: frame.pointee.interface,
            modes: mayBeTunnel ? Mode.overIPv6 : 1 &<< mode.rawValue,
            source: flags | (source == destination ? AddressClass.noRemote : 0)
        ) { $0.lookup(ipv6: source) != 0 }
        guard match.isOurs else { return .pass }
        let verdict = finish(frame, tables, packet, outer, match, mode, keepsFragments)
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
        _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>, _ packet: Bytes,
        _ header: OuterHeader, _ match: TunnelMatch, _ mode: Mode, _ keepsFragments: Bool
    ) -> Verdict {
        var outer = header
        var inner = InnerHeader()
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
                outer.note(inner.failure)
            }
        }
        outer.note(match.reason)
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
            outer.failure = decide(&verdict, frame, tables, packet, outer, inner)
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
        _ tables: UnsafePointer<ForwardingView>, _ packet: Bytes, _ outer: OuterHeader, _ inner: InnerHeader
    ) -> DropReason {
        let policy = tables.pointee.policy
        verdict.ecnCell = (inner.trafficClass & 3) << 2 | outer.trafficClass & 3
        if policy.ecn == .standard && verdict.ecnCell == ECN.notCapableCongested {
            return .tunnelECN
        }
        if ProtocolNumber.isNest(inner.protocolNumber) { return .nestedTunnel }
        let ttl = policy.ttl == .uniform ? min(inner.ttl, outer.ttl) : inner.ttl
        if ttl == 0 { return .ttlExpired }
        let bytes = packet.dropFirst(outer.innerOffset, count: inner.length)
        var rewrite: SourceRewrite?
        if verdict.mode.innerIsIPv4 {
            let refusal = SourceCheck.checkIPv4(bytes, inner, frame.pointee.interface, tables)
            if refusal != .none { return refusal }
        } else {
            let source = bytes.ipv6.source
            let flags = policy.addresses.lookup(ipv6: source)
            if flags & AddressClass.rewritten != 0 {
                rewrite = SourceRewrite.find(
                    source, bytes, inner, frame.pointee.interface, policy)
            }
            let refusal =
                rewrite != nil
                ? .none : SourceCheck.checkIPv6(bytes, inner, flags, frame.pointee.interface, tables)
            if refusal != .none { return refusal }
        }
        let found = DestinationCheck.find(
            bytes, inner, verdict.mode, tables, policy.tunnels[Int(verdict.tunnel)])
        guard let rule = found.rule else { return found.refusal }
        verdict.device = rule.pointee.device
        verdict.destination = rule.pointee.index
        verdict.offset = UInt32(truncatingIfNeeded: outer.innerOffset)
        verdict.length = UInt32(truncatingIfNeeded: inner.length)
        let mtu = Int(rule.pointee.mtu)
        if inner.length > mtu, TooBig.size(bytes, inner, frame) > mtu {
            // An error to a link-local source would need its link, which those sockets have not.
            if rewrite == nil, TooBig.isAnswered(bytes, inner, verdict.mode, frame, policy, mtu: mtu) {
                verdict.kind = .reply
            }
            return .packetTooBig
        }
        let offload = Offload.rebase(
            &verdict.vnet, frame, bytes, strip: frame.pointee.linkLength &+ outer.innerOffset,
            inner, verdict.mode)
        if offload != .none { return offload }
        Rewrite.apply(
            &verdict, frame, tables, bytes, inner, rule, rewrite,
            trafficClass: trafficClass(policy, inner: inner, outer: outer), ttl: ttl)
        return .none
    }

    @inline(__always)
    private static func trafficClass(
        _ policy: PolicyView, inner: InnerHeader, outer: OuterHeader
    ) -> UInt8 {
        let dscp = (policy.dscp == .uniform ? outer : nil)?.trafficClass ?? inner.trafficClass
        return dscp & 0xfc
            | ECN.decapsulated(
                policy.ecn, inner: inner.trafficClass & 3,
                outer: outer.trafficClass & 3)
    }
}
