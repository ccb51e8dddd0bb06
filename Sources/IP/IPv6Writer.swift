// Writes fields of an IPv6 header (RFC 8200 §3).

/// Writes the fields of a header.
@frozen public struct IPv6Writer {
    public typealias Offset = IPv6Header.Offset

    @usableFromInline let base: UnsafeMutableRawPointer

    @inlinable @inline(__always)
    public init(_ base: UnsafeMutableRawPointer) { self.base = base }

    public func set(trafficClass: UInt8) {
        let old = Bytes(base, count: IPv6Header.byteCount).u16(0)
        base.storeBigEndian(old & 0xf00f | UInt16(trafficClass) << 4, at: 0)
    }
    @inlinable @inline(__always)
    public func set(payloadLength: UInt16) { base.storeBigEndian(payloadLength, at: Offset.payloadLength) }
    @inlinable @inline(__always)
    public func set(hopLimit: UInt8) { base.storeBigEndian(hopLimit, at: Offset.hopLimit) }
    public func set(source: Address) { set(source, at: Offset.source) }
    public func set(destination: Address) { set(destination, at: Offset.destination) }

    private func set(_ address: Address, at offset: Int) {
        base.storeBigEndian(address.high, at: offset)
        base.storeBigEndian(address.low, at: offset &+ 8)
    }

    public func fill(
        trafficClass: UInt8, flowLabel: UInt32 = 0, payloadLength: Int, nextHeader: UInt8,
        hopLimit: UInt8 = 64, source: Address, destination: Address
    ) {
        base.storeBigEndian(6 << 28 | UInt32(trafficClass) << 20 | flowLabel, at: 0)
        set(payloadLength: UInt16(truncatingIfNeeded: payloadLength))
        base.storeBigEndian(
            UInt16(nextHeader) << 8 | UInt16(hopLimit), at: Offset.nextHeader)
        set(source: source)
        set(destination: destination)
    }
}
