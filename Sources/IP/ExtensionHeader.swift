// IPv6 extension headers (RFC 8200 §4): their numbers and fields.

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
