// What a receiver sees of a joined packet, cut as the kernel cuts it: net/ipv4/tcp_offload.c
// `tcp_gso_segment`, net/ipv4/udp_offload.c `__udp_gso_segment`, net/ipv4/af_inet.c `inet_gso_segment`.

import Forwarding

enum Segmentation {
    /// - Parameter header: of a packet that the coalescer joined.
    static func packets(_ packet: [UInt8], _ header: VirtioHeader) -> [[UInt8]] {
        let (headers, transport) = (Int(header.headerLength), Int(header.checksumStart))
        let starts = stride(from: headers, to: packet.count, by: Int(header.gsoSize))
        return starts.enumerated().map { number, start in
            let end = min(start + Int(header.gsoSize), packet.count)
            var bytes = Array(packet[..<headers] + packet[start..<end])
            let length = bytes.count - transport
            if header.gsoType == VirtioHeader.gsoUDP {
                bytes.put(UInt16(length), at: transport + 4)
            } else {
                bytes.add(UInt32(start - headers), at: transport + 4)
                // FIN and PSH are the last one's, CWR is the first one's.
                if end < packet.count { bytes[transport + 13] &= ~0x09 }
                if number > 0 { bytes[transport + 13] &= ~0x80 }
            }
            if transport == 20 {
                bytes.put(UInt16(bytes.count), at: 2)
                bytes.put(bytes.word(4) &+ UInt16(number), at: 4)
                bytes.put(0, at: 10)
                bytes.put(~bytes.sum(0..<20), at: 10)
            } else {
                bytes.put(UInt16(length), at: 4)
            }
            // The field holds the pseudo-header's sum with the length of the whole.
            let whole = UInt16(packet.count - transport)
            let sum = bytes.sum(transport..<bytes.count, adding: UInt32(~whole) + UInt32(length))
            let isZeroOfUDP = header.gsoType == VirtioHeader.gsoUDP && sum == 0xffff
            bytes.put(
                isZeroOfUDP ? 0xffff : ~sum, at: transport + Int(header.checksumOffset))
            return bytes
        }
    }
}

extension [UInt8] {
    fileprivate func word(_ offset: Int) -> UInt16 {
        UInt16(self[offset]) << 8 | UInt16(self[offset + 1])
    }

    fileprivate mutating func put(_ value: UInt16, at offset: Int) {
        self[offset] = UInt8(value >> 8)
        self[offset + 1] = UInt8(truncatingIfNeeded: value)
    }

    fileprivate mutating func add(_ amount: UInt32, at offset: Int) {
        let value = (UInt32(word(offset)) << 16 | UInt32(word(offset + 2))) &+ amount
        put(UInt16(value >> 16), at: offset)
        put(UInt16(truncatingIfNeeded: value), at: offset + 2)
    }

    /// RFC 1071.
    fileprivate func sum(_ range: Range<Int>, adding first: UInt32 = 0) -> UInt16 {
        var total = first
        for offset in range {
            total += UInt32(self[offset]) << ((offset - range.lowerBound) & 1 == 0 ? 8 : 0)
        }
        while total > 0xffff { total = (total & 0xffff) + total >> 16 }
        return UInt16(total)
    }
}
