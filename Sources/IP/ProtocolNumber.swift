// IANA's protocol numbers: what an IP header, or an IPv6 extension header, says of the header behind it.

/// Names as in IANA's registry "Assigned Internet Protocol Numbers".
public enum ProtocolNumber {
    @inlinable public static var hopByHop: UInt8 { 0 }
    @inlinable public static var icmp: UInt8 { 1 }
    @inlinable public static var igmp: UInt8 { 2 }
    @inlinable public static var ipv4: UInt8 { 4 }
    @inlinable public static var tcp: UInt8 { 6 }
    @inlinable public static var udp: UInt8 { 17 }
    @inlinable public static var dccp: UInt8 { 33 }
    @inlinable public static var ipv6: UInt8 { 41 }
    @inlinable public static var routing: UInt8 { 43 }
    @inlinable public static var fragment: UInt8 { 44 }
    @inlinable public static var gre: UInt8 { 47 }
    @inlinable public static var esp: UInt8 { 50 }
    @inlinable public static var authentication: UInt8 { 51 }
    @inlinable public static var icmpv6: UInt8 { 58 }
    @inlinable public static var noNextHeader: UInt8 { 59 }
    @inlinable public static var destinationOptions: UInt8 { 60 }
    @inlinable public static var ospf: UInt8 { 89 }
    @inlinable public static var pim: UInt8 { 103 }
    @inlinable public static var vrrp: UInt8 { 112 }
    @inlinable public static var l2tp: UInt8 { 115 }
    @inlinable public static var sctp: UInt8 { 132 }
    @inlinable public static var udplite: UInt8 { 136 }
    @inlinable public static var mplsInIP: UInt8 { 137 }

    /// Those of tunnels whose payload is an IP packet: RFC 2003, RFC 4213 and RFC 2473.
    public static let tunnels = [ipv4, ipv6]

    @inlinable @inline(__always)
    public static func isTunnel(_ number: UInt8) -> Bool { number == ipv4 || number == ipv6 }

    /// Whether the kernel takes the first four bytes for ports (include/linux/ip.h
    /// `proto_ports_offset`): of ESP it is the SPI.
    @inlinable @inline(__always)
    public static func startsWithPorts(_ number: UInt8) -> Bool { number == esp || hasPorts(number) }

    /// Whether ports stand where TCP has them.
    @inlinable @inline(__always)
    public static func hasPorts(_ number: UInt8) -> Bool {
        number == tcp || number == udp || number == sctp || number == dccp || number == udplite
    }

    /// Whether the payload is, or may hold, a packet of its own: a tunnel.
    @inlinable @inline(__always)
    public static func isNest(_ number: UInt8) -> Bool {
        number == ipv4 || number == ipv6 || number == gre || number == mplsInIP
    }
}
