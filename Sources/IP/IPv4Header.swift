// The IPv4 header (RFC 791 §3.1), its fields under the RFC's names.

/// Reads a header of which at least `byteCount` bytes are there.
@frozen public struct IPv4Header {
    /// Bytes without options.
    @inlinable public static var byteCount: Int { 20 }

    /// Where a field stands.
    public enum Offset {
        @inlinable public static var typeOfService: Int { 1 }
        @inlinable public static var totalLength: Int { 2 }
        @inlinable public static var identification: Int { 4 }
        @inlinable public static var fragment: Int { 6 }
        @inlinable public static var timeToLive: Int { 8 }
        @inlinable public static var protocolNumber: Int { 9 }
        @inlinable public static var headerChecksum: Int { 10 }
        @inlinable public static var source: Int { 12 }
        @inlinable public static var destination: Int { 16 }
    }

    // Flags and offset of the fragment field.
    @inlinable public static var dontFragment: UInt16 { 0x4000 }
    @inlinable public static var moreFragments: UInt16 { 0x2000 }
    @inlinable public static var offsetMask: UInt16 { 0x1fff }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var version: UInt8 { bytes.u8(0) >> 4 }
    /// Bytes, options included.
    @inlinable @inline(__always) public var headerLength: Int { Int(bytes.u8(0) & 15) << 2 }
    @inlinable @inline(__always) public var typeOfService: UInt8 { bytes.u8(Offset.typeOfService) }
    @inlinable @inline(__always) public var totalLength: UInt16 { bytes.u16(Offset.totalLength) }
    @inlinable @inline(__always) public var identification: UInt16 { bytes.u16(Offset.identification) }
    /// Flags and offset together.
    @inlinable @inline(__always) public var fragment: UInt16 { bytes.u16(Offset.fragment) }
    @inlinable @inline(__always) public var timeToLive: UInt8 { bytes.u8(Offset.timeToLive) }
    @inlinable @inline(__always) public var protocolNumber: UInt8 { bytes.u8(Offset.protocolNumber) }
    @inlinable @inline(__always) public var headerChecksum: UInt16 { bytes.u16(Offset.headerChecksum) }
    /// Host byte order.
    @inlinable @inline(__always) public var source: UInt32 { bytes.u32(Offset.source) }
    @inlinable @inline(__always) public var destination: UInt32 { bytes.u32(Offset.destination) }

    /// Bytes; 0 in the first fragment and in a whole packet.
    @inlinable @inline(__always)
    public var fragmentOffset: Int { Int(fragment & Self.offsetMask) << 3 }
    @inlinable @inline(__always)
    public var isLaterFragment: Bool { fragment & Self.offsetMask != 0 }
    @inlinable @inline(__always)
    public var isFragment: Bool { fragment & (Self.moreFragments | Self.offsetMask) != 0 }

    // Several fields in one load, as they lie.

    /// Version, header length and type of service.
    @inlinable @inline(__always) public var versionToService: UInt16 { bytes.u16(0) }
    /// Time to live and protocol.
    @inlinable @inline(__always) public var lifeAndProtocol: UInt16 { bytes.u16(Offset.timeToLive) }
    /// Source and destination.
    @inlinable @inline(__always) public var rawAddresses: UInt64 { bytes.raw(Offset.source) }
    /// Whether it has neither options nor another version, and the packet is no fragment.
    @inlinable @inline(__always)
    public var isPlain: Bool {
        bytes.raw(0) & UInt64(bigEndian: 0xff00_0000_0000_3fff)
            == UInt64(bigEndian: 0x4500_0000_0000_0000)
    }
}

extension Bytes {
    /// What begins with an IPv4 header.
    @inlinable @inline(__always) public var ipv4: IPv4Header { IPv4Header(self) }
}
