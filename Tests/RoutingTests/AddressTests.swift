// Addresses and prefixes: both families in one form, host bits masked, covering and overlap.

import Testing

@testable import Routing

@Suite("Addresses and prefixes")
struct AddressTests {
    @Test("bytes go in and come out in network order", arguments: [
        [192, 0, 2, 1], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff],
    ] as [[UInt8]])
    func roundTrip(bytes: [UInt8]) throws {
        let address = try #require(Address(bytes: bytes))
        #expect(address.bytes == bytes)
        #expect(address.isIPv4 == (bytes.count == 4))
    }

    @Test("only 4 or 16 bytes are an address", arguments: [0, 3, 5, 15, 17])
    func wrongCount(count: Int) {
        #expect(Address(bytes: [UInt8](repeating: 1, count: count)) == nil)
    }

    @Test("host bits are masked at every length")
    func masks() throws {
        let address = Address(ipv4: 0xffff_ffff)
        for length in 0...32 {
            let prefix = try #require(Prefix(address, length: length))
            let expected: UInt32 = length == 0 ? 0 : .max << UInt32(32 - length)
            #expect(prefix.address.ipv4 == expected)
            #expect(prefix.contains(address))
        }
        #expect(Prefix(address, length: 33) == nil)
        let long = Address(high: .max, low: .max)
        for length in 0...128 {
            let prefix = try #require(Prefix(long, length: length))
            let bits = prefix.address.high.nonzeroBitCount + prefix.address.low.nonzeroBitCount
            #expect(bits == length)
        }
        #expect(Prefix(long, length: 129) == nil)
    }

    @Test("families never cover one another")
    func families() {
        #expect(!Prefix.allIPv4.overlaps(.allIPv6))
        #expect(!Prefix.allIPv6.contains(Address(ipv4: 1)))
        #expect(Prefix.allIPv4.covers(Prefix(host: Address(ipv4: 7))))
        #expect(!Prefix(host: Address(ipv4: 7)).covers(.allIPv4))
    }
}
