// The one table of special addresses, against the RFCs' own lists.

import IP
import TestPackets
import Testing

@Suite("Special addresses")
struct SpecialPrefixTests {
    /// The flags of the table of all prefixes that hold an address.
    private static func flags(_ text: String) -> UInt32 {
        let address = ip(text)
        return SpecialPrefix.table.filter { $0.prefix.contains(address) }.reduce(0) { $0 | $1.flags }
    }

    @Test(
        "no packet may carry it",
        arguments: [
            "0.0.0.0", "0.255.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254",
            "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.255", "::", "::1", "::192.0.2.1",
            "fec0::1", "feff::1", "ff02::1",
        ])
    func martians(text: String) {
        #expect(Self.flags(text) & AddressClass.martian != 0)
    }

    @Test(
        "an ordinary host has it",
        arguments: [
            "1.0.0.0", "10.0.0.1", "100.64.0.1", "126.255.255.255", "128.0.0.0", "169.253.255.255",
            "169.255.0.0", "192.0.2.1", "198.51.100.1", "203.0.113.1", "223.255.255.255", "2001:db8::1",
            "2000::", "fc00::1", "fdff::1", "0:0:0:0:1::", "64:ff9a::1", "fe00::1",
        ])
    func ordinary(text: String) { #expect(Self.flags(text) == 0) }

    @Test("no router forwards it", arguments: [("fe80::1", true), ("febf::1", true), ("fe7f::1", false)])
    func linkLocal(text: String, isLinkLocal: Bool) {
        #expect((Self.flags(text) & AddressClass.linkLocal != 0) == isLinkLocal)
    }

    @Test(
        "no ICMP error goes there",
        arguments: [
            ("0.0.0.0", true), ("127.0.0.1", true), ("224.0.0.1", true), ("240.0.0.1", true), ("::", true),
            ("::1", true), ("ff02::1", true), ("169.254.0.1", false), ("fe80::1", false),
            ("192.0.2.1", false),
        ])
    func hosts(text: String, isNone: Bool) {
        #expect((Self.flags(text) & AddressClass.noHost != 0) == isNone)
    }

    @Test("groups", arguments: [("224.0.0.1", true), ("240.0.0.1", true), ("ff02::1", true), ("::1", false)])
    func groups(text: String, isGroup: Bool) {
        #expect((Self.flags(text) & AddressClass.group != 0) == isGroup)
    }

    @Test(
        "an IPv4 address within",
        arguments: [
            ("64:ff9b::192.0.2.33", 0xc000_0221), ("2002:c000:221::1", 0xc000_0221 as UInt32),
        ])
    func embedded(text: String, ipv4: UInt32) {
        let address = ip(text)
        #expect(Self.flags(text) & AddressClass.embedsIPv4 != 0)
        #expect(address.embeddedIPv4 == ipv4)
    }

    @Test("what is refused depends on martians, but for link-local addresses")
    func refusals() throws {
        let loopback = try #require(SpecialPrefix.table.first { $0.prefix.contains(ip("127.0.0.1")) })
        let linkLocal = try #require(SpecialPrefix.table.first { $0.prefix.contains(ip("fe80::1")) })
        #expect(loopback.isRefused(dropMartians: true) && !loopback.isRefused(dropMartians: false))
        #expect(linkLocal.isRefused(dropMartians: true) && linkLocal.isRefused(dropMartians: false))
        #expect(SpecialPrefix.unroutableIPv6.allSatisfy { !$0.isIPv4 })
    }
}
