// Addresses and prefixes: bytes, families, masks, containment.

import IP
import TestPackets
import Testing

@Suite("Addresses and prefixes")
struct AddressTests {
    @Test("bytes there and back")
    func bytes() {
        var random = Random(1)
        for _ in 0..<500 {
            let address = random.address(isIPv4: random.chance(2))
            #expect(Address(bytes: address.bytes) == address)
            #expect(address.bytes.count == (address.isIPv4 ? 4 : 16))
        }
        #expect(ip("192.0.2.1").bytes == [192, 0, 2, 1])
        let zeros = [UInt8](repeating: 0, count: 11)
        #expect(ip("2001:db8::ff").bytes == [0x20, 1, 0x0d, 0xb8] + zeros + [255])
        for count in 0...20 where count != 4 && count != 16 {
            #expect(Address(bytes: [UInt8](repeating: 1, count: count)) == nil)
        }
    }

    @Test("families: a mapped address is IPv4's")
    func families() {
        #expect(ip("::ffff:192.0.2.1") == ip("192.0.2.1"))
        for text in [
            "::", "::1", "::192.0.2.1", "::fffe:192.0.2.1", "::1:ffff:192.0.2.1",
            "1::ffff:1.2.3.4",
        ] {
            #expect(!ip(text).isIPv4, "\(text)")
        }
        #expect(Prefix.allIPv4 == prefix("0.0.0.0/0") && Prefix.allIPv4.isIPv4)
        #expect(Prefix.allIPv6 == prefix("::/0") && !Prefix.allIPv6.isIPv4)
    }

    @Test("lengths that fit no family")
    func lengths() {
        for length in [33, 128, -1] { #expect(Prefix(ip("10.0.0.0"), length: length) == nil) }
        for length in [129, -1] { #expect(Prefix(ip("::"), length: length) == nil) }
        #expect(Prefix(ip("10.0.0.0"), length: 32)?.isHost == true)
        #expect(Prefix(ip("10.0.0.0"), length: 31)?.isHost == false)
        #expect(Prefix(ip("::"), length: 128)?.isHost == true)
        #expect(Prefix(ip("::"), length: 32)?.isHost == false)
    }

    @Test("host bits are masked away", arguments: 0...128)
    func masks(length: Int) {
        let ones = Address(high: .max, low: .max)
        let six = Prefix(ones, length: length)!
        let bits = six.address.bytes.flatMap { byte in (0..<8).map { byte >> (7 - $0) & 1 } }
        #expect(bits == (0..<128).map { $0 < length ? 1 : 0 })
        guard length <= 32 else { return }
        let four = Prefix(Address(ipv4: .max), length: length)!
        #expect(four.isIPv4 && four.address.isIPv4)
        #expect(four.address.ipv4 == (length == 0 ? 0 : UInt32.max << UInt32(32 - length)))
    }

    @Test("contains, covers, overlaps against bit by bit", arguments: [1, 2, 3] as [UInt64])
    func containment(seed: UInt64) {
        var random = Random(seed)
        var contained = 0
        for _ in 0..<3_000 {
            let one = random.prefix()
            let address = random.address(near: one)
            contained += holds(one, address) ? 1 : 0
            if one.contains(address) != holds(one, address) {
                Issue.record("seed \(seed): \(text(one.address))/\(one.length), \(text(address))")
            }
            let length = min(one.length + random.below(3), address.isIPv4 ? 32 : 128)
            let other = random.chance(2) ? random.prefix() : Prefix(address, length: length)!
            let covers = one.length <= other.length && holds(one, other.address)
            let covered = other.length <= one.length && holds(other, one.address)
            if one.covers(other) != covers || one.overlaps(other) != (covers || covered) {
                Issue.record(
                    """
                    seed \(seed): \(text(one.address))/\(one.length), \
                    \(text(other.address))/\(other.length)
                    """)
            }
        }
        #expect(contained > 500 && contained < 2_900)
    }

    @Test("no prefix of one family holds the other's")
    func otherFamily() {
        #expect(!Prefix.allIPv4.contains(ip("::1")) && !Prefix.allIPv6.contains(ip("10.0.0.1")))
        #expect(!Prefix.allIPv6.covers(prefix("10.0.0.0/8")) && !Prefix.allIPv4.overlaps(.allIPv6))
    }
}
