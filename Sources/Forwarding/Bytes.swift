// A view of packet bytes whose bounds are asserted: live in debug builds and tests, gone in release.
// Every length is proven by the caller before the read; the assertions prove the caller.

/// `count` readable bytes at `base`. Multi-byte reads are big-endian, as on the wire.
struct Bytes {
    let base: UnsafeRawPointer
    let count: Int

    @inline(__always)
    init(_ base: UnsafeRawPointer, count: Int) {
        self.base = base
        self.count = count
    }

    @inline(__always)
    func u8(_ offset: Int) -> UInt8 {
        assert(offset >= 0 && offset < count)
        return base.load(fromByteOffset: offset, as: UInt8.self)
    }

    @inline(__always)
    func u16(_ offset: Int) -> UInt16 {
        assert(offset >= 0 && offset &+ 2 <= count)
        return UInt16(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    @inline(__always)
    func u32(_ offset: Int) -> UInt32 {
        assert(offset >= 0 && offset &+ 4 <= count)
        return UInt32(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inline(__always)
    func u64(_ offset: Int) -> UInt64 {
        assert(offset >= 0 && offset &+ 8 <= count)
        return UInt64(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inline(__always)
    func dropFirst(_ length: Int, count: Int) -> Bytes {
        assert(length >= 0 && count >= 0 && length &+ count <= self.count)
        return Bytes(base + length, count: count)
    }

    /// Eight bytes as they lie.
    @inline(__always)
    func raw64(_ offset: Int) -> UInt64 {
        assert(offset >= 0 && offset &+ 8 <= count)
        return base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    /// Whether an IPv4 header has 20 bytes, no more-fragments and no offset.
    @inline(__always)
    var isPlainIPv4: Bool {
        raw64(0) & UInt64(bigEndian: 0xff00_0000_0000_3fff)
            == UInt64(bigEndian: 0x4500_0000_0000_0000)
    }

    /// At most `checksumQuotientMax` when the 20 bytes of an IPv4 header without options sum to
    /// 0xffff (RFC 1071), more when not. Carrying around the end keeps a sum's remainder by 65535,
    /// so the sum must be a multiple of it; and a number is a multiple of an odd one when its
    /// product with the inverse modulo 2^64, then its quotient, is small. A sum of 0 would be
    /// one too, but no header with a version has it.
    @inline(__always)
    var checksumQuotient20: UInt64 {
        let last = UInt64(base.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
        let (sum, carry) = raw64(0).addingReportingOverflow(raw64(8))
        let (total, again) = sum.addingReportingOverflow(last &+ (carry ? 1 : 0))
        return (total &+ (again ? 1 : 0)) &* 0xfffe_fffe_fffe_ffff
    }

    static let checksumQuotientMax = UInt64.max / 65_535

    /// The sum that RFC 1071 takes over `length` bytes (a multiple of 4), folded to 16 bits.
    /// One's complement sums do not depend on byte order (§2 B), so words are added as they lie.
    @inline(__always)
    func onesComplementSum(length: Int) -> UInt16 {
        assert(length <= count && length % 4 == 0)
        var sum: UInt64 = 0
        var offset = 0
        while offset < length {
            sum &+= UInt64(base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            offset &+= 4
        }
        sum = (sum & 0xffff_ffff) &+ (sum >> 32)
        sum = (sum & 0xffff) &+ (sum >> 16)
        sum = (sum & 0xffff) &+ (sum >> 16)
        sum = (sum & 0xffff) &+ (sum >> 16)
        return UInt16(truncatingIfNeeded: sum)
    }
}

/// RFC 1624 §3 eqn. 3: the checksum after a 16-bit word of the covered data changed.
/// A wrong checksum stays wrong by as much.
@inline(__always)
func updatedChecksum(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
    var sum = UInt32(~checksum) &+ UInt32(~old) &+ UInt32(new)
    sum = (sum & 0xffff) &+ (sum >> 16)
    sum = (sum & 0xffff) &+ (sum >> 16)
    return ~UInt16(truncatingIfNeeded: sum)
}

extension UnsafeMutableRawPointer {
    @inline(__always)
    func storeBigEndian(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }
}
