// The trie against a walk through a list: longest match, and the covering items.

import IP
import Routing
import TestPackets
import Testing

@Suite("Prefix table")
struct PrefixTableTests {
    /// 200 tables of each kind in all, 2,000 lookups each.
    static let seeds = Array(1...20) as [UInt64]

    private static func entries(_ random: inout Random) -> [(Prefix, UInt32)] {
        (0..<random.below(60)).map { _ in (random.prefix(), UInt32(1 + random.below(1000))) }
    }

    private static func address(_ entries: [(Prefix, UInt32)], _ random: inout Random) -> Address {
        guard !entries.isEmpty, !random.chance(20) else {
            return random.address(isIPv4: random.chance(2))
        }
        return random.address(near: entries[random.below(entries.count)].0)
    }

    /// Every way to ask.
    private static func answers(_ table: PrefixTable, _ address: Address) -> Set<UInt32> {
        let view = table.view
        return address.isIPv4
            ? [view.lookup(address), view.lookup(ipv4: address.ipv4)]
            : [view.lookup(address), view.lookup(ipv6: address)]
    }

    @Test("longest match", arguments: seeds)
    func longestMatch(seed: UInt64) {
        var random = Random(seed)
        for _ in 0..<10 {
            // No prefix twice: what then counts is another test's matter.
            var known: Set<Prefix> = []
            let entries = Self.entries(&random).filter { known.insert($0.0).inserted }
            let table = PrefixTable(longestMatch: entries)
            let byLength = entries.sorted { $0.0.length > $1.0.length }
            for _ in 0..<2_000 {
                let address = Self.address(entries, &random)
                let expected = byLength.first { $0.0.contains(address) }?.1 ?? 0
                if Self.answers(table, address) != [expected] {
                    Issue.record("seed \(seed): \(text(address)) is not \(expected)")
                    return
                }
            }
        }
    }

    @Test("of one prefix twice the later counts")
    func twice() {
        let net = prefix("10.0.0.0/8")
        let entries: [(Prefix, UInt32)] = [(net, 1), (prefix("10.1.0.0/16"), 5), (net, 2)]
        let table = PrefixTable(longestMatch: entries)
        #expect(table.view.lookup(ip("10.2.0.1")) == 2 && table.view.lookup(ip("10.1.0.1")) == 5)
    }

    @Test("every length, and the addresses at its edges", arguments: 0...128)
    func edges(length: Int) {
        for base in [ip("170.85.170.85"), ip("aa55:aa55:aa55:aa55:aa55:aa55:aa55:aa55")] {
            let bits = base.isIPv4 ? 32 : 128
            guard length <= bits else { continue }
            let table = PrefixTable(longestMatch: [(Prefix(base, length: length)!, 7)])
            func flipped(_ bit: Int) -> Address {
                let place = UInt64(bits - 1 - bit)
                return place < 64
                    ? Address(high: base.high, low: base.low ^ 1 << place)
                    : Address(high: base.high ^ 1 << (place - 64), low: base.low)
            }
            #expect(table.view.lookup(base) == 7)
            for bit in 0..<bits {
                #expect(table.view.lookup(flipped(bit)) == (bit < length ? 0 : 7))
            }
        }
    }

    @Test("the largest value, and none beyond")
    func values() {
        let entries: [(Prefix, UInt32)] = [(.allIPv4, UInt32.max >> 1), (prefix("::1"), 3)]
        let table = PrefixTable(longestMatch: entries)
        #expect(table.view.lookup(ip("1.2.3.4")) == UInt32.max >> 1)
        #expect(table.view.lookup(ip("::1")) == 3 && table.view.lookup(ip("::2")) == 0)
        let empty = PrefixTable(longestMatch: [])
        #expect(empty.view.lookup(ip("::2")) == 0 && empty.view.lookup(ip("0.0.0.0")) == 0)
    }

    @Test("covering items", arguments: seeds)
    func covering(seed: UInt64) {
        var random = Random(seed + 2000)
        for _ in 0..<10 {
            let rules = (0..<random.below(60)).map { index in
                (prefix: random.prefix(), item: random.chance(4) ? random.below(60) : index)
            }
            let result = coveringItems(rules)
            #expect(Set(result.map(\.0)) == Set(rules.map(\.prefix)))
            #expect(result.count == Set(rules.map(\.prefix)).count)
            for (prefix, items) in result {
                let expected = Set(rules.filter { $0.prefix.covers(prefix) }.map(\.item)).sorted()
                if items != expected {
                    Issue.record("seed \(seed) + 2000: \(text(prefix.address))/\(prefix.length)")
                }
            }
        }
        #expect(coveringItems([]).isEmpty)
    }
}

extension PrefixTable.View {
    fileprivate func lookup(_ address: Address) -> UInt32 {
        address.isIPv4 ? lookup(ipv4: address.ipv4) : lookup(ipv6: address)
    }
}
