// routes-bench: a million routes in the daemon's own tables, and the same trie in C beside them, in one run.
// A line of JSON a figure; what is to be compared alternates, and the medians of nine rounds are told.

import CRoutes
import Foundation
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

@inline(never)
func run4(_ view: RouteTable.View, _ addresses: UnsafePointer<UInt32>, _ count: Int, chained: Bool)
    -> UInt64
{
    var (sum, last) = (UInt64(0), UInt32(0))
    var index = 0
    while index < count {
        let address = chained ? addresses[index] &+ (last &>> 8) : addresses[index]
        last = UInt32(view.lookup(ipv4: address).kind.rawValue)
        sum &+= UInt64(last)
        index &+= 1
    }
    return sum
}

@inline(never)
func run6(_ view: RouteTable.View, _ addresses: UnsafePointer<UInt64>, _ count: Int, chained: Bool)
    -> UInt64
{
    var (sum, last) = (UInt64(0), UInt32(0))
    var index = 0
    while index < count {
        let high = chained ? addresses[2 &* index] &+ UInt64(last &>> 8) : addresses[2 &* index]
        last = UInt32(
            view.lookup(ipv6: Address(high: high, low: addresses[2 &* index &+ 1])).kind.rawValue)
        sum &+= UInt64(last)
        index &+= 1
    }
    return sum
}

/// An array that lies in the first cache, read at places that depend on what was read.
@inline(never)
func runArray(_ array: UnsafePointer<UInt32>, _ count: Int, chained: Bool) -> UInt64 {
    var (sum, last) = (UInt64(0), UInt32(0))
    var index = 0
    while index < count {
        last = array[Int(chained ? (UInt32(truncatingIfNeeded: index) &+ last) & 1023
            : UInt32(truncatingIfNeeded: index) & 1023)]
        sum &+= UInt64(last)
        index &+= 1
    }
    return sum
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

func trie(_ entries: [RouteEntry], root: UInt32, stride: UInt32) -> routes_trie {
    var trie = routes_trie()
    routes_init(&trie, root, stride)
    for entry in entries.sorted(by: { $0.prefix.length < $1.prefix.length }) {
        let address = entry.prefix.address
        let high = entry.prefix.isIPv4 ? UInt64(address.ipv4) << 32 : address.high
        routes_add(
            &trie, high, address.low, UInt32(entry.prefix.length), UInt32(entry.interfaces[0]))
    }
    return trie
}

var four = trie(routes4, root: 16, stride: 8)
var wide = trie(routes4, root: 24, stride: 8)
var six = trie(routes6, root: 16, stride: 4)
let array = UnsafeMutablePointer<UInt32>.allocate(capacity: 1024)
array.initialize(repeating: 1, count: 1024)

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

let lookups = 1 << 20
for hosts in [1024, 1 << 20] {
    let in4 = addresses(routes4, hosts: hosts, count: lookups).map(\.ipv4)
    let in6 = addresses(routes6, hosts: hosts, count: lookups).flatMap { [$0.high, $0.low] }
    for chained in [true, false] {
        var times: [String: [Double]] = [:]
        var sums: Set<UInt64> = []
        for round in 0..<9 {
            func time(_ name: String, _ body: () -> UInt64) {
                var sum: UInt64 = 0
                let spent = seconds { sum = body() }
                if name != "array" { sums.insert(sum) }
                times[name, default: []].append(spent * 1e9 / Double(lookups))
            }
            let view = table.view
            let order: [() -> Void] = [
                { time("ipv4 swift") { run4(view, in4, lookups, chained: chained) } },
                { time("ipv4 c") { routes_run4(&four, in4, lookups, chained ? 1 : 0) } },
                { time("ipv4 c, root of 24 bits") { routes_run4(&wide, in4, lookups, chained ? 1 : 0) } },
                { time("ipv6 swift") { run6(view, in6, lookups, chained: chained) } },
                { time("ipv6 c") { routes_run6(&six, in6, lookups, chained ? 1 : 0) } },
                { time("array") { runArray(array, lookups, chained: chained) } },
            ]
            for step in round % 2 == 0 ? order : order.reversed() { step() }
        }
        precondition(sums == [UInt64(lookups)], "every address has a route: \(sums)")
        let cached = median(times["array"]!)
        for name in times.keys.sorted() {
            let peer = name.hasPrefix("ipv4") ? "ipv4 c" : "ipv6 c"
            let value = median(times[name]!)
            let way = chained ? "single" : "batches"
            let ofC = name == "array" ? 0 : value / median(times[peer]!)
            print(
                #"{"figure":"lookup","what":"\#(name)","hosts":\#(hosts),"way":"\#(way)","#
                    + #""ns":\#(value),"of_c":\#(ofC),"of_array":\#(value / cached)}"#)
        }
    }
}
