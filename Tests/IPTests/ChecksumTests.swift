// The fast sums against the plain one of RFC 1071, two bytes at a time.

import IP
import TestPackets
import Testing

@Suite("Checksums")
struct ChecksumTests {
    /// As the sum of a header whose bytes lie in memory, in network byte order.
    private static func network(_ value: UInt16) -> UInt16 { UInt16(bigEndian: value) }

    @Test("a sum over any length from any place", arguments: [1, 2] as [UInt64])
    func wide(seed: UInt64) {
        var random = Random(seed)
        for count in Array(1...80) + [1499, 1500, 9000, 65_535] {
            let bytes = random.bytes(count)
            let start = random.below(min(count, 40)) / 2 * 2
            let first = random.bytes(2)
            let expected = sum(first + bytes[start...])
            let found = withBytes(bytes) {
                Checksum.folded(
                    $0.wideSum(from: start, adding: UInt64(UInt16(first[0]) | UInt16(first[1]) << 8)))
            }
            #expect(Self.network(found) == expected, "seed \(seed), \(count) bytes from \(start)")
        }
    }

    @Test("carries go around the end")
    func carries() {
        #expect(Checksum.sum(.max, 1) == 1)
        #expect(Checksum.sum(.max, .max) == .max)
        #expect(Checksum.sum(0, 0) == 0)
        for (value, folded) in [
            (0, 0), (0xffff, 0xffff), (0x1_0000, 1), (0xffff_ffff, 0xffff), (.max, 0xffff),
            (0xffff_0000_0000_0000, 0xffff), (0x1_0000_0000, 1), (0xffff_fffe_ffff_ffff, 0xfffe),
        ] as [(UInt64, UInt16)] { #expect(Checksum.folded(value) == folded, "\(value)") }
        let ones = [UInt8](repeating: 0xff, count: 4000)
        #expect(withBytes(ones) { Checksum.folded($0.wideSum(from: 0)) } == 0xffff)
    }

    @Test("the sum of a header of each length", arguments: 5...15)
    func header(words: Int) {
        var random = Random(UInt64(words))
        for _ in 0..<200 {
            let bytes = random.bytes(words * 4)
            #expect(withBytes(bytes) { Self.network($0.headerSum(length: words * 4)) } == sum(bytes))
        }
    }

    @Test("a plain header's checksum by one multiplication: right ones pass, and no other")
    func quotient() {
        var random = Random(3)
        for _ in 0..<5000 {
            var header = IPHeader(from: random.bytes(4), to: random.bytes(4), protocolNumber: 4)
            header.identification = UInt16(random.below(1 << 16))
            header.trafficClass = UInt8(random.below(256))
            var bytes = header.packet([])
            #expect(withBytes(bytes) { $0.checksumQuotient <= Checksum.quotientMax })
            bytes[random.below(20)] ^= 1 << UInt8(random.below(8))
            let isRight = sum(bytes) == 0xffff
            #expect(withBytes(bytes) { $0.checksumQuotient <= Checksum.quotientMax } == isRight)
        }
        // A checksum field of 0xffff where 0 is right, and the other way round, is right as well.
        for bytes in [[UInt8](repeating: 0xff, count: 20), [0x45] + [UInt8](repeating: 0, count: 19)] {
            let isRight = sum(bytes) == 0xffff
            #expect(withBytes(bytes) { $0.checksumQuotient <= Checksum.quotientMax } == isRight)
        }
    }

    @Test("a checksum after a change is that of the changed bytes")
    func updated() {
        var random = Random(4)
        for _ in 0..<5000 {
            var bytes = random.bytes(20)
            let old = ~sum(bytes)
            let place = random.below(10) * 2
            let before = UInt16(bytes[place]) << 8 | UInt16(bytes[place + 1])
            let after = UInt16(random.below(1 << 16))
            bytes.replaceSubrange(place..<place + 2, with: word(after))
            let new = Checksum.updated(old, from: before, to: after)
            // The two zeros of one's complement are the same sum.
            #expect(new % 0xffff == ~sum(bytes) % 0xffff)
        }
        // RFC 1624 §4: where the older equation fails.
        #expect(Checksum.updated(0xdd2f, from: 0x5555, to: 0x3285) == 0x0000)
    }

    @Test("a checksum over a pseudo-header after an address changed")
    func grown() {
        var random = Random(5)
        for _ in 0..<2000 {
            let isIPv4 = random.chance(2)
            func address() -> [UInt8] { random.bytes(isIPv4 ? 4 : 16) }
            let (old, new, other) = (address(), address(), address())
            let body = random.bytes(30)
            let difference = Checksum.difference(
                from: Address(bytes: old)!, to: Address(bytes: new)!)
            let (before, after) = (sum(old + other + body), sum(new + other + body))
            let whole = Checksum.grown(~before, by: difference, isPartial: false, isUDP: false)
            #expect(whole % 0xffff == ~after % 0xffff)
            let partial = Checksum.grown(before, by: difference, isPartial: true, isUDP: false)
            #expect(partial % 0xffff == after % 0xffff)
            let datagram = Checksum.grown(~before, by: difference, isPartial: false, isUDP: true)
            #expect(datagram != 0 || ~before == 0)
        }
        // RFC 768: 0 means none and stays; one that comes to 0 is written as the other zero.
        #expect(Checksum.grown(0, by: 7, isPartial: false, isUDP: true) == 0)
        #expect(Checksum.grown(5, by: 5, isPartial: false, isUDP: true) == 0xffff)
        #expect(Checksum.grown(5, by: 5, isPartial: false, isUDP: false) == 0)
    }

    @Test("a pseudo-header is of the addresses, the protocol and the length", arguments: [true, false])
    func pseudoHeader(isIPv4: Bool) {
        var random = Random(6)
        for length in [0, 1, 8, 255, 256, 65_535] {
            let header = IPHeader(
                from: random.bytes(isIPv4 ? 4 : 16), to: random.bytes(isIPv4 ? 4 : 16), protocolNumber: 17)
            let found = withBytes(header.packet([])) {
                Checksum.folded($0.pseudoHeaderSum(isIPv4: isIPv4, length: length))
            }
            #expect(Self.network(found) == sum(header.addressBytes + word(UInt16(length)) + [0, 17]))
        }
    }

    @Test("a checksum that is written makes the whole right")
    func written() {
        var random = Random(7)
        for count in [8, 9, 20, 33, 1500] {
            var bytes = random.bytes(count)
            bytes.replaceSubrange(6..<8, with: [0, 0])
            let pseudo = random.bytes(2)
            let whole = withMemory(bytes) { base in
                base.setChecksum(
                    at: 6, over: count, adding: UInt64(UInt16(pseudo[0]) | UInt16(pseudo[1]) << 8))
                return Array(UnsafeRawBufferPointer(start: base, count: count))
            }
            #expect(sum(pseudo + whole) == 0xffff)
        }
    }
}
