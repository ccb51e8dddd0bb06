// What changes in an inner packet on its way: marks, TTL, MSS, and the offload header before it.

import Forwarding

enum Marks {
    /// RFC 6040 §4.2, figure 4: rows are the inner codepoint, columns the outer; Not-ECT 0,
    /// ECT(1) 1, ECT(0) 2, CE 3. nil: dropped.
    private static let figure4: [[UInt8?]] = [
        [0, 0, 0, nil],
        [1, 1, 1, 3],
        [2, 1, 2, 3],
        [3, 3, 3, 3],
    ]

    static func ecn(_ mode: ECNMode, inner: UInt8, outer: UInt8) -> UInt8? {
        switch mode {
        case .standard: figure4[Int(inner)][Int(outer)]
        case .copy: outer
        case .pipe: inner
        }
    }

    /// The packet with these marks; an IPv4 header that changed is summed anew.
    static func marked(_ inner: InnerPacket, trafficClass: UInt8, ttl: UInt8) -> [UInt8] {
        var bytes = inner.bytes
        if trafficClass == inner.trafficClass && ttl == inner.ttl { return bytes }
        if inner.isIPv4 {
            bytes[1] = trafficClass
            bytes[8] = ttl
            bytes[10] = 0
            bytes[11] = 0
            let checksum = 0xffff - onesComplementSum(bytes[..<(Int(bytes[0] & 15) * 4)])
            bytes[10] = UInt8(checksum / 256)
            bytes[11] = UInt8(checksum % 256)
        } else {
            bytes[0] = 0x60 + trafficClass / 16
            bytes[1] = trafficClass % 16 * 16 + bytes[1] % 16
            bytes[7] = ttl
        }
        return bytes
    }
}

extension Model {
    /// M6: the largest MSS, or nil where it is left alone.
    func segmentLimit(_ mode: Mode, _ destination: Destination, mtu: Int32) -> Int? {
        let innerIsIPv4 = mode == .ipip || mode == .ipip6
        let outerIsIPv4 = mode == .ipip || mode == .ip6ip
        switch destination.mss ?? (innerIsIPv4 ? policy.mssIPv4 : policy.mssIPv6) {
        case .off: return nil
        case .fixed(let limit): return Int(limit)
        case .auto:
            let limit = Int(mtu) - (outerIsIPv4 ? 20 : 40) - (innerIsIPv4 ? 20 : 40) - 20
            return limit > 0 ? min(limit, 0xffff) : nil
        }
    }
}

enum Segments {
    /// M7: SYN segments only; only lowered; what does not parse goes on as it is and is counted.
    static func clamp(_ answer: inout Answer, _ inner: InnerPacket, to limit: Int) {
        guard inner.protocolNumber == Upper.tcp, !inner.isLaterFragment else { return }
        let start = inner.transport
        // The flags stand in byte 13. A first fragment without them may be a SYN (RFC 1858).
        if inner.transportLength < 14 {
            answer.unclampedMSS = inner.isFragment
            return
        }
        guard inner.bytes[start + 13] & 2 != 0 else { return }
        let headerLength = Int(inner.bytes[start + 12] >> 4) * 4
        // 240 bytes of a packet can be rewritten.
        guard inner.transportLength >= 20, headerLength >= 20,
            headerLength <= inner.transportLength, start + headerLength <= 240,
            let options = sizes(inner.bytes, start + 20, start + headerLength)
        else {
            answer.unclampedMSS = true
            return
        }
        let before = onesComplementSum(answer.bytes[start...])
        for place in options where word(answer.bytes, place) > limit {
            answer.bytes[place] = UInt8(limit / 256)
            answer.bytes[place + 1] = UInt8(limit % 256)
            answer.clampedMSS = true
        }
        // A checksum still to be made covers no options; the field holds the pseudo-header's sum.
        guard answer.clampedMSS, answer.vnet.flags & 1 == 0 else { return }
        // RFC 1624: the segment sums up to what it did, so a wrong checksum stays wrong.
        answer.bytes[start + 16] = 0
        answer.bytes[start + 17] = 0
        var checksum = before + 0xffff - onesComplementSum(answer.bytes[start...])
        if checksum > 0xffff { checksum -= 0xffff }
        if checksum == 0xffff { checksum = 0 }
        answer.bytes[start + 16] = UInt8(checksum / 256)
        answer.bytes[start + 17] = UInt8(checksum % 256)
    }

    /// Where the values of all MSS options stand; nil when the options do not parse.
    private static func sizes(_ bytes: [UInt8], _ start: Int, _ end: Int) -> [Int]? {
        var places: [Int] = []
        var offset = start
        while offset < end, bytes[offset] != 0 {
            if bytes[offset] == 1 {
                offset += 1
                continue
            }
            guard offset + 1 < end else { return nil }
            let length = Int(bytes[offset + 1])
            guard length >= 2, offset + length <= end else { return nil }
            if bytes[offset] == 2 {
                guard length == 4 else { return nil }
                places.append(offset + 2)
            }
            offset += length
        }
        return places
    }
}

enum Offloading {
    /// What the frame's offload header may say of this packet, counted from its first byte; nil where
    /// it says anything else.
    static func rebased(_ frame: Arrival, stripped outer: Int, _ inner: InnerPacket)
        -> VirtioHeader?
    {
        let received = frame.vnet
        let isUnfinished = received.flags % 2 == 1
        if !isUnfinished && received.gsoType == 0 { return VirtioHeader() }
        guard !inner.isFragment else { return nil }
        let upper = Array(inner.bytes.dropFirst(inner.transport).prefix(inner.transportLength))
        var header = VirtioHeader()
        if isUnfinished {
            // The field that is the checksum's: 16 bytes in of TCP, 6 of UDP, 2 of ICMP.
            let fields: [UInt8: Int] = [6: 16, 17: 6, inner.isIPv4 ? 1 : 58: 2]
            guard let field = fields[inner.protocolNumber], upper.count >= field + 2 else { return nil }
            header.flags = 1
            header.checksumStart = UInt16(inner.transport)
            header.checksumOffset = UInt16(field)
            var expected = header
            expected.checksumStart += UInt16(frame.linkLength + outer)
            guard received.checksumStart == expected.checksumStart,
                received.checksumOffset == expected.checksumOffset
            else { return nil }
        }
        if received.gsoType == 0 { return header }
        // linux/virtio_net.h: 1 TCPv4, 4 TCPv6, 5 UDP_L4; 0x80 beside TCP's: ECN.
        var headers = 8
        switch received.gsoType {
        case 1, 0x81, 4, 0x84:
            guard inner.isIPv4 == (received.gsoType % 8 == 1), inner.protocolNumber == 6,
                upper.count >= 20
            else { return nil }
            headers = Int(upper[12] / 16) * 4
            guard headers >= 20 else { return nil }
        case 5:
            guard inner.protocolNumber == 17, isUnfinished else { return nil }
        default: return nil
        }
        let size = Int(received.gsoSize)
        guard size > 0, headers <= upper.count else { return nil }
        let payload = upper.count - headers
        let segments = (payload + size - 1) / size
        if inner.protocolNumber == 17 && segments > 128 { return nil }
        if segments > 1 {
            header.gsoType = received.gsoType
            header.gsoSize = received.gsoSize
            header.headerLength = UInt16(inner.transport + headers)
        }
        return header
    }
}
