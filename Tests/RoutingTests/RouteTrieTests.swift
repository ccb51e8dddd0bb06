// Tries where prefixes stand close: nodes that change their form, roots that widen, readers meanwhile.

import IP
import Synchronization
import TestPackets
import Testing

@testable import Routing

/// Prefixes with the interface that each leads to, searched one length after the other.
private struct Crowd {
    var random: Random
    let isIPv4: Bool
    /// Bits that almost all share; those behind them are what nodes are made for.
    let shared: Int
    private(set) var interfaces: [Prefix: Int32] = [:]
    private(set) var known: [Prefix] = []
    private let base: Address

    init(seed: UInt64) {
        random = Random(seed)
        isIPv4 = random.chance(4)
        shared = isIPv4 ? 8 * random.below(4) : 16 * random.below(8)
        base =
            isIPv4
            ? Address(ipv4: 0x0a7f_80ff)
            : Address(high: 0x2001_0db8_1234_5678, low: 0x9abc_def0_1357_2468)
    }

    private var bits: Int { isIPv4 ? 32 : 128 }

    private mutating func address() -> Address {
        let kept = shared + (random.chance(4) ? 8 : 0) + (isIPv4 ? 96 : 0)
        let mask = Prefix(Address(high: .max, low: .max), length: kept)!.address
        let (high, low) = (random.next(), isIPv4 ? 0xffff_0000_0000 | random.next() >> 32 : random.next())
        return Address(
            high: base.high & mask.high | (isIPv4 ? 0 : high & ~mask.high),
            low: base.low & mask.low | low & ~mask.low)
    }

    /// A prefix with its interface, which is new or another one.
    mutating func add() -> RouteEntry {
        let length = random.chance(8) ? random.below(bits + 1) : min(bits, shared + random.below(20))
        var prefix = Prefix(address(), length: length)!
        // What is masked to nothing of a mapped address.
        if prefix.isIPv4 != isIPv4 { prefix = isIPv4 ? .allIPv4 : .allIPv6 }
        if interfaces[prefix] == nil { known.append(prefix) }
        interfaces[prefix] = Int32(1 + random.below(5))
        return entry(prefix)
    }

    mutating func remove() -> RouteEntry? {
        guard !known.isEmpty else { return nil }
        known.swapAt(random.below(known.count), known.count - 1)
        let entry = entry(known.removeLast())
        interfaces[entry.prefix] = nil
        return entry
    }

    private func entry(_ prefix: Prefix) -> RouteEntry {
        RouteEntry(prefix: prefix, table: RouteEntry.tableMain, interfaces: [interfaces[prefix]!])
    }

    private func longest(_ address: Address) -> Int32? {
        for length in (0...bits).reversed() {
            if let found = interfaces[Prefix(address, length: length)!] { return found }
        }
        return nil
    }

    /// What the table says otherwise of addresses in and beside prefixes.
    mutating func differs(_ view: RouteTable.View, questions: Int) -> String? {
        for _ in 0..<questions {
            var asked = address()
            if !known.isEmpty, random.chance(2) {
                asked = random.address(near: known[random.below(known.count)])
            }
            guard asked.isIPv4 == isIPv4 else { continue }
            let wanted = longest(asked)
            let record = isIPv4 ? view.lookup(ipv4: asked.ipv4) : view.lookup(ipv6: asked)
            let isRight = wanted.map { view.bestUses(record, interface: $0) } ?? (record.kind == .none)
            if !isRight { return "\(text(asked)): \(wanted ?? 0) is right, not \(record)" }
        }
        return nil
    }
}

@Suite("Route tries")
struct RouteTrieTests {
    @Test("close prefixes come and go", arguments: Array(1...24) as [UInt64])
    func crowded(seed: UInt64) {
        var crowd = Crowd(seed: seed)
        let mirror = RouteMirror()
        mirror.load([], rules: RuleEntry.kernelDefaults)
        let empty = mirror.trieBytes
        // Up to some 1,500 prefixes, or a few.
        let steps = seed % 3 == 0 ? 4000 : 600
        for step in 0..<steps {
            if crowd.random.chance(3) {
                if let gone = crowd.remove() { _ = mirror.remove(gone) }
            } else {
                _ = mirror.insert(crowd.add(), .instead)
            }
            guard step < 50 || step % 50 == 0 else { continue }
            let table = mirror.generation()
            mirror.reclaim()
            let difference = crowd.differs(table.view, questions: 10)
            #expect(difference == nil, "step \(step), \(crowd.shared) bits shared: \(difference ?? "")")
        }
        // As if loaded at once.
        let again = RouteTable(mirror.entries())
        #expect(crowd.differs(again.view, questions: 100) == nil)
        while let gone = crowd.remove() { _ = mirror.remove(gone) }
        let table = mirror.generation()
        #expect(crowd.differs(table.view, questions: 50) == nil)
        #expect(mirror.trieBytes >= empty && mirror.countIPv6 + mirror.countIPv4 == 0)
    }

    /// All of a /16 in /32s, in turn of two interfaces: nodes of every form, and the wide one last.
    @Test("from a line to 65,536 words and back")
    func whole() {
        let mirror = RouteMirror()
        mirror.load([], rules: RuleEntry.kernelDefaults)
        func entry(_ place: Int) -> RouteEntry {
            let address = Address(high: 0x2a00 << 48 | UInt64(place) << 32, low: 0)
            return RouteEntry(
                prefix: Prefix(address, length: 32)!, table: RouteEntry.tableMain,
                interfaces: [Int32(1 + place % 2)])
        }
        // Each byte in turn, so that every form is there for some time.
        let places = (0..<32).flatMap { low in (0..<256).map { $0 << 8 | low * 3 } }
        func check(_ isThere: (Int) -> Bool) {
            let table = mirror.generation()
            let wrong = (0..<1 << 16).first { place in
                let record = table.view.lookup(
                    ipv6: Address(high: 0x2a00 << 48 | UInt64(place) << 32 | 7, low: 9))
                return isThere(place)
                    ? !table.view.bestUses(record, interface: Int32(1 + place % 2)) : record.kind != .none
            }
            #expect(wrong == nil)
        }
        for (count, place) in places.enumerated() {
            #expect(mirror.insert(entry(place), .last))
            if count % 2048 == 700 {
                let there = Set(places[...count])
                check { there.contains($0) }
            }
        }
        #expect(mirror.trieBytes > 4 << 16, "the wide node is there: \(mirror.trieBytes)")
        var sizes: Set<Int> = []
        for round in 0..<4 {
            mirror.reclaim()
            for place in places { #expect(mirror.remove(entry(place))) }
            check { _ in false }
            mirror.reclaim()
            for place in places { #expect(mirror.insert(entry(place), .last)) }
            if round > 0 { sizes.insert(mirror.trieBytes) }
        }
        let there = Set(places)
        check { there.contains($0) }
        #expect(sizes.count == 1, "what was left is used again: \(sizes)")
    }

    /// Holders of a /32 announce a thousand /48s, in turn, and take them back but for a few.
    @Test("what was dense once holds no memory for the few that stay", arguments: [1, 8, 200])
    func thinned(staying: Int) {
        let mirror = RouteMirror()
        mirror.load([], rules: RuleEntry.kernelDefaults)
        func entry(_ site: Int, _ place: Int) -> RouteEntry {
            // Every fourth byte, and in each 18 that do not touch.
            let key = UInt64(place % 64) << 10 | UInt64(place / 64 * 13)
            let address = Address(high: (0x2a00_0000 | UInt64(site)) << 32 | key << 16, low: 0)
            return RouteEntry(
                prefix: Prefix(address, length: 48)!, table: RouteEntry.tableMain,
                interfaces: [Int32(1 + place % 2)])
        }
        let places = Array(0..<64 * 18)
        for site in 0..<10 {
            for place in places { #expect(mirror.insert(entry(site, place), .last)) }
            _ = mirror.generation()
            mirror.reclaim()
            for place in places.dropFirst(staying) { #expect(mirror.remove(entry(site, place))) }
            _ = mirror.generation()
            mirror.reclaim()
        }
        #expect(mirror.trieBytes < 3 << 19, "\(mirror.trieBytes)")
        let table = mirror.generation()
        for site in 0..<10 {
            let wrong = places.first { place in
                let record = table.view.lookup(ipv6: entry(site, place).prefix.address)
                return place < staying
                    ? !table.view.bestUses(record, interface: Int32(1 + place % 2)) : record.kind != .none
            }
            #expect(wrong == nil, "site \(site)")
        }
    }

    @Test("a route whose gateway changes for days leaves nothing behind")
    func gateways() {
        let mirror = RouteMirror()
        let (still, changing) = (prefix("192.0.2.0/24"), prefix("198.51.100.0/24"))
        func entry(_ prefix: Prefix, _ gateway: UInt32) -> RouteEntry {
            RouteEntry(
                prefix: prefix, table: RouteEntry.tableMain, interfaces: [Int32(1 + gateway % 3)],
                gateways: [gateway])
        }
        // Both have the first set.
        mirror.load([entry(still, 1), entry(changing, 1)], rules: RuleEntry.kernelDefaults)
        for gateway in 2...1000 as ClosedRange<UInt32> {
            #expect(mirror.insert(entry(changing, gateway), .instead))
            let table = mirror.generation()
            for (prefix, interface) in [(still, Int32(2)), (changing, Int32(1 + gateway % 3))] {
                let record = table.view.lookup(ipv4: prefix.address.ipv4)
                #expect(table.view.bestUses(record, interface: interface))
            }
        }
        #expect(mirror.sets.count <= 3)
        #expect(mirror.remove(entry(changing, 1000)))
        #expect(mirror.insert(entry(changing, 1001), .last))
        #expect(mirror.sets.count <= 3)
    }

    /// Of IPv4 the root widens twice; who has an older generation goes on with it.
    @Test("roots grow with what is below them")
    func roots() {
        let mirror = RouteMirror()
        mirror.load([], rules: RuleEntry.kernelDefaults)
        func entry(_ place: Int, length: Int = 24) -> RouteEntry {
            RouteEntry(
                prefix: Prefix(Address(ipv4: UInt32(place) << 16 | UInt32(place & 0xff00)), length: length)!,
                table: RouteEntry.tableMain, interfaces: [Int32(1 + place % 7)])
        }
        func isThere(_ table: RouteTable, _ place: Int) -> Bool {
            let address = UInt32(place) << 16 | UInt32(place & 0xff00) | 9
            return table.view.bestUses(table.view.lookup(ipv4: address), interface: Int32(1 + place % 7))
                && table.view.lookup(ipv4: address ^ 0x8000).kind == .none
        }
        var tables: [(count: Int, table: RouteTable)] = []
        let places = (256..<(256 + 36_000)).map { ($0 * 40_503) & 0xffff }
        for (count, place) in places.enumerated() {
            if [1, 100, 1000, 30_000].contains(count) { tables.append((count, mirror.generation())) }
            _ = mirror.insert(entry(place), .last)
            if place % 512 == 0 { _ = mirror.insert(entry(place, length: 30), .last) }
        }
        #expect(mirror.trieBytes > 64 << 20, "24 bits: \(mirror.trieBytes)")
        tables.append((places.count, mirror.generation()))
        for (count, table) in tables {
            #expect(places[..<count].allSatisfy { isThere(table, $0) })
        }
        for place in places.dropFirst(1000) {
            _ = mirror.remove(entry(place))
            if place % 512 == 0 { _ = mirror.remove(entry(place, length: 30)) }
        }
        let table = mirror.generation()
        #expect(places[..<1000].allSatisfy { isThere(table, $0) })
        #expect(places.dropFirst(1000).allSatisfy { !isThere(table, $0) })
    }

    /// Whatever becomes of its neighbours, a prefix that stays is always found.
    @Test("readers meanwhile")
    func readers() async {
        let mirror = RouteMirror()
        let stays = (0..<64).map { place in
            let address = Address(high: 0x2a00_0001_0000_0000 | UInt64(place) << 18, low: 0)
            return RouteEntry(
                prefix: Prefix(address, length: 46)!,
                table: RouteEntry.tableMain, interfaces: [Int32(1 + place % 9)])
        }
        mirror.load(stays, rules: RuleEntry.kernelDefaults)
        let current = Mutex(mirror.generation())
        let isOver = Atomic(false)
        async let wrong = Task.detached {
            var (wrong, asked) = (0, 0)
            while !isOver.load(ordering: .relaxed) || asked == 0 {
                let table = current.withLock { $0 }
                for _ in 0..<50 {
                    for entry in stays {
                        let address = entry.prefix.address
                        let record = table.view.lookup(ipv6: Address(high: address.high | 0x1ffff, low: 7))
                        if !table.view.bestUses(record, interface: entry.interfaces[0]) { wrong += 1 }
                        asked += 1
                    }
                }
            }
            return wrong
        }.value
        var random = Random(5)
        for round in 0..<60 {
            var others: [RouteEntry] = []
            for _ in 0..<200 {
                // Beside those that stay, and around them; never within.
                let length = random.chance(4) ? 30 + random.below(16) : 47 + random.below(40)
                let half = random.chance(2) ? 0 : UInt64(1) << 32
                let address = Address(
                    high: 0x2a00_0000_0000_0000 | (length < 47 ? 1 << 32 : half << 1) | random.next() >> 40,
                    low: random.next())
                others.append(
                    RouteEntry(
                        prefix: Prefix(address, length: length)!, table: RouteEntry.tableMain,
                        interfaces: [Int32(1 + round % 9)]))
            }
            for other in others { _ = mirror.insert(other, .instead) }
            let table = mirror.generation()
            current.withLock { $0 = table }
            for other in others { _ = mirror.remove(other) }
        }
        isOver.store(true, ordering: .relaxed)
        #expect(await wrong == 0)
    }
}
