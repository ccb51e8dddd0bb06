// The few bytes of an inner packet that may change: ECN, DSCP, TTL, MSS, a probe's source, and their
// checksums.
// They are written to a copy of its head; the received frame stays as it came, so that a frame
// whose worker died can be judged again.

import IP

enum Rewrite {
    @inline(__always)
    static func apply(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>,
        _ tables: UnsafePointer<ForwardingView>, _ packet: Bytes, _ inner: InnerHeader,
        _ rule: UnsafePointer<DestinationRule>,
        _ source: SourceRewrite?, trafficClass: UInt8, ttl: UInt8
    ) {
        // What needs most of the head comes first: what is copied later would undo the others.
        // A first fragment too small for the flags may hide a SYN (RFC 1858): counted as one.
        if inner.protocolNumber == ProtocolNumber.tcp && !inner.isLaterFragment
            && (inner.transportLength <= TCPHeader.Offset.flags
                ? inner.isFragment
                : packet.tcp(at: inner.transportOffset).flags & TCPHeader.syn != 0)
        {
            clamp(&verdict, frame, tables, packet, inner, rule)
        }
        source?.apply(&verdict, frame, packet, inner)
        if trafficClass != inner.trafficClass || ttl != inner.ttl {
            mark(&verdict, frame, packet, trafficClass: trafficClass, ttl: ttl, inner)
        }
    }

    private static func mark(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>, _ packet: Bytes,
        trafficClass: UInt8, ttl: UInt8, _ inner: InnerHeader
    ) {
        let head = frame.pointee.head
        if verdict.mode.innerIsIPv4 {
            verdict.openHead(frame, packet, IPv4Header.byteCount)
            let (old, writer) = (packet.ipv4, IPv4Writer(head))
            var checksum = Checksum.updated(
                old.headerChecksum, from: old.versionToService,
                to: old.versionToService & 0xff00 | UInt16(trafficClass))
            checksum = Checksum.updated(
                checksum, from: old.lifeAndProtocol,
                to: UInt16(ttl) << 8 | UInt16(old.protocolNumber))
            writer.set(typeOfService: trafficClass)
            writer.set(timeToLive: ttl)
            writer.set(headerChecksum: checksum)
        } else {
            verdict.openHead(frame, packet, IPv6Header.Offset.source)
            IPv6Writer(head).set(trafficClass: trafficClass)
            IPv6Writer(head).set(hopLimit: ttl)
        }
    }

    /// RFC 9293 §3.7.1: the MSS option of SYN and SYN-ACK segments, only ever lowered.
    private static func clamp(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>,
        _ tables: UnsafePointer<ForwardingView>, _ packet: Bytes, _ inner: InnerHeader,
        _ rule: UnsafePointer<DestinationRule>
    ) {
        guard let limit = limit(verdict.mode, frame, tables, rule) else { return }
        let start = inner.transportOffset
        let isWhole = inner.transportLength >= TCPHeader.byteCount
        let headerLength = isWhole ? packet.tcp(at: start).dataOffset : 0
        let (first, end) = (start &+ TCPHeader.byteCount, start &+ headerLength)
        // A header whose options do not parse goes on as it is.
        guard headerLength >= TCPHeader.byteCount, headerLength <= inner.transportLength,
            end <= Limits.headBytes,
            packet.walkOptions(
                from: first, to: end,
                { kind, _, length in kind != TCPHeader.maximumSegmentSize || length == 4 })
        else {
            verdict.unclampedMSS = true
            return
        }
        _ = packet.walkOptions(from: first, to: end) { kind, offset, _ in
            let value = offset &+ HeaderOption.byteCount
            // A receiver takes the last of several MSS options: each is lowered.
            if kind == TCPHeader.maximumSegmentSize, packet.u16(value) > limit {
                verdict.openHead(frame, packet, end)
                lower(verdict, frame, packet, start, at: value, to: limit)
                verdict.clampedMSS = true
            }
            return true
        }
    }

    private static func lower(
        _ verdict: Verdict, _ frame: UnsafePointer<Frame>, _ packet: Bytes, _ start: Int,
        at offset: Int, to limit: UInt16
    ) {
        let head = frame.pointee.head
        head.storeBigEndian(limit, at: offset)
        // An unfinished checksum field holds the pseudo-header's sum, which the MSS is not part
        // of; the kernel sums the segment later.
        if verdict.vnet.flags & VirtioHeader.needsChecksum != 0 { return }
        let old = packet.u16(offset)
        // At an odd offset the value lies across two summed words: its halves change places.
        let isOdd = (offset &- start) & 1 != 0
        let place = start &+ TCPHeader.Offset.checksum
        head.storeBigEndian(
            Checksum.updated(
                Bytes(head, count: Limits.headBytes).u16(place),
                from: isOdd ? old.byteSwapped : old, to: isOdd ? limit.byteSwapped : limit),
            at: place)
    }

    /// The largest MSS, in bytes, of a segment that this destination may announce or be told.
    private static func limit(
        _ mode: Mode, _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>,
        _ rule: UnsafePointer<DestinationRule>
    ) -> UInt16? {
        var limit = rule.pointee.mss
        if limit == DestinationRule.mssInherited {
            limit = mode.innerIsIPv4 ? tables.pointee.policy.mssIPv4 : tables.pointee.policy.mssIPv6
        }
        if limit == DestinationRule.mssOff { return nil }
        if limit != DestinationRule.mssAuto { return limit }
        let mtu = Int(tables.pointee.interfaces[Int(frame.pointee.interface)].mtu)
        let headers = mode.headerBytes
        return mtu > headers ? UInt16(clamping: mtu &- headers) : nil
    }
}
