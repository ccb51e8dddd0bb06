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

/// Writes the fields of a header; whoever changes one sees to the checksum.
@frozen public struct IPv4Writer {
    public typealias Offset = IPv4Header.Offset

    @usableFromInline let base: UnsafeMutableRawPointer

    @inlinable @inline(__always)
    public init(_ base: UnsafeMutableRawPointer) { self.base = base }

    @inlinable @inline(__always)
    public func set(typeOfService: UInt8) { base.storeBigEndian(typeOfService, at: Offset.typeOfService) }
    @inlinable @inline(__always)
    public func set(totalLength: UInt16) { base.storeBigEndian(totalLength, at: Offset.totalLength) }
    @inlinable @inline(__always)
    public func set(fragment: UInt16) { base.storeBigEndian(fragment, at: Offset.fragment) }
    @inlinable @inline(__always)
    public func set(timeToLive: UInt8) { base.storeBigEndian(timeToLive, at: Offset.timeToLive) }
    @inlinable @inline(__always)
    public func set(headerChecksum: UInt16) { base.storeBigEndian(headerChecksum, at: Offset.headerChecksum) }

    /// A checksum that fits the rest of a header of so many bytes.
    public func setHeaderChecksum(headerLength: Int) {
        set(headerChecksum: 0)
        let sum = Bytes(base, count: headerLength).headerSum(length: headerLength)
        base.storeBytes(of: ~sum, toByteOffset: Offset.headerChecksum, as: UInt16.self)
    }

    /// A header without options of a packet that is no fragment.
    /// - Parameter addresses: source and destination, network byte order.
    public func fill(
        typeOfService: UInt8, totalLength: Int, identification: UInt16 = 0, fragment: UInt16 = 0,
        timeToLive: UInt8 = 64, protocolNumber: UInt8, source: UInt32, destination: UInt32
    ) {
        base.storeBigEndian(0x4500 | UInt16(typeOfService), at: 0)
        set(totalLength: UInt16(truncatingIfNeeded: totalLength))
        base.storeBigEndian(identification, at: Offset.identification)
        set(fragment: fragment)
        base.storeBigEndian(
            UInt16(timeToLive) << 8 | UInt16(protocolNumber), at: Offset.timeToLive)
        base.storeBigEndian(source, at: Offset.source)
        base.storeBigEndian(destination, at: Offset.destination)
        setHeaderChecksum(headerLength: IPv4Header.byteCount)
    }
}
