// Writes fields of an IPv4 header (RFC 791 §3.1).

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
