// IP addresses and prefixes as plain integers, one form for both families.
// Text forms live in Settings: this module must stay free of Glibc and Foundation.

/// An IPv4 or IPv6 address in host byte order. IPv4 is held as `::ffff:a.b.c.d`
/// (RFC 4291 §2.5.5.2), so one comparison serves both families.
public struct Address: Hashable, Sendable, BitwiseCopyable {
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

    /// The 32 bits of an IPv4 address, host byte order. Meaningless for IPv6.
    @inlinable @inline(__always)
    public var ipv4: UInt32 { UInt32(truncatingIfNeeded: low) }

    /// Network byte order: 4 bytes for IPv4, 16 for IPv6.
    public var bytes: [UInt8] {
        if isIPv4 { return (0..<4).map { UInt8(truncatingIfNeeded: ipv4 >> (24 - 8 * $0)) } }
        return (0..<16).map { index in
            let word = index < 8 ? high : low
            return UInt8(truncatingIfNeeded: word >> (56 - 8 * UInt64(index % 8)))
        }
    }
}

/// An address prefix; host bits are always zero.
public struct Prefix: Hashable, Sendable {
    public let address: Address
    /// Bits of the family's own address: 0…32 for IPv4, 0…128 for IPv6.
    public let length: Int
    public let isIPv4: Bool

    /// Masks the host bits away. nil when `length` does not fit the family.
    public init?(_ address: Address, length: Int) {
        let isIPv4 = address.isIPv4
        guard (0...(isIPv4 ? 32 : 128)).contains(length) else { return nil }
        self.isIPv4 = isIPv4
        self.length = length
        let mask = Self.mask(bits: length + (isIPv4 ? 96 : 0))
        self.address = Address(high: address.high & mask.high, low: address.low & mask.low)
    }

    /// A prefix of IPv6 also where its address is a mapped one. `length` is 0…128.
    init(ipv6 address: Address, length: Int) {
        isIPv4 = false
        self.length = length
        let mask = Self.mask(bits: length)
        self.address = Address(high: address.high & mask.high, low: address.low & mask.low)
    }

    /// The prefix that holds one address.
    public init(host address: Address) {
        self.address = address
        isIPv4 = address.isIPv4
        length = address.isIPv4 ? 32 : 128
    }

    public static let allIPv4 = Prefix(Address(ipv4: 0), length: 0)!
    // `::` is an IPv6 address, so the initialiser picks the right family.
    public static let allIPv6 = Prefix(Address(high: 0, low: 0), length: 0)!

    static func mask(bits: Int) -> Address {
        let high: UInt64 = bits >= 64 ? .max : bits == 0 ? 0 : .max << UInt64(64 - bits)
        let low: UInt64 = bits <= 64 ? 0 : .max << UInt64(128 - bits)
        return Address(high: high, low: low)
    }

    public var isHost: Bool { length == (isIPv4 ? 32 : 128) }

    public func contains(_ other: Address) -> Bool {
        guard other.isIPv4 == isIPv4 else { return false }
        let mask = Self.mask(bits: length + (isIPv4 ? 96 : 0))
        return other.high & mask.high == address.high && other.low & mask.low == address.low
    }

    /// Whether every address of `other` is also in this prefix.
    public func covers(_ other: Prefix) -> Bool {
        other.isIPv4 == isIPv4 && length <= other.length && contains(other.address)
    }

    public func overlaps(_ other: Prefix) -> Bool { covers(other) || other.covers(self) }
}
