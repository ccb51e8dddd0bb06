// The Internet checksum (RFC 1071): the plain sum, and those that are fast where a packet is common.
// One's complement sums do not depend on byte order (§2 B), so words are added as they lie.

public enum Checksum {
    /// One's complement sum of two 64-bit sums: the carry goes around the end.
    @inlinable @inline(__always)
    public static func sum(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (sum, carry) = left.addingReportingOverflow(right)
        return sum &+ (carry ? 1 : 0)
    }

    /// The 16-bit sum of what a 64-bit one adds up; 0 only when all of it is 0.
    @inlinable @inline(__always)
    public static func folded(_ sum: UInt64) -> UInt16 {
        var sum = (sum & 0xffff_ffff) &+ (sum >> 32)
        sum = (sum & 0xffff) &+ (sum >> 16)
        sum = (sum & 0xffff) &+ (sum >> 16)
        sum = (sum & 0xffff) &+ (sum >> 16)
        return UInt16(truncatingIfNeeded: sum)
    }

    /// RFC 1624 §3 eqn. 3: the checksum after a 16-bit word of the covered data changed.
    /// A wrong checksum stays wrong by as much.
    @inlinable @inline(__always)
    public static func updated(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
        var sum = UInt32(~checksum) &+ UInt32(~old) &+ UInt32(new)
        sum = (sum & 0xffff) &+ (sum >> 16)
        sum = (sum & 0xffff) &+ (sum >> 16)
        return ~UInt16(truncatingIfNeeded: sum)
    }

    /// What the sum over an address grows by when it becomes another: RFC 1624 §3 eqn. 3, its middle
    /// terms for the eight words, ~m + m'. In host byte order.
    public static func difference(from old: Address, to new: Address) -> UInt16 {
        folded(sum(sum(~old.high, ~old.low), sum(new.high, new.low)))
    }

    /// The checksum after the sum over the pseudo-header grew by `difference`.
    /// - Parameter isPartial: it is that sum itself, which the kernel will finish; else it is the
    ///   complement of a sum that it is part of.
    /// - Parameter isUDP: 0 means none and stays; one that comes to 0 is written as the other zero
    ///   (RFC 768).
    public static func grown(
        _ old: UInt16, by difference: UInt16, isPartial: Bool, isUDP: Bool
    ) -> UInt16 {
        if isPartial { return folded(UInt64(old) &+ UInt64(difference)) }
        if isUDP && old == 0 { return 0 }
        let new = ~folded(UInt64(~old) &+ UInt64(difference))
        return isUDP && new == 0 ? 0xffff : new
    }

    /// See `Bytes.checksumQuotient`.
    @inlinable public static var quotientMax: UInt64 { .max / 65_535 }
}

extension Bytes {
    /// The sum over the first `length` bytes, a multiple of 4, folded: 0xffff of a header whose
    /// checksum is right.
    @inlinable @inline(__always)
    public func headerSum(length: Int) -> UInt16 {
        assert(length <= count && length % 4 == 0)
        var sum: UInt64 = 0
        var offset = 0
        while offset < length {
            sum &+= UInt64(raw(offset) as UInt32)
            offset &+= 4
        }
        return Checksum.folded(sum)
    }

    /// At most `Checksum.quotientMax` when the 20 bytes of an IPv4 header without options sum to
    /// 0xffff, more when not. Carrying around the end keeps a sum's remainder by 65535, so the sum
    /// must be a multiple of it; and a number is a multiple of an odd one when its product with the
    /// inverse modulo 2^64, then its quotient, is small. A sum of 0 would be one too, but no header
    /// with a version has it.
    @inlinable @inline(__always)
    public var checksumQuotient: UInt64 {
        let last = UInt64(raw(16) as UInt32)
        let (sum, carry) = (raw(0) as UInt64).addingReportingOverflow(raw(8))
        let (total, again) = sum.addingReportingOverflow(last &+ (carry ? 1 : 0))
        return (total &+ (again ? 1 : 0)) &* 0xfffe_fffe_fffe_ffff
    }

    /// The sum over all bytes from `start` on, 16 bytes a step in two chains.
    @inlinable @inline(__always)
    public func wideSum(from start: Int, adding first: UInt64 = 0) -> UInt64 {
        var (even, odd) = (first, UInt64(0))
        var offset = start
        while offset &+ 16 <= count {
            even = Checksum.sum(even, raw(offset))
            odd = Checksum.sum(odd, raw(offset &+ 8))
            offset &+= 16
        }
        even = Checksum.sum(even, odd)
        while offset &+ 2 <= count {
            even = Checksum.sum(even, UInt64(raw(offset) as UInt16))
            offset &+= 2
        }
        if offset < count { even = Checksum.sum(even, UInt64(UInt16(u8(offset)).littleEndian)) }
        return even
    }
}

extension UnsafeMutableRawPointer {
    /// Writes the checksum over `count` bytes, whose field is to hold 0 before.
    /// - Parameter sum: of what is covered beside them.
    public func setChecksum(at offset: Int, over count: Int, adding sum: UInt64 = 0) {
        let total = Bytes(self, count: count).wideSum(from: 0, adding: sum)
        storeBytes(of: ~Checksum.folded(total), toByteOffset: offset, as: UInt16.self)
    }
}
