// Cuts a coalesced packet into what a receiver sees, as the kernel does: net/ipv4/tcp_offload.c
// `tcp_gso_segment`, net/ipv4/udp_offload.c `__udp_gso_segment`, net/ipv4/af_inet.c `inet_gso_segment`.

import Forwarding
import IP

enum Segmentation {
    /// - Parameter header: of a packet that the coalescer made: no IP options, no extension headers.
    static func packets(_ packet: [UInt8], _ header: VirtioHeader) -> [[UInt8]] {
        let (headers, size) = (Int(header.headerLength), Int(header.gsoSize))
        return stride(from: headers, to: packet.count, by: size).enumerated().map { number, start in
            let end = min(start + size, packet.count)
            var bytes = Array(packet[..<headers] + packet[start..<end])
            bytes.withUnsafeMutableBytes {
                finish(
                    $0, header, number: number, advance: start - headers, isLast: end == packet.count,
                    wholeLength: packet.count)
            }
            return bytes
        }
    }

    /// Makes the copied headers those of one segment.
    /// - Parameters:
    ///   - advance: payload bytes before this segment.
    ///   - wholeLength: bytes of the packet that is cut.
    private static func finish(
        _ segment: UnsafeMutableRawBufferPointer, _ header: VirtioHeader, number: Int, advance: Int,
        isLast: Bool, wholeLength: Int
    ) {
        let (base, length) = (segment.baseAddress!, segment.count)
        let (bytes, transport) = (Bytes(base, count: length), Int(header.checksumStart))
        let isUDP = header.gsoType == VirtioHeader.gsoUDP
        if isUDP {
            base.storeBigEndian(UInt16(length - transport), at: transport + UDPHeader.Offset.length)
        } else {
            let tcp = bytes.tcp(at: transport)
            base.storeBigEndian(
                tcp.sequenceNumber &+ UInt32(advance), at: transport + TCPHeader.Offset.sequenceNumber)
            // The last segment keeps FIN and PSH, the first one CWR.
            let cleared = (isLast ? 0 : TCPHeader.fin | TCPHeader.psh) | (number == 0 ? 0 : TCPHeader.cwr)
            base.storeBigEndian(tcp.flags & ~cleared, at: transport + TCPHeader.Offset.flags)
        }
        if transport == IPv4Header.byteCount {
            let writer = IPv4Writer(base)
            writer.set(totalLength: UInt16(length))
            base.storeBigEndian(
                bytes.ipv4.identification &+ UInt16(number), at: IPv4Header.Offset.identification)
            writer.setHeaderChecksum(headerLength: transport)
        } else {
            IPv6Writer(base).set(payloadLength: UInt16(length - IPv6Header.byteCount))
        }
        // The checksum field holds the pseudo-header's sum with the length of the whole packet.
        let (whole, part) = (UInt16(wholeLength - transport), UInt16(length - transport))
        let change = UInt64((~whole).bigEndian) + UInt64(part.bigEndian)
        let checksum = ~Checksum.folded(bytes.wideSum(from: transport, adding: change))
        // RFC 768: a UDP checksum of 0 means none.
        base.storeBytes(
            of: isUDP && checksum == 0 ? 0xffff : checksum,
            toByteOffset: transport + Int(header.checksumOffset), as: UInt16.self)
    }
}
