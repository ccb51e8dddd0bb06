// One routing table of one family as its writer keeps it: prefix → what routes there are to it.

import IP

/// Prefixes to numbers of route sets. Keys are packed: a million prefixes are what its memory is.
struct RouteStore {
    private struct Key: Hashable {
        var high: UInt64
        var low: UInt64
        var length: UInt8
    }
    let isIPv4: Bool
    private var four: [UInt64: UInt32] = [:]
    private var six: [Key: UInt32] = [:]
    /// How many prefixes there are of each length; and the lengths there are, longest first.
    private var counts = [Int](repeating: 0, count: 129)
    private(set) var lengths: [Int] = []
    /// TOS values of any route, to be asked for apart.
    var tosValues: Set<UInt8> = []

    init(isIPv4: Bool) { self.isIPv4 = isIPv4 }

    private static func mask(_ address: Address, _ length: Int) -> Key {
        let mask = Prefix.mask(bits: length)
        return Key(
            high: address.high & mask.high, low: address.low & mask.low, length: UInt8(length))
    }

    private static func mask(ipv4 address: UInt32, _ length: Int) -> UInt64 {
        let masked = length == 0 ? 0 : address & UInt32.max << UInt32(32 - length)
        return UInt64(masked) << 8 | UInt64(length)
    }

    /// The set of routes to the address's prefix of that length.
    func set(_ address: Address, length: Int) -> UInt32? {
        isIPv4
            ? four[Self.mask(ipv4: address.ipv4, length)] : six[Self.mask(address, length)]
    }

    subscript(prefix: Prefix) -> UInt32? {
        get { set(prefix.address, length: prefix.length) }
        set {
            let old =
                isIPv4
                ? four.replace(Self.mask(ipv4: prefix.address.ipv4, prefix.length), newValue)
                : six.replace(Self.mask(prefix.address, prefix.length), newValue)
            guard (old == nil) != (newValue == nil) else { return }
            counts[prefix.length] += newValue == nil ? -1 : 1
            if counts[prefix.length] == 0 {
                lengths.removeAll { $0 == prefix.length }
            } else if newValue != nil, counts[prefix.length] == 1 {
                lengths = (lengths + [prefix.length]).sorted(by: >)
            }
        }
    }

    func visit(_ body: (Prefix, UInt32) -> Void) {
        for (key, set) in four {
            body(Prefix(Address(ipv4: UInt32(key >> 8)), length: Int(key & 255))!, set)
        }
        for (key, set) in six {
            body(Prefix(Address(high: key.high, low: key.low), length: Int(key.length))!, set)
        }
    }
}

extension Dictionary {
    /// The value that stood there before.
    fileprivate mutating func replace(_ key: Key, _ value: Value?) -> Value? {
        if let value { return updateValue(value, forKey: key) }
        return removeValue(forKey: key)
    }
}
