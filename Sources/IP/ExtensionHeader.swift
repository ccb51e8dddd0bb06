// IPv6 extension headers (RFC 8200 §4): their fields, and the one walk over them.

public enum ExtensionHeader {
    /// Bytes of the shortest.
    @inlinable public static var byteCount: Int { 8 }
    /// Where the options of hop-by-hop and destination options begin.
    @inlinable public static var optionsOffset: Int { 2 }
    /// Where the length stands, in units of 8 bytes without the first 8.
    @inlinable public static var lengthOffset: Int { 1 }

    /// Those that an end node goes behind to find what a packet carries.
    public static let walked = [
        ProtocolNumber.hopByHop, ProtocolNumber.routing, ProtocolNumber.fragment,
        ProtocolNumber.destinationOptions,
    ]

    /// Whether `walked` holds it.
    @inlinable @inline(__always)
    public static func isWalked(_ number: UInt8) -> Bool {
        number == ProtocolNumber.hopByHop || number == ProtocolNumber.routing
            || number == ProtocolNumber.fragment || number == ProtocolNumber.destinationOptions
    }
}

/// A place in the chain: the header at `offset` is of protocol `number`.
@frozen public struct ExtensionHeaderWalk {
    /// Of the header that comes next, or of the upper layer.
    public private(set) var number: UInt8
    public private(set) var offset = IPv6Header.byteCount
    /// The byte that names it.
    public private(set) var namedAt = IPv6Header.Offset.nextHeader
    /// Headers that lie behind.
    public private(set) var count = 0

    /// At the first header of `packet`.
    public init(_ packet: Bytes) { number = packet.ipv6.nextHeader }

    /// Goes behind the header at `offset`, which is of `ExtensionHeader.walked` or an authentication
    /// header (RFC 4302). It may end behind `end`, which the caller has to see.
    /// - Returns: its number and where it begins; nil, and nothing changed, when less than 8 bytes
    ///   are left before `end`.
    public mutating func next(in packet: Bytes, end: Int) -> (number: UInt8, offset: Int)? {
        guard end &- offset >= ExtensionHeader.byteCount else { return nil }
        let header = (number: number, offset: offset)
        let units = Int(packet.u8(offset &+ ExtensionHeader.lengthOffset))
        namedAt = offset
        number = packet.u8(offset)
        switch header.number {
        case ProtocolNumber.fragment: offset &+= FragmentHeader.byteCount
        // RFC 4302 §2.2: words of 4 bytes, without the first 2.
        case ProtocolNumber.authentication: offset &+= (units &+ 2) << 2
        default: offset &+= (units &+ 1) << 3
        }
        count &+= 1
        return header
    }
}

/// RFC 8200 §4.5.
@frozen public struct FragmentHeader {
    @inlinable public static var byteCount: Int { 8 }
    /// Where offset and flags stand.
    @inlinable public static var fragmentOffset: Int { 2 }
    /// The bits of them that are the offset in bytes.
    @inlinable public static var offsetMask: UInt16 { 0xfff8 }

    private let bytes: Bytes

    init(_ bytes: Bytes) { self.bytes = bytes }

    public var nextHeader: UInt8 { bytes.u8(0) }
    /// Bytes; 0 in the first fragment.
    public var fragmentOffset: Int { Int(bytes.u16(Self.fragmentOffset) & Self.offsetMask) }
    public var moreFragments: Bool { bytes.u16(Self.fragmentOffset) & 1 != 0 }
    public var identification: UInt32 { bytes.u32(4) }
    /// A whole packet all the same (RFC 6946).
    public var isAtomic: Bool { fragmentOffset == 0 && !moreFragments }
}

/// RFC 8200 §4.4.
@frozen public struct RoutingHeader {
    private let bytes: Bytes

    init(_ bytes: Bytes) { self.bytes = bytes }

    public var routingType: UInt8 { bytes.u8(2) }
    public var segmentsLeft: UInt8 { bytes.u8(3) }
}

extension Bytes {
    public func fragmentHeader(at offset: Int) -> FragmentHeader { FragmentHeader(dropFirst(offset)) }
    public func routingHeader(at offset: Int) -> RoutingHeader { RoutingHeader(dropFirst(offset)) }
}
