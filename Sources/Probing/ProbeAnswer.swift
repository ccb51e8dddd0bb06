// What came back, as far as it may answer a probe.

import IP

/// A packet that may answer a probe. Whether it does, `ProbePacket.isAnswered` says.
public struct ProbeAnswer: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// `mss` is nil without the option, and 0 where no segment fits the option or it cannot be read.
        case synAck(acknowledged: UInt32, mss: UInt16?)
        case reset(acknowledged: UInt32)
        case datagram
        case echoReply(identifier: UInt16)
        /// An ICMP error, with the addresses of the packet that it quotes.
        case error(ICMPReport)
    }

    /// Of the answer; of an error those of the packet that it quotes, turned round.
    public var source: Address
    public var destination: Address
    /// The source port, 0 with ICMP.
    public var port: UInt16
    /// As `ProbePacket.token`.
    public var token: UInt16
    public var kind: Kind
}

extension ProbeAnswer {
    /// Reads a packet that begins with an IP header. Anything may come in; nil: it answers nobody.
    public static func read(_ packet: Bytes) -> ProbeAnswer? {
        guard let upper = UpperLayer(packet), let transport = upper.transport(in: packet) else { return nil }
        let (source, destination) = (upper.source, upper.destination)
        switch upper.protocolNumber {
        case ProtocolNumber.icmp where source.isIPv4:
            return message(transport, upper, echoReply: 0, errors: [3, 11, 12])
        case ProtocolNumber.icmpv6 where !source.isIPv4:
            return message(transport, upper, echoReply: 129, errors: [1, 2, 3, 4])
        case ProtocolNumber.tcp:
            guard transport.count >= TCPHeader.byteCount else { return nil }
            let header = transport.tcp(at: 0)
            let number = header.acknowledgmentNumber
            let kind: Kind
            switch header.flags & (TCPHeader.syn | TCPHeader.ack | TCPHeader.rst) {
            case TCPHeader.syn | TCPHeader.ack: kind = .synAck(acknowledged: number, mss: mss(transport))
            case TCPHeader.rst | TCPHeader.ack: kind = .reset(acknowledged: number)
            default: return nil
            }
            return ProbeAnswer(
                source: source, destination: destination, port: header.ports.source,
                token: header.ports.destination, kind: kind)
        case ProtocolNumber.udp:
            guard transport.count >= UDPHeader.byteCount else { return nil }
            let ports = transport.ports(at: 0)
            return ProbeAnswer(
                source: source, destination: destination, port: ports.source, token: ports.destination,
                kind: .datagram)
        default: return nil
        }
    }

    /// The MSS option of a segment; nil where there is none, 0 where the options cannot be read.
    private static func mss(_ segment: Bytes) -> UInt16? {
        let end = segment.tcp(at: 0).dataOffset
        guard end >= TCPHeader.byteCount, end <= segment.count else { return 0 }
        var found: UInt16?
        let isRead = segment.walkOptions(from: TCPHeader.byteCount, to: end) { type, offset, length in
            if type == TCPHeader.maximumSegmentSize { found = length == 4 ? segment.u16(offset + 2) : 0 }
            return true
        }
        return isRead ? found : 0
    }

    private static func message(
        _ transport: Bytes, _ upper: UpperLayer, echoReply: UInt8, errors: [UInt8]
    ) -> ProbeAnswer? {
        guard transport.count >= ICMPHeader.byteCount else { return nil }
        let type = transport.icmp(at: 0).type
        if type == echoReply {
            return ProbeAnswer(
                source: upper.source, destination: upper.destination, port: 0, token: transport.u16(6),
                kind: .echoReply(identifier: transport.u16(4)))
        }
        guard errors.contains(type) else { return nil }
        let quoted = transport.dropFirst(ICMPHeader.byteCount)
        var report = ICMPReport(
            sender: upper.source, type: type, code: transport.u8(1), isAboutOuter: false)
        if report.isTooBig {
            report.mtu =
                upper.source.isIPv4 ? Int(transport.u16(ICMPHeader.Offset.mtu)) : Int(transport.u32(4))
        }
        return about(quoted, report)
    }

    /// The probe that an error quotes, by its outer packet or by its inner one.
    private static func about(_ quoted: Bytes, _ report: ICMPReport) -> ProbeAnswer? {
        guard let upper = UpperLayer(quoted) else { return nil }
        if ProtocolNumber.isTunnel(upper.protocolNumber) {
            var report = report
            report.isAboutOuter = true
            // RFC 792 promises 8 bytes behind the header, too few for the inner ports.
            if upper.source.isIPv4 {
                return ProbeAnswer(
                    source: upper.destination, destination: upper.source, port: 0,
                    token: quoted.ipv4.identification, kind: .error(report))
            }
            guard let inner = upper.transport(in: quoted), let token = UpperLayer(inner)?.token(in: inner)
            else { return nil }
            return ProbeAnswer(
                source: upper.destination, destination: upper.source, port: 0, token: token,
                kind: .error(report))
        }
        guard let token = upper.token(in: quoted) else { return nil }
        return ProbeAnswer(
            source: upper.destination, destination: upper.source, port: 0, token: token, kind: .error(report))
    }
}

/// Where the header behind an IP header stands, and behind IPv6 extension headers.
private struct UpperLayer {
    var source: Address
    var destination: Address
    var protocolNumber: UInt8
    var offset: Int

    /// nil: it is no IP header, is cut short, or belongs to a later fragment.
    init?(_ packet: Bytes) {
        guard packet.count >= IPv4Header.byteCount else { return nil }
        if packet.ipv4.version == 4 {
            let header = packet.ipv4
            guard header.headerLength >= IPv4Header.byteCount, !header.isLaterFragment else { return nil }
            source = Address(ipv4: header.source)
            destination = Address(ipv4: header.destination)
            protocolNumber = header.protocolNumber
            offset = header.headerLength
        } else {
            guard packet.ipv4.version == 6, packet.count >= IPv6Header.byteCount else { return nil }
            source = packet.ipv6.source
            destination = packet.ipv6.destination
            var walk = ExtensionHeaderWalk(packet)
            while ExtensionHeader.isWalked(walk.number) {
                guard walk.offset < packet.count, let header = walk.next(in: packet, end: packet.count)
                else { return nil }
                if header.number == ProtocolNumber.fragment,
                    packet.fragmentHeader(at: header.offset).fragmentOffset != 0
                {
                    return nil
                }
            }
            protocolNumber = walk.number
            offset = walk.offset
        }
        guard offset <= packet.count else { return nil }
    }

    /// All that is there of it: an IP header's length may be more, in what an error quotes.
    func transport(in packet: Bytes) -> Bytes? {
        var end = packet.count
        // The link may have padded a short frame.
        if packet.ipv4.version == 4 { end = min(end, Int(packet.ipv4.totalLength)) }
        return offset <= end ? packet.dropFirst(offset, count: end - offset) : nil
    }

    /// The token of a probe whose inner packet this is, as `ProbePacket` writes it.
    func token(in packet: Bytes) -> UInt16? {
        guard packet.count >= offset + ICMPHeader.byteCount else { return nil }
        switch protocolNumber {
        case ProtocolNumber.tcp, ProtocolNumber.udp: return packet.ports(at: offset).source
        case ProtocolNumber.icmp, ProtocolNumber.icmpv6: return packet.u16(offset + 6)
        default: return nil
        }
    }
}

extension ProbePacket {
    /// Whether the packet that came answers this probe, or is an error about it.
    public func isAnswered(by answer: ProbeAnswer) -> Bool {
        guard answer.token == token else { return false }
        if case .error(let report) = answer.kind, report.isAboutOuter {
            return answer.source == flow.outerDestination && answer.destination == flow.outerSource
        }
        guard answer.source == flow.innerDestination, answer.destination == flow.innerSource else {
            return false
        }
        switch (answer.kind, flow.probeProtocol) {
        case (.synAck(let number, _), .tcp), (.reset(let number), .tcp):
            // Data behind the SYN may be acknowledged too, by TCP Fast Open.
            let data = UInt32(truncatingIfNeeded: length - flow.smallestPacket)
            return answer.port == flow.port && (number == secret &+ 1 || number == secret &+ 1 &+ data)
        case (.datagram, .udp): return answer.port == flow.port
        case (.echoReply(let number), .icmp): return number == identifier
        case (.error, _): return true
        default: return false
        }
    }
}
