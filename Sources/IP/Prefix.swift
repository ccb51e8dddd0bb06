// Prefixes of IP addresses, one form for both families.

/// An address prefix; host bits are always zero.
public struct Prefix: Hashable, Sendable, Codable {
    public let address: Address
    /// Bits of the family's own address: 0…32 for IPv4, 0…128 for IPv6.
    public let length: Int
    public let isIPv4: Bool

    /// Masks the host bits away. nil when `length` does not fit the family.
    public init?(_ address: Address, length: Int) {
        guard (0...(address.isIPv4 ? 32 : 128)).contains(length) else { return nil }
        self.init(address, length: length, isIPv4: address.isIPv4)
    }

    /// A prefix of IPv6 also where its address is a mapped one. `length` is 0…128.
    public init(ipv6 address: Address, length: Int) {
        self.init(address, length: length, isIPv4: false)
    }

    private init(_ address: Address, length: Int, isIPv4: Bool) {
        self.length = length
        self.isIPv4 = isIPv4
        let mask = Self.mask(bits: length + (isIPv4 ? 96 : 0))
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

    /// The first `bits` bits of 128 set.
    public static func mask(bits: Int) -> Address {
        let high: UInt64 = bits >= 64 ? .max : bits == 0 ? 0 : .max << UInt64(64 - bits)
        let low: UInt64 = bits <= 64 ? 0 : .max << UInt64(128 - bits)
        return Address(high: high, low: low)
    }

    public var isHost: Bool { length == (isIPv4 ? 32 : 128) }

    /// Ones where the prefix's bits are.
    public var mask: Address { Self.mask(bits: length + (isIPv4 ? 96 : 0)) }

    /// Of the address, network byte order: 4 for IPv4, 16 for IPv6.
    public var bytes: [UInt8] { isIPv4 ? address.bytes : address.bytesIPv6 }

    public func contains(_ other: Address) -> Bool { other.isIPv4 == isIPv4 && matches(other) }

    /// Whether every address of `other` is also in this prefix.
    public func covers(_ other: Prefix) -> Bool {
        other.isIPv4 == isIPv4 && length <= other.length && matches(other.address)
    }

    private func matches(_ other: Address) -> Bool {
        other.high & mask.high == address.high && other.low & mask.low == address.low
    }

    public func overlaps(_ other: Prefix) -> Bool { covers(other) || other.covers(self) }
}

extension Prefix: Comparable {
    /// By family, address and length: a prefix stands right before those within it.
    public static func < (left: Prefix, right: Prefix) -> Bool {
        if left.isIPv4 != right.isIPv4 { return left.isIPv4 }
        return (left.address.high, left.address.low, left.length)
            < (right.address.high, right.address.low, right.length)
    }
}
