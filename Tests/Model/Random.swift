// SplitMix64: the same numbers from the same seed, everywhere.

import Forwarding
import IP

public struct Random: Sendable {
    private var state: UInt64

    public init(_ seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    public mutating func below(_ bound: Int) -> Int {
        Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(bound)).high)
    }

    mutating func chance(_ oneIn: Int) -> Bool { below(oneIn) == 0 }
    mutating func percent(_ share: Int) -> Bool { below(100) < share }
    mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next() >> 32) }
    mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }
}

/// Small blocks of addresses, so that what a policy names and what packets carry often meet.
enum Block: CaseIterable {
    case local, remote, pod, client

    /// Bits of an address that vary.
    private var bits: Int {
        switch self {
        case .local: 3
        case .remote: 5
        case .pod: 5
        case .client: 6
        }
    }

    private var ipv4: UInt32 {
        switch self {
        case .local: 0xc000_0200
        case .remote: 0xc633_6400
        case .pod: 0x0a02_0100
        case .client: 0xcb00_7100
        }
    }

    func address(isIPv4: Bool, _ random: inout Random) -> Address {
        let host = random.below(1 << bits)
        if isIPv4 { return Address(ipv4: ipv4 + UInt32(host)) }
        return Address(high: 0x2001_0db8_0000_0000 + UInt64(ipv4 >> 8), low: UInt64(host))
    }

    /// Hosts, parts of the block, and at times more than all of it.
    func prefix(isIPv4: Bool, hosts percent: Int, _ random: inout Random) -> Prefix {
        let address = address(isIPv4: isIPv4, &random)
        if random.percent(percent) { return Prefix(host: address) }
        let full = isIPv4 ? 32 : 128
        let length =
            random.chance(12)
            ? [0, 1, 8, full - 8][random.below(4)]
            : full - random.below(bits + 2)
        return Prefix(address, length: length)!
    }
}

extension Prefix {
    /// An address in it, near its start.
    func address(_ random: inout Random) -> Address {
        let bits = min(6, (isIPv4 ? 32 : 128) - length)
        let host = UInt64(random.below(1 << bits))
        // Beside 0.0.0.0 and :: the first addresses of a wide prefix are martians.
        if length == 0 {
            return Block.allCases[random.below(4)].address(isIPv4: isIPv4, &random)
        }
        return Address(high: address.high, low: address.low | host)
    }
}
