// IP addresses as plain integers, one form for both families.
// Text forms live in Settings: this module must stay free of Glibc and Foundation.

/// An IPv4 or IPv6 address in host byte order. IPv4 is held as `::ffff:a.b.c.d`
/// (RFC 4291 §2.5.5.2), so one comparison serves both families.
public struct Address: Hashable, Sendable, BitwiseCopyable, Codable {
    /// Bits 127…64.
    public let high: UInt64
    /// Bits 63…0.
    public let low: UInt64

    @inlinable @inline(__always)
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// An IPv4 address from its 32 bits in host byte order.
    @inlinable @inline(__always)
    public init(ipv4: UInt32) {
        high = 0
        low = 0xffff_0000_0000 | UInt64(ipv4)
    }

    /// Four bytes (IPv4) or sixteen (IPv6) in network byte order; nil for any other count.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for byte in bytes {
            high = high << 8 | low >> 56
            low = low << 8 | UInt64(byte)
        }
        if bytes.count == 4 {
            self.init(ipv4: UInt32(truncatingIfNeeded: low))
        } else {
            self.init(high: high, low: low)
        }
    }

    @inlinable @inline(__always)
    public var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

    /// `0.0.0.0` or `::`.
    public var isUnspecified: Bool { high == 0 && (low == 0 || low == 0xffff << 32) }

    /// The 32 bits of an IPv4 address, host byte order. Meaningless for IPv6.
    @inlinable @inline(__always)
    public var ipv4: UInt32 { UInt32(truncatingIfNeeded: low) }

    /// Network byte order: 4 bytes for IPv4, 16 for IPv6.
    public var bytes: [UInt8] { Array(bytesIPv6.suffix(isIPv4 ? 4 : 16)) }

    /// All sixteen, also of IPv4.
    var bytesIPv6: [UInt8] {
        (0..<16).map { index in
            UInt8(truncatingIfNeeded: (index < 8 ? high : low) >> (56 - 8 * UInt64(index % 8)))
        }
    }
}
