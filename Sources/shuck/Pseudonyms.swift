// Pseudonyms of addresses: two addresses share as many leading bits as their pseudonyms do.

import IP
import Settings

/// A prefix-preserving permutation of all addresses, after Xu, Fan, Ammar and Moon (Crypto-PAn, 2002): the
/// bits before a bit decide by a keyed hash whether it is flipped.
struct Pseudonyms {
    private let key: (UInt64, UInt64)

    init(key: (UInt64, UInt64)) { self.key = key }

    /// With a key that nobody learns.
    static func random() -> Pseudonyms {
        Pseudonyms(key: (.random(in: .min ... .max), .random(in: .min ... .max)))
    }

    /// Prefixes whose addresses are their own pseudonyms: each means something to everybody.
    static let kept = [
        // "This network", loopback, link-local, multicast, reserved.
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
        // Documentation (RFC 5737, 3849, 9637).
        "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20",
        // Unspecified, loopback, link-local, multicast.
        "::/127", "fe80::/10", "ff00::/8",
    ].compactMap { Prefix($0) }

    /// Prefixes whose addresses have pseudonyms within the same prefix, because shuck or the kernel treats
    /// them in their own way: private, shared, embedded IPv4, site-local, unique local, global unicast.
    static let permuted = [
        "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16",
        "::/96", "64:ff9b::/96", "2002::/16", "fec0::/10", "fc00::/7", "2000::/3",
    ].compactMap { Prefix($0) }

    private static let own = kept + permuted

    func pseudonym(of address: Address) -> Address {
        let isIPv4 = address.isIPv4
        if Self.kept.contains(where: { $0.contains(address) }) { return address }
        let first = isIPv4 ? 96 : 0
        var (high, low) = (address.high, address.low)
        for bit in first..<128 where isFlipped(bit, of: address, isIPv4: isIPv4) {
            if bit < 64 { high ^= 1 << UInt64(63 - bit) } else { low ^= 1 << UInt64(127 - bit) }
        }
        return Address(high: high, low: low)
    }

    /// Of a prefix: its own bits only.
    func pseudonym(of prefix: Prefix) -> Prefix {
        let address = pseudonym(of: prefix.address)
        return Prefix(address, length: prefix.length) ?? prefix
    }

    /// Never on the way to a prefix of its own: the way there is that prefix's alone.
    private func isFlipped(_ bit: Int, of address: Address, isIPv4: Bool) -> Bool {
        let mask = Prefix.mask(bits: bit)
        let (high, low) = (address.high & mask.high, address.low & mask.low)
        let leadsToOwn = Self.own.contains { prefix in
            prefix.isIPv4 == isIPv4 && prefix.length + (isIPv4 ? 96 : 0) > bit
                && prefix.address.high & mask.high == high && prefix.address.low & mask.low == low
        }
        if leadsToOwn { return false }
        return sipHash([high, low, UInt64(bit) << 1 | (isIPv4 ? 1 : 0)], key: key) & 1 == 1
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of whole words, each in little-endian order.
func sipHash(_ words: [UInt64], key: (UInt64, UInt64)) -> UInt64 {
    var state: (UInt64, UInt64, UInt64, UInt64) = (
        key.0 ^ 0x736f_6d65_7073_6575, key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261, key.1 ^ 0x7465_6462_7974_6573
    )
    func rotate(_ word: UInt64, _ bits: UInt64) -> UInt64 { word << bits | word >> (64 - bits) }
    func round() {
        state.0 &+= state.1
        state.1 = rotate(state.1, 13) ^ state.0
        state.0 = rotate(state.0, 32)
        state.2 &+= state.3
        state.3 = rotate(state.3, 16) ^ state.2
        state.0 &+= state.3
        state.3 = rotate(state.3, 21) ^ state.0
        state.2 &+= state.1
        state.1 = rotate(state.1, 17) ^ state.2
        state.2 = rotate(state.2, 32)
    }
    for word in words + [UInt64(words.count * 8) << 56] {
        state.3 ^= word
        round()
        round()
        state.0 ^= word
    }
    state.2 ^= 0xff
    for _ in 0..<4 { round() }
    return state.0 ^ state.1 ^ state.2 ^ state.3
}
