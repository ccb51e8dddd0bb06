// routes-bench: a million routes in the daemon's own tables, and the same trie in C beside them, in one run.
// A line of JSON a figure; what is to be compared alternates, and the medians of nine rounds are told.

import CRoutes
import Foundation
import IP
import Routing

struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}

/// Prefixes by length, in thousandths: what route collectors see of the default-free zone (three
/// fifths of IPv4 are /24, half of IPv6 is /48).
let lengthsIPv4: [(Int, Int)] = [
    (24, 600), (22, 115), (23, 105), (21, 50), (20, 43), (19, 25), (18, 14), (17, 8), (16, 13),
    (32, 2), (15, 2), (14, 2), (13, 1), (12, 1), (11, 1),
]
let lengthsIPv6: [(Int, Int)] = [
    (48, 480), (32, 110), (44, 95), (40, 80), (36, 65), (29, 35), (46, 30), (42, 20), (33, 15),
    (64, 30), (128, 20), (47, 20),
]

/// The upper half of an IPv6 address: of 30,000 allocations, a /29 apart in the registries' blocks,
/// whose holders begin to number their /48s at the start.
func allocation(_ random: inout SplitMix) -> UInt64 {
    let blocks: [UInt64] = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00]
    let place = random.next() % 5000
    let base = blocks[Int(random.next() % 6)] << 48 | place << 35
    let site = random.next() % 3 == 0 ? random.next() & 0xffff : random.next() & 0xff
    return base | site << 16 | random.next() & 0xffff
}

func entries(_ count: Int, isIPv4: Bool, _ random: inout SplitMix) -> [RouteEntry] {
    let lengths = isIPv4 ? lengthsIPv4 : lengthsIPv6
    let total = lengths.reduce(0) { $0 + $1.1 }
    var seen: Set<Prefix> = []
    while seen.count < count {
        var place = Int(random.next() % UInt64(total))
        let length = lengths.first {
            place -= $0.1
            return place < 0
        }!.0
        let address = isIPv4
            ? Address(ipv4: 0x0100_0000 &+ UInt32(random.next() % 0xdf00_0000))
            : Address(high: allocation(&random), low: random.next())
        if let prefix = Prefix(address, length: length) { seen.insert(prefix) }
    }
    return seen.map {
        RouteEntry(
            prefix: $0, table: RouteEntry.tableMain,
            interfaces: [Int32(2 + random.next() % 60)])
    }
}

func seconds(_ body: () -> Void) -> Double {
    let parts = ContinuousClock().measure(body).components
    return Double(parts.seconds) + Double(parts.attoseconds) / 1e18
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// The sum of so many answers, each of which is 1. Where they are chained, of each the bits of `mask` are
/// added to the next place that is looked up: it waits for them, as none can know that there are none.
@inline(__always)
func sum(
    _ count: Int, chainedBy mask: UInt32?, _ answer: (_ index: Int, _ more: UInt32) -> UInt32
) -> UInt64 {
    var (sum, last) = (UInt64(0), UInt32(0))
    var index = 0
    while index < count {
        last = answer(index, mask.map { last & $0 } ?? 0)
        sum &+= UInt64(last)
        index &+= 1
    }
    return sum
}

@inline(never)
func run4(
    _ view: RouteTable.View, _ addresses: UnsafePointer<UInt32>, _ count: Int, mask: UInt32?
) -> UInt64 {
    func answer(_ index: Int, _ more: UInt32) -> UInt32 {
        UInt32(view.lookup(ipv4: addresses[index] &+ more).kind.rawValue)
    }
    guard let mask else { return sum(count, chainedBy: nil, answer) }
    return sum(count, chainedBy: mask, answer)
}

@inline(never)
func run6(
    _ view: RouteTable.View, _ addresses: UnsafePointer<UInt64>, _ count: Int, mask: UInt32?
) -> UInt64 {
    func answer(_ index: Int, _ more: UInt32) -> UInt32 {
        let high = addresses[2 &* index] &+ UInt64(more)
        return UInt32(view.lookup(ipv6: Address(high: high, low: addresses[2 &* index &+ 1])).kind.rawValue)
    }
    guard let mask else { return sum(count, chainedBy: nil, answer) }
    return sum(count, chainedBy: mask, answer)
}

/// One load for each answer.
@inline(never)
func runArray(
    _ array: UnsafePointer<UInt32>, _ places: UnsafePointer<UInt32>, _ count: Int, mask: UInt32?
) -> UInt64 {
    func answer(_ index: Int, _ more: UInt32) -> UInt32 { array[Int(places[index] &+ more)] }
    guard let mask else { return sum(count, chainedBy: nil, answer) }
    return sum(count, chainedBy: mask, answer)
}

var random = SplitMix(state: 1)
let routes4 = entries(1_000_000, isIPv4: true, &random)
let routes6 = entries(200_000, isIPv4: false, &random)
let both = routes4 + routes6

func resident() -> Int {
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? "0 0"
    return (Int(fields.split(separator: " ")[1]) ?? 0) * 4096
}

let mirror = RouteMirror()
let before = resident()
let load = seconds { mirror.load(both, rules: RuleEntry.kernelDefaults) }
var table = mirror.generation()
let after = resident()
print(#"{"figure":"full load","routes":\#(both.count),"seconds":\#(load)}"#)
print(
    #"{"figure":"memory","tries_bytes":\#(mirror.trieBytes),"resident_bytes":\#(after - before)}"#)

func prefixes(_ entries: [RouteEntry]) -> [routes_prefix] {
    entries.sorted { $0.prefix.length < $1.prefix.length }.map {
        let address = $0.prefix.address
        return routes_prefix(
            high: $0.prefix.isIPv4 ? UInt64(address.ipv4) << 32 : address.high, low: address.low,
            length: UInt32($0.prefix.length), value: UInt32($0.interfaces[0]))
    }
}

var (four, six) = (routes_trie(), routes_trie())
routes_init4(&four, 24, prefixes(routes4), routes4.count)
routes_init6(&six, prefixes(routes6), routes6.count)

/// Addresses within routed prefixes, of so many hosts, in no order.
func addresses(_ routes: [RouteEntry], hosts: Int, count: Int) -> [Address] {
    let pool = (0..<hosts).map { _ in
        let prefix = routes[Int(random.next() % UInt64(routes.count))].prefix
        let mask = prefix.isIPv4 ? 96 + prefix.length : prefix.length
        let keep = mask >= 64
            ? (UInt64.max, mask == 64 ? 0 : UInt64.max << UInt64(128 - mask))
            : (mask == 0 ? 0 : UInt64.max << UInt64(64 - mask), 0)
        return Address(
            high: prefix.address.high | random.next() & ~keep.0,
            low: prefix.address.low | random.next() & ~keep.1)
    }
    return (0..<count).map { _ in pool[Int(random.next() % UInt64(hosts))] }
}

/// Both languages' tables lead to the same interfaces, or what they cost is of no interest.
for address in addresses(both, hosts: 1 << 18, count: 1 << 18) {
    let isIPv4 = address.isIPv4
    let interface = isIPv4
        ? routes_find4(&four, address.ipv4) : routes_find6(&six, address.high, address.low)
    let record = isIPv4 ? table.view.lookup(ipv4: address.ipv4) : table.view.lookup(ipv6: address)
    guard interface != 0, table.view.bestUses(record, interface: Int32(interface)) else {
        print("\(address): C says interface \(interface), Swift another")
        exit(1)
    }
}

// 10,000 changes: half of them new interfaces, half taken out and put back.
var changes: [Double] = []
for round in 0..<5 {
    var some: [RouteEntry] = []
    for _ in 0..<10_000 { some.append(both[Int(random.next() % UInt64(both.count))]) }
    changes.append(
        seconds {
            for (index, old) in some.enumerated() {
                if index % 2 == 0 {
                    var new = old
                    new.interfaces = [Int32(2 + (index + round) % 60)]
                    _ = mirror.insert(new, .instead)
                } else {
                    _ = mirror.remove(old)
                    _ = mirror.insert(old, .last)
                }
            }
            table = mirror.generation()
        })
    mirror.reclaim()
}
print(
    #"{"figure":"10,000 changes","seconds":\#(median(changes)),"of_full_load":\#(median(changes) / load)}"#)

let lookups = 1 << 20
for hosts in [1024, 1 << 20] {
    let in4 = addresses(routes4, hosts: hosts, count: lookups).map(\.ipv4)
    let in6 = addresses(routes6, hosts: hosts, count: lookups).flatMap { [$0.high, $0.low] }
    // What no table can be faster than: for each host a cache line that is found without a search.
    let lines = [UInt32](repeating: 1, count: hosts * 16)
    let inLines = (0..<lookups).map { _ in UInt32(random.next() % UInt64(hosts)) * 16 }
    let inWords = inLines.map { $0 / 16 & 1023 }
    for isChained in [true, false] {
        let mask: UInt32? = isChained ? 0xff00 : nil
        var times: [String: [Double]] = [:]
        for round in 0..<9 {
            func time(_ name: String, _ body: () -> UInt64) {
                var sum: UInt64 = 0
                let spent = seconds { sum = body() }
                guard sum == UInt64(lookups) else {
                    print("\(name): \(sum) of \(lookups) addresses have a route: all have")
                    exit(1)
                }
                times[name, default: []].append(spent * 1e9 / Double(lookups))
            }
            let view = table.view
            let order: [() -> Void] = [
                { time("ipv4 swift") { run4(view, in4, lookups, mask: mask) } },
                { time("ipv4 c") { routes_run4(&four, in4, lookups, mask ?? 0) } },
                { time("ipv6 swift") { run6(view, in6, lookups, mask: mask) } },
                { time("ipv6 c") { routes_run6(&six, in6, lookups, mask ?? 0) } },
                { time("a word of 1,024") { runArray(lines, inWords, lookups, mask: mask) } },
                { time("a line of each host") { runArray(lines, inLines, lookups, mask: mask) } },
            ]
            for step in round % 2 == 0 ? order : order.reversed() { step() }
        }
        let medians = times.mapValues(median)
        for (name, value) in medians.sorted(by: { $0.key < $1.key }) {
            let ofC = medians[name.replacing("swift", with: "c")].map { value / $0 } ?? 0
            let ofWord = value / medians["a word of 1,024"]!
            let ofLine = value / medians["a line of each host"]!
            let way = isChained ? "single" : "batches"
            print(
                #"{"figure":"lookup","what":"\#(name)","hosts":\#(hosts),"way":"\#(way)","#
                    + #""ns":\#(value),"of_c":\#(ofC),"of_word":\#(ofWord),"of_line":\#(ofLine)}"#)
        }
    }
}
