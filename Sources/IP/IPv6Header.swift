// The IPv6 header (RFC 8200 §3), its fields under the RFC's names.

/// Reads a header of which `byteCount` bytes are there.
@frozen public struct IPv6Header {
    @inlinable public static var byteCount: Int { 40 }

    /// Where a field stands.
    public enum Offset {
        @inlinable public static var payloadLength: Int { 4 }
        @inlinable public static var nextHeader: Int { 6 }
        @inlinable public static var hopLimit: Int { 7 }
        @inlinable public static var source: Int { 8 }
        @inlinable public static var destination: Int { 24 }
    }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var version: UInt8 { bytes.u8(0) >> 4 }
    /// It straddles bytes 0 and 1.
    @inlinable @inline(__always)
    public var trafficClass: UInt8 { UInt8(truncatingIfNeeded: bytes.u16(0) >> 4) }
    /// The two ECN bits of the traffic class, by a load of one byte.
    @inlinable @inline(__always)
    public var congestion: UInt32 { UInt32(bytes.u8(1)) >> 4 & 3 }
    @inlinable @inline(__always) public var payloadLength: UInt16 { bytes.u16(Offset.payloadLength) }
    @inlinable @inline(__always) public var nextHeader: UInt8 { bytes.u8(Offset.nextHeader) }
    @inlinable @inline(__always) public var hopLimit: UInt8 { bytes.u8(Offset.hopLimit) }
    @inlinable @inline(__always)
    public var source: Address { Address(high: bytes.u64(8), low: bytes.u64(16)) }
    @inlinable @inline(__always)
    public var destination: Address { Address(high: bytes.u64(24), low: bytes.u64(32)) }

    /// Bytes of header and payload.
    @inlinable @inline(__always) public var totalLength: Int { Self.byteCount &+ Int(payloadLength) }

    // Several fields in one load, or half of one, as they lie.

    /// Version, traffic class and flow label.
    @inlinable @inline(__always) public var versionToLabel: UInt32 { bytes.u32(0) }
    /// Next header and hop limit.
    @inlinable @inline(__always) public var nextAndLimit: UInt16 { bytes.u16(Offset.nextHeader) }
    @inlinable @inline(__always) public var rawSourceHigh: UInt64 { bytes.raw(8) }
    @inlinable @inline(__always) public var rawSourceLow: UInt64 { bytes.raw(16) }
    @inlinable @inline(__always) public var rawDestinationHigh: UInt64 { bytes.raw(24) }
    @inlinable @inline(__always) public var rawDestinationLow: UInt64 { bytes.raw(32) }
}

extension Bytes {
    /// What begins with an IPv6 header.
    @inlinable @inline(__always) public var ipv6: IPv6Header { IPv6Header(self) }
}
