// The ICMP error that tells a sender that its packet was too big.

import IP

/// The ICMP error for a frame that was judged `reply`: a header, and the start of the inner packet.
public enum ICMPErrorMessage {
    /// Of the message.
    public static let headerBytes = ICMPHeader.byteCount
    /// Of IP header and message header together, at most.
    public static let headersMax = IPv6Header.byteCount + ICMPHeader.byteCount

    /// Writes the header of the ICMP message that is due to the inner source.
    ///
    /// IPv4: destination unreachable, fragmentation needed (RFC 1191 §4), with its checksum; in
    /// all at most 576 bytes with the IP header (RFC 1812 §4.3.2.3). IPv6: packet too big (RFC
    /// 4443 §3.2), at most 1280 bytes; its checksum is 0, for whoever adds the addresses. Never
    /// longer than the frame that it answers: else it quotes only the header and 8 bytes.
    /// - Returns: how many bytes of the inner packet follow.
    package static func write(
        to message: UnsafeMutableRawPointer, _ frame: Frame, _ verdict: Verdict, mtu: Int
    ) -> Int {
        let isIPv4 = verdict.mode.innerIsIPv4
        let header = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        let packet = Bytes(
            frame.network + Int(verdict.offset), count: Int(verdict.length))
        var quoted = min(packet.count, (isIPv4 ? 576 : 1280) - header - headerBytes)
        if header + headerBytes + quoted > frame.length {
            let own = isIPv4 ? packet.ipv4.headerLength : IPv6Header.byteCount
            quoted = min(packet.count, own + 8)
        }
        // Destination unreachable, fragmentation needed; or packet too big.
        message.fillICMP(type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: UInt16(clamping: mtu))
        if isIPv4 {
            message.setChecksum(
                at: ICMPHeader.Offset.checksum, over: headerBytes,
                adding: packet.dropFirst(0, count: quoted).wideSum(from: 0))
        }
        return quoted
    }

    /// The message's header behind an IP header, as a router would send it: TTL 64, no fragment.
    /// - Parameters:
    ///   - headers: `headersMax` writable bytes.
    ///   - message: what `write` wrote.
    ///   - quoted: what follows it.
    ///   - source: an address of the inner packet's family, as `target`.
    /// - Returns: bytes written.
    public static func writePacket(
        to headers: UnsafeMutableRawPointer, _ message: UnsafeRawPointer,
        quoted: UnsafeRawBufferPointer, source: Address, target: UnsafeRawBufferPointer
    ) -> Int {
        guard let destination = Address(bytes: target), let rest = quoted.baseAddress else { return 0 }
        let isIPv4 = target.count == 4
        let header = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        let length = headerBytes + quoted.count
        (headers + header).copyMemory(from: message, byteCount: headerBytes)
        if isIPv4 {
            // Internetwork control (RFC 1812 §4.3.2.5).
            IPv4Writer(headers).fill(
                typeOfService: 0xc0, totalLength: header + length, protocolNumber: ProtocolNumber.icmp,
                source: source.ipv4, destination: destination.ipv4)
        } else {
            IPv6Writer(headers).fill(
                trafficClass: 0, payloadLength: length, nextHeader: ProtocolNumber.icmpv6,
                source: source, destination: destination)
            let pseudo = Bytes(headers, count: headersMax).pseudoHeaderSum(isIPv4: false, length: length)
            (headers + header).setChecksum(
                at: ICMPHeader.Offset.checksum, over: headerBytes,
                adding: Bytes(rest, count: quoted.count).wideSum(from: 0, adding: pseudo))
        }
        return header + headerBytes
    }
}
