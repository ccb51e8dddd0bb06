// A view of packet bytes whose bounds are asserted: live in debug builds and tests, gone in release.
// Every length is proven by the caller before the read; the assertions prove the caller.

/// `count` readable bytes at `base`. Multi-byte reads are big-endian, as on the wire, but for raw ones.
@frozen public struct Bytes {
    public let base: UnsafeRawPointer
    public let count: Int

    @inlinable @inline(__always)
    public init(_ base: UnsafeRawPointer, count: Int) {
        self.base = base
        self.count = count
    }

    @inlinable @inline(__always)
    public func u8(_ offset: Int) -> UInt8 {
        assert(offset >= 0 && offset < count)
        return base.load(fromByteOffset: offset, as: UInt8.self)
    }

    @inlinable @inline(__always)
    public func u16(_ offset: Int) -> UInt16 { UInt16(bigEndian: raw(offset)) }

    @inlinable @inline(__always)
    public func u32(_ offset: Int) -> UInt32 { UInt32(bigEndian: raw(offset)) }

    @inlinable @inline(__always)
    public func u64(_ offset: Int) -> UInt64 { UInt64(bigEndian: raw(offset)) }

    /// As the bytes lie.
    @inlinable @inline(__always)
    public func raw<Word: FixedWidthInteger & BitwiseCopyable>(_ offset: Int) -> Word {
        assert(offset >= 0 && offset &+ MemoryLayout<Word>.size <= count)
        return base.loadUnaligned(fromByteOffset: offset, as: Word.self)
    }

    @inlinable @inline(__always)
    public func dropFirst(_ length: Int, count: Int) -> Bytes {
        assert(length >= 0 && count >= 0 && length &+ count <= self.count)
        return Bytes(base + length, count: count)
    }

    @inlinable @inline(__always)
    public func dropFirst(_ length: Int) -> Bytes { dropFirst(length, count: count &- length) }
}

extension UnsafeMutableRawPointer {
    @inlinable @inline(__always)
    public func storeBigEndian<Word: FixedWidthInteger & BitwiseCopyable>(_ value: Word, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: Word.self)
    }
}
