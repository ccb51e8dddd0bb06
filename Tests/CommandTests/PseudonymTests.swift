// Pseudonyms of addresses, and where texts and JSON have addresses.

import Foundation
import IP
import Settings
import Testing

@testable import shuck

@Suite struct PseudonymTests {
    private let pseudonyms = Pseudonyms(key: (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908))
    private var anonymiser: Anonymiser { Anonymiser(pseudonyms: pseudonyms) }

    private func shared(_ left: Address, _ right: Address) -> Int {
        let high = (left.high ^ right.high).leadingZeroBitCount
        return high < 64 ? high : 64 + (left.low ^ right.low).leadingZeroBitCount
    }

    /// Neighbours at every distance, and the borders of the prefixes that have their own rule.
    private func addresses() -> [Address] {
        var random = SystemRandomNumberGenerator()
        let own = Pseudonyms.kept + Pseudonyms.permuted
        var found = own.map(\.address)
        for bit in 0..<128 {
            let high = UInt64.random(in: .min ... .max, using: &random)
            let low = UInt64.random(in: .min ... .max, using: &random)
            found.append(Address(high: high, low: low))
            let one = UInt64(1) << UInt64(63 - bit % 64)
            found.append(
                bit < 64 ? Address(high: high ^ one, low: low) : Address(high: high, low: low ^ one))
            found.append(Address(ipv4: UInt32(truncatingIfNeeded: low)))
            found.append(Address(ipv4: UInt32(truncatingIfNeeded: low) ^ 1 << UInt32(bit % 32)))
        }
        return found
    }

    @Test func pseudonymsShareTheBitsThatAddressesShare() {
        let pairs = addresses().map { ($0, pseudonyms.pseudonym(of: $0)) }
        for (index, left) in pairs.enumerated() {
            #expect(left.0.isIPv4 == left.1.isIPv4)
            #expect(pseudonyms.pseudonym(of: left.0) == left.1)
            for right in pairs[..<index] where left.0.isIPv4 == right.0.isIPv4 {
                let (before, after) = (shared(left.0, right.0), shared(left.1, right.1))
                if before != after { Issue.record("\(left.0.text) \(right.0.text): \(before), \(after)") }
            }
        }
        #expect(pairs.count { $0.0 != $0.1 } > 400)
    }

    @Test func specialPrefixesStayWhatTheyAre() {
        for (address, pseudonym) in addresses().map({ ($0, pseudonyms.pseudonym(of: $0)) }) {
            for prefix in Pseudonyms.kept where prefix.contains(address) || prefix.contains(pseudonym) {
                #expect(address == pseudonym, "\(address.text)")
            }
            for prefix in Pseudonyms.permuted {
                #expect(prefix.contains(address) == prefix.contains(pseudonym), "\(address.text)")
            }
        }
        #expect(Pseudonyms.kept.count == 13 && Pseudonyms.permuted.count == 10)
    }

    @Test func anotherKeyGivesOtherPseudonyms() {
        let address = Address(ipv4: 0x0a4d_0002)
        let found = Set((0..<32).map { _ in Pseudonyms.random().pseudonym(of: address) })
        #expect(found.count > 24)
    }

    /// As the reference implementation has it for the message of 8 bytes 00…07 and the key 00…0f.
    @Test func theHashIsSipHash() {
        #expect(
            sipHash([0x0706_0504_0302_0100], key: (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908))
                == 0x93f5_f579_9a93_2462)
    }

    // MARK: Texts

    private func pseudonym(_ text: String) -> String {
        Address(text).map { pseudonyms.pseudonym(of: $0).text } ?? "none"
    }

    @Test func everyFormInATextIsReplaced() {
        let four = pseudonym("10.77.0.2")
        let six = pseudonym("2400:cb00::2")
        #expect(four != "10.77.0.2" && six != "2400:cb00::2")
        for (text, expected) in [
            ("local: [10.77.0.2, \"2400:cb00::2\"]", "local: [\(four), \"\(six)\"]"),
            ("10.77.0.2:443 > [2400:cb00::2]:80", "\(four):443 > [\(six)]:80"),
            ("to 10.77.0.2. Then 2400:cb00::2: no", "to \(four). Then \(six): no"),
            ("::ffff:10.77.0.2", "::ffff:\(four)"),
            ("10.77.0.2/32 2400:cb00::2/128", "\(four)/32 \(six)/128"),
            ("127.0.0.42/32 0.0.0.0/0 ::/0 ::1 192.0.2.1", "127.0.0.42/32 0.0.0.0/0 ::/0 ::1 192.0.2.1"),
            ("02:00:00:00:02:02 12:30:45 0.1.0 dead ether", "02:00:00:00:02:02 12:30:45 0.1.0 dead ether"),
            ("", ""),
        ] { #expect(anonymiser.text(text) == expected) }
    }

    @Test func prefixesKeepTheirZeros() throws {
        for text in ["10.77.64.0/26", "2400:cb00:7::/48", "100.64.0.0/10", "10.0.0.0/8"] {
            let prefix = try #require(Prefix(anonymiser.text(text)))
            #expect(prefix.length == Prefix(text)?.length)
        }
        // Not a prefix but an address and its link's length.
        #expect(anonymiser.text("10.77.0.2/16") == pseudonym("10.77.0.2") + "/16")
    }

    @Test func addressesInJSONAreReplacedInEachForm() throws {
        struct Facts: Codable {
            var prefix: Prefix
            var address: Address
            var number = UInt64.max
            var flag = true
            var none = -1.5
        }
        let prefix = try #require(Prefix("10.77.64.0/26"))
        let facts = Facts(prefix: prefix, address: Address(ipv4: 0x0a4d_0002))
        let text = String(decoding: try JSONEncoder().encode(facts), as: UTF8.self)
        let found = try JSONDecoder().decode(Facts.self, from: Data(try anonymiser.json(text).utf8))
        #expect(found.prefix == pseudonyms.pseudonym(of: prefix))
        #expect(found.address.text == pseudonym("10.77.0.2"))
        #expect(found.number == .max && found.flag && found.none == -1.5)
        let drop = try anonymiser.json(
            ##"{"ip_ttl":{"age":1,"packet":"10.77.64.1 > 10.0.0.1","head":"450a4d4001"}}"##)
        #expect(!drop.contains("head") && !drop.contains("10.77.64.1"))
        let rule = try anonymiser.json(#"[{"priority":100,"src":"10.77.64.0","srclen":26,"not":null}]"#)
        #expect(rule.contains("\"\(pseudonyms.pseudonym(of: prefix).address.text)\""), "\(rule)")
        #expect(rule.contains("\"not\" : null"))
    }
}
