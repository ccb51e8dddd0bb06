// Random addresses and prefixes that nest and meet, and the slow and obvious reading of them.

import Glibc
import IP

extension Random {
    /// Few distinct bytes, so that prefixes often share their beginnings.
    private mutating func word() -> UInt64 {
        (0..<8).reduce(0) { word, _ in word << 8 | [0, 1, 0x7f, 0x80, 0xff][below(5)] }
    }

    public mutating func address(isIPv4: Bool) -> Address {
        if isIPv4 { return Address(ipv4: UInt32(truncatingIfNeeded: word())) }
        return Address(high: word() | 1 << 61, low: word())
    }

    public mutating func prefix() -> Prefix {
        let isIPv4 = chance(2)
        let bits = isIPv4 ? 32 : 128
        let length = chance(2) ? 8 * below(bits / 8 + 1) : below(bits + 1)
        return Prefix(address(isIPv4: isIPv4), length: length)!
    }

    /// An address in or near the prefix.
    public mutating func address(near prefix: Prefix) -> Address {
        let bits = prefix.isIPv4 ? 32 : 128
        var (high, low) = (prefix.address.high, prefix.address.low)
        // Random host bits, and at times a flip of one bit of the network's.
        let random = Address(high: next(), low: next())
        for bit in 0..<bits where bit < bits - prefix.length {
            if bit < 64 {
                low ^= random.low & 1 << UInt64(bit)
            } else {
                high ^= random.high & 1 << UInt64(bit - 64)
            }
        }
        if chance(3) {
            let bit = chance(2) ? max(0, bits - prefix.length - 1 + below(3)) : below(bits)
            if bit < 64 {
                low ^= bit < bits ? 1 << UInt64(bit) : 0
            } else if bit < bits {
                high ^= 1 << UInt64(bit - 64)
            }
        }
        return Address(high: high, low: low)
    }
}

/// An address as text, for what is said of failures.
public func text(_ address: Address) -> String {
    address.bytes.map { String($0, radix: 16) }.joined(separator: ":")
}

public func ip(_ text: String) -> Address {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 { return Address(bytes: bytes[..<4])! }
    precondition(inet_pton(AF_INET6, text, &bytes) == 1, "\(text) is no address")
    return Address(bytes: bytes)!
}

/// `ADDRESS/LENGTH`, or an address alone.
public func prefix(_ text: String) -> Prefix {
    let parts = text.split(separator: "/")
    let address = ip(String(parts[0]))
    return parts.count == 1 ? Prefix(host: address) : Prefix(address, length: Int(parts[1])!)!
}

/// Bit by bit, and of the addresses' bytes: what `Prefix.contains` says in two masks.
public func holds(_ prefix: Prefix, _ address: Address) -> Bool {
    let (left, right) = (prefix.address.bytes, address.bytes)
    guard left.count == right.count else { return false }
    return (0..<prefix.length).allSatisfy { bit in
        let mask: UInt8 = 0x80 >> UInt8(bit % 8)
        return left[bit / 8] & mask == right[bit / 8] & mask
    }
}
