// The few bytes of an inner packet that may change: ECN, DSCP, TTL, MSS, a probe's source, and their
// checksums.
// They are written to a copy of its head; the received frame stays as it came, so that a frame
// whose worker died can be judged again.

enum Rewrite {
    @inline(__always)
    static func apply(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ packet: Bytes, _ inner: Inner,
        _ rule: UnsafePointer<DestinationRule>,
        _ source: (rule: UnsafePointer<SourceRewriteRecord>, checksum: Int)?,
        trafficClass: UInt8, ttl: UInt8
    ) {
        // What needs most of the head comes first: what is copied later would undo the others.
        // A first fragment too small for the flags may hide a SYN (RFC 1858): counted as one.
        if inner.protocolNumber == ProtocolNumber.tcp && !inner.isLaterFragment
            && (inner.transportLength < 14
                ? inner.isFragment : packet.u8(inner.transportOffset &+ 13) & TCP.syn != 0)
        {
            clamp(&verdict, frame, world, packet, inner, rule)
        }
        if let source { SourceRewrite.apply(&verdict, frame, packet, inner, source) }
        if trafficClass != inner.trafficClass || ttl != inner.ttl {
            mark(&verdict, frame, packet, trafficClass: trafficClass, ttl: ttl, inner)
        }
    }

    /// Copies at least `length` bytes of the inner packet into the head, once.
    static func openHead(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>, _ packet: Bytes, _ length: Int
    ) {
        guard Int(verdict.headLength) < length else { return }
        assert(length <= Limits.headBytes && length <= packet.count)
        frame.pointee.head.copyMemory(from: packet.base, byteCount: length)
        verdict.headLength = UInt16(truncatingIfNeeded: length)
    }

    private static func mark(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>, _ packet: Bytes,
        trafficClass: UInt8, ttl: UInt8, _ inner: Inner
    ) {
        let head = frame.pointee.head
        if verdict.mode.innerIsIPv4 {
            openHead(&verdict, frame, packet, 20)
            var checksum = packet.u16(10)
            let first = UInt16(packet.u8(0)) << 8
            checksum = updatedChecksum(
                checksum, from: first | UInt16(inner.trafficClass), to: first | UInt16(trafficClass))
            let number = UInt16(packet.u8(9))
            checksum = updatedChecksum(
                checksum, from: UInt16(inner.ttl) << 8 | number, to: UInt16(ttl) << 8 | number)
            head.storeBytes(of: trafficClass, toByteOffset: 1, as: UInt8.self)
            head.storeBytes(of: ttl, toByteOffset: 8, as: UInt8.self)
            head.storeBigEndian(checksum, at: 10)
        } else {
            openHead(&verdict, frame, packet, 8)
            // The traffic class straddles bytes 0 and 1 (RFC 8200 §3).
            head.storeBigEndian(
                packet.u16(0) & 0xf00f | UInt16(trafficClass) << 4, at: 0)
            head.storeBytes(of: ttl, toByteOffset: 7, as: UInt8.self)
        }
    }

    /// RFC 9293 §3.7.1: the MSS option of SYN and SYN-ACK segments, only ever lowered.
    private static func clamp(
        _ verdict: inout Verdict, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ packet: Bytes, _ inner: Inner,
        _ rule: UnsafePointer<DestinationRule>
    ) {
        guard let limit = limit(verdict.mode, frame, world, rule) else { return }
        guard inner.transportLength >= 20 else {
            verdict.unclampedMSS = true
            return
        }
        let start = inner.transportOffset
        let headerLength = Int(packet.u8(start &+ 12) >> 4) << 2
        guard headerLength >= 20, headerLength <= inner.transportLength,
            start &+ headerLength <= Limits.headBytes
        else {
            verdict.unclampedMSS = true
            return
        }
        // A header whose options do not parse goes on as it is.
        guard TCP.optionsParse(packet, start &+ 20, start &+ headerLength) else {
            verdict.unclampedMSS = true
            return
        }
        var offset = start &+ 20
        let end = start &+ headerLength
        while offset < end {
            let kind = packet.u8(offset)
            if kind == TCP.endOfOptions { break }
            if kind == TCP.noOperation {
                offset &+= 1
                continue
            }
            // A receiver takes the last of several MSS options: each is lowered.
            if kind == TCP.maximumSegmentSize, packet.u8(offset &+ 1) == 4,
                packet.u16(offset &+ 2) > limit
            {
                openHead(&verdict, frame, packet, end)
                lower(verdict, frame, packet, start, at: offset &+ 2, to: limit)
                verdict.clampedMSS = true
            }
            offset &+= Int(packet.u8(offset &+ 1))
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
        let checksum = head.loadUnaligned(fromByteOffset: start &+ 16, as: UInt16.self).bigEndian
        head.storeBigEndian(
            updatedChecksum(
                checksum, from: isOdd ? old.byteSwapped : old,
                to: isOdd ? limit.byteSwapped : limit),
            at: start &+ 16)
    }

    /// The largest MSS, in bytes, of a segment that this destination may announce or be told.
    private static func limit(
        _ mode: Mode, _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ rule: UnsafePointer<DestinationRule>
    ) -> UInt16? {
        var limit = rule.pointee.mss
        if limit == DestinationRule.mssInherited {
            limit = mode.innerIsIPv4 ? world.pointee.policy.mssIPv4 : world.pointee.policy.mssIPv6
        }
        if limit == DestinationRule.mssOff { return nil }
        if limit != DestinationRule.mssAuto { return limit }
        let mtu = Int(world.pointee.interfaces[Int(frame.pointee.interface)].mtu)
        let headers = (mode.outerIsIPv4 ? 20 : 40) &+ (mode.innerIsIPv4 ? 20 : 40) &+ 20
        return mtu > headers ? UInt16(clamping: mtu &- headers) : nil
    }
}

enum TCP {
    static let syn: UInt8 = 0x02
    static let endOfOptions: UInt8 = 0
    static let noOperation: UInt8 = 1
    static let maximumSegmentSize: UInt8 = 2

    /// Whether every option up to the end of the list has a length that fits.
    static func optionsParse(_ packet: Bytes, _ start: Int, _ end: Int) -> Bool {
        var offset = start
        while offset < end {
            let kind = packet.u8(offset)
            if kind == endOfOptions { return true }
            if kind == noOperation {
                offset &+= 1
                continue
            }
            guard offset &+ 2 <= end else { return false }
            let length = Int(packet.u8(offset &+ 1))
            guard length >= 2, offset &+ length <= end,
                kind != maximumSegmentSize || length == 4
            else { return false }
            offset &+= length
        }
        return true
    }
}
