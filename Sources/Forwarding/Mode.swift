// The modes of encapsulation.

import IP

/// How an inner packet came. The four encapsulations are named as the kernel's tunnel modes
/// (iproute2, ip-tunnel(8)).
public enum Mode: UInt8, CaseIterable, Sendable, Hashable, BitwiseCopyable {
    /// IPv4 in IPv4, protocol 4 (RFC 2003).
    case ipip = 0
    /// IPv6 in IPv4, protocol 41 (RFC 4213).
    case ip6ip = 1
    /// IPv4 in IPv6, next header 4 (RFC 2473).
    case ipip6 = 2
    /// IPv6 in IPv6, next header 41 (RFC 2473).
    case ip6ip6 = 3
    /// IPv6 without an outer header: a health probe whose source is rewritten.
    case native = 4

    /// The encapsulations: what a tunnel may strip.
    public static let allCases: [Mode] = [.ipip, .ip6ip, .ipip6, .ip6ip6]
    /// Raw values are below.
    public static let count = 5

    public var name: String { String(describing: self) }
    public var outerIsIPv4: Bool { self == .ipip || self == .ip6ip }
    public var innerIsIPv4: Bool { self == .ipip || self == .ipip6 }
    /// `ipip6` and `ip6ip6`, as a set of bits by raw value.
    static let overIPv6: UInt8 = 0b1100
    /// Both IP headers and TCP's, without options: what an MSS leaves of the link's MTU.
    @inline(__always)
    public var headerBytes: Int {
        (outerIsIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount)
            &+ (innerIsIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount) &+ TCPHeader.byteCount
    }
}
