// ProbeProtocol, what a probe asks by.

import IP

/// What a probe is made of: a TCP SYN, a datagram, or an ICMP echo request.
public enum ProbeProtocol: String, CaseIterable, Sendable, Codable {
    case tcp, udp, icmp

    /// Of the inner packet.
    func number(isIPv4: Bool) -> UInt8 {
        switch self {
        case .tcp: ProtocolNumber.tcp
        case .udp: ProtocolNumber.udp
        case .icmp: isIPv4 ? ProtocolNumber.icmp : ProtocolNumber.icmpv6
        }
    }

    public var hasPort: Bool { self != .icmp }

    /// Bytes of the transport header of a probe, options included.
    var headerBytes: Int {
        switch self {
        // The option that tells the MSS has 4 bytes.
        case .tcp: TCPHeader.byteCount + 4
        case .udp: UDPHeader.byteCount
        case .icmp: ICMPHeader.byteCount
        }
    }
}
