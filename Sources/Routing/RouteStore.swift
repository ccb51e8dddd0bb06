// One routing table of one family as its writer keeps it: prefix → what routes there are to it.

import IP

/// One route of a prefix, without what all routes of the prefix share.
struct RouteSpec: Hashable, Sendable {
    var kind: RouteKind
    var metric: UInt32
    var tos: UInt8
    var interfaces: [Int32]
    /// As many as interfaces.
    var gateways: [UInt32]

    init(_ entry: RouteEntry) {
        kind = entry.kind
        metric = entry.metric
        tos = entry.tos
        interfaces = entry.interfaces
        gateways = entry.gateways
    }
}

extension RouteSpec {
    func entry(_ prefix: Prefix, _ table: UInt32) -> RouteEntry {
        RouteEntry(
            prefix: prefix, table: table, kind: kind, metric: metric, tos: tos,
            interfaces: interfaces, gateways: gateways)
    }

    /// What decides whether an IPv6 route may be one of several (`rt6_qualify_for_ecmp`).
    var hasGateway: Bool { gateways.contains { $0 != 0 } }

    private func place(ofHop index: Int, of other: RouteSpec) -> Int? {
        interfaces.indices.first {
            interfaces[$0] == other.interfaces[index] && gateways[$0] == other.gateways[index]
        }
    }

    var isSingle: Bool { interfaces.count <= 1 }

    /// Takes out what it has of the other's nexthops.
    /// - Returns: whether it had them all.
    @discardableResult
    mutating func removeHops(of other: RouteSpec) -> Bool {
        var hadAll = true
        for index in other.interfaces.indices {
            if let place = place(ofHop: index, of: other) {
                interfaces.remove(at: place)
                gateways.remove(at: place)
            } else {
                hadAll = false
            }
        }
        return hadAll
    }

    func holdsHops(of other: RouteSpec) -> Bool {
        var rest = self
        return rest.removeHops(of: other)
    }
}

struct TableID: Hashable, Sendable {
    var isIPv4: Bool
    var table: UInt32
}

extension TableID {
    /// What a lookup asks: 0 is main (net/ipv4/fib_frontend.c `fib_get_table`).
    init(isIPv4: Bool, asked table: UInt32) {
        self.init(isIPv4: isIPv4, table: table == 0 ? RouteEntry.tableMain : table)
    }
}

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
