// One probe of a flow, and its bytes from the outer header on.

import IP

/// A probe that is told from others by its token.
public struct ProbePacket: Hashable, Sendable {
    public let flow: ProbeFlow
    /// The source port, or the sequence number of an ICMP echo; also the identification of IPv4 headers,
    /// which every ICMP error quotes. Never 0: the kernel would choose the identification.
    public let token: UInt16
    /// The initial sequence number of TCP; its upper half is the identifier of an ICMP echo. Nobody who has
    /// not seen the probe can forge the answer.
    public let secret: UInt32
    /// Bytes of the inner packet, of at least `ProbeFlow.smallestPacket`.
    public let length: Int

    public init(flow: ProbeFlow, token: UInt16, secret: UInt32, length: Int) {
        self.flow = flow
        self.token = token
        self.secret = secret
        self.length = max(length, flow.smallestPacket)
    }

    var identifier: UInt16 { UInt16(truncatingIfNeeded: secret >> 16) }

    /// The MSS of a client on a link of 1500 bytes.
    private var clientMSS: UInt16 { flow.innerSource.isIPv4 ? 1460 : 1440 }

    /// The probe. Padding behind a SYN is data that a server without TCP Fast Open ignores
    /// (RFC 9293 §3.10.7.2), so that any size can be asked of any service.
    public var bytes: [UInt8] {
        packet(length: length) { transport in
            switch flow.probeProtocol {
            case .tcp:
                fillTCP(
                    transport, sequence: secret, flags: TCPHeader.syn, headerBytes: TCPHeader.byteCount + 4)
                // RFC 9293 §3.2: kind, length, value.
                transport.storeBigEndian(
                    UInt32(TCPHeader.maximumSegmentSize) << 24 | 4 << 16 | UInt32(clientMSS),
                    at: TCPHeader.byteCount)
            case .udp:
                fillPorts(transport)
                transport.storeBigEndian(
                    UInt16(truncatingIfNeeded: length - flow.innerHeaderBytes), at: UDPHeader.Offset.length)
                fillText(transport + UDPHeader.byteCount)
            case .icmp:
                // Echo request of RFC 792 or RFC 4443 §4.1: identifier and sequence number follow.
                transport.storeBigEndian(UInt16(flow.innerSource.isIPv4 ? 8 : 128) << 8, at: 0)
                transport.storeBigEndian(UInt32(identifier) << 16 | UInt32(token), at: 4)
                fillText(transport + ICMPHeader.byteCount)
            }
        }
    }

    /// The RST that closes what a SYN-ACK opened.
    /// - Parameter acknowledged: the number that the SYN-ACK acknowledges, which the peer expects next.
    public func reset(acknowledged: UInt32) -> [UInt8] {
        packet(length: flow.innerHeaderBytes + TCPHeader.byteCount) { transport in
            fillTCP(
                transport, sequence: acknowledged, flags: TCPHeader.rst, headerBytes: TCPHeader.byteCount)
        }
    }

    private func fillPorts(_ transport: UnsafeMutableRawPointer) {
        transport.storeBigEndian(UInt32(token) << 16 | UInt32(flow.port), at: 0)
    }

    private func fillTCP(
        _ transport: UnsafeMutableRawPointer, sequence: UInt32, flags: UInt8, headerBytes: Int
    ) {
        fillPorts(transport)
        transport.storeBigEndian(sequence, at: TCPHeader.Offset.sequenceNumber)
        transport.storeBigEndian(
            UInt32(headerBytes / 4) << 28 | UInt32(flags) << 16 | 0xfaf0, at: TCPHeader.Offset.flags - 1)
    }

    private func fillText(_ payload: UnsafeMutableRawPointer) {
        for (offset, byte) in ProbeFlow.text.utf8.enumerated() { payload.storeBigEndian(byte, at: offset) }
    }

    private var checksumOffset: Int {
        switch flow.probeProtocol {
        case .tcp: TCPHeader.Offset.checksum
        case .udp: UDPHeader.Offset.checksum
        case .icmp: ICMPHeader.Offset.checksum
        }
    }

    /// Both IP headers around what `fill` writes, and the checksums.
    /// - Parameter length: of the inner packet.
    private func packet(length: Int, _ fill: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
        let start = flow.outerHeaderBytes
        var bytes = [UInt8](repeating: 0, count: start + length)
        bytes.withUnsafeMutableBytes { memory in
            // It holds two headers.
            guard let base = memory.baseAddress else { return }
            let isIPv4 = flow.innerDestination.isIPv4
            fillHeader(
                base, flow.outerSource, flow.outerDestination, length: start + length,
                protocolNumber: isIPv4 ? ProtocolNumber.ipv4 : ProtocolNumber.ipv6)
            let inner = base + start
            fillHeader(
                inner, flow.innerSource, flow.innerDestination, length: length,
                protocolNumber: flow.probeProtocol.number(isIPv4: isIPv4))
            let transport = inner + flow.innerHeaderBytes
            fill(transport)
            let covered = length - flow.innerHeaderBytes
            // ICMP over IPv4 alone covers no pseudo-header.
            let pseudo =
                isIPv4 && flow.probeProtocol == .icmp
                ? 0 : Bytes(inner, count: length).pseudoHeaderSum(isIPv4: isIPv4, length: covered)
            transport.setChecksum(at: checksumOffset, over: covered, adding: pseudo)
            // RFC 768: 0 would mean that there is none.
            if flow.probeProtocol == .udp,
                Bytes(transport, count: covered).u16(UDPHeader.Offset.checksum) == 0
            {
                transport.storeBigEndian(UInt16.max, at: UDPHeader.Offset.checksum)
            }
        }
        return bytes
    }

    /// Both headers forbid fragments, as balancers and TCP do: a packet that is too big shows it.
    private func fillHeader(
        _ header: UnsafeMutableRawPointer, _ source: Address, _ destination: Address, length: Int,
        protocolNumber: UInt8
    ) {
        if destination.isIPv4 {
            IPv4Writer(header).fill(
                typeOfService: 0, totalLength: length, identification: token,
                fragment: IPv4Header.dontFragment, protocolNumber: protocolNumber, source: source.ipv4,
                destination: destination.ipv4)
        } else {
            IPv6Writer(header).fill(
                trafficClass: 0, payloadLength: length - IPv6Header.byteCount, nextHeader: protocolNumber,
                source: source, destination: destination)
        }
    }
}
