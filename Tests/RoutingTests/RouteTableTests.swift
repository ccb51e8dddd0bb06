// The kernel's three tables in one lookup: precedence, metrics, kinds, nexthops.

import IP
import Routing
import TestPackets
import Testing

@Suite("Route table")
struct RouteTableTests {
    static let main = RouteEntry.tableMain
    static let local = RouteEntry.tableLocal
    static let last = RouteEntry.tableDefault

    static func route(
        _ text: String, _ interfaces: [Int32], table: UInt32 = main, kind: RouteKind = .unicast,
        metric: UInt32 = 0, tos: UInt8 = 0
    ) -> RouteEntry {
        RouteEntry(
            prefix: prefix(text), table: table, kind: kind, metric: metric, tos: tos,
            interfaces: interfaces)
    }

    /// Kind, best interfaces and the others, of interfaces 1 to 9.
    struct Found: Equatable {
        var kind: RouteKind
        var best: [Int32]
        var others: [Int32] = []
        var isDefault = false
    }

    static func find(_ table: RouteTable, _ text: String) -> Found { find(table, ip(text)) }

    static func find(_ table: RouteTable, _ address: Address) -> Found {
        let record =
            address.isIPv4
            ? table.view.lookup(ipv4: address.ipv4) : table.view.lookup(ipv6: address)
        let best = (1...9).filter { table.view.bestUses(record, interface: $0) }
        let any = (1...9).filter { table.view.anyUses(record, interface: $0) }
        return Found(
            kind: record.kind, best: best, others: any.filter { !best.contains($0) },
            isDefault: record.isDefault)
    }

    @Test("nothing is found where nothing is")
    func empty() {
        let table = RouteTable([])
        for address in ["0.0.0.0", "10.0.0.1", "::", "2001:db8::1"] {
            #expect(Self.find(table, address) == Found(kind: .none, best: []))
        }
        #expect(table.countIPv4 == 0 && table.countIPv6 == 0)
    }

    @Test("a reader sees no route behind a change of its uplinks, which it does not know yet")
    func uplinksAndRoutes() {
        let mirror = RouteMirror()
        // Neither answers nor tries grow later, which would hide the changes.
        mirror.load(
            [
                Self.route("0.0.0.0/0", [2]), Self.route("203.0.113.0/25", [2]),
                Self.route("203.0.113.128/25", [2]),
                Self.route("198.51.100.0/24", [3]),
                Self.route("::/0", [2]), Self.route("2001:db8:1::/48", [3]),
                Self.route("2001:db8:2::/48", [2]),
            ], rules: RuleEntry.kernelDefaults)
        let old = mirror.generation()
        // The uplinks stay: at once.
        #expect(mirror.insert(Self.route("203.0.113.128/25", [3]), .instead))
        #expect(Self.find(old, "203.0.113.129").best == [3])
        #expect(mirror.insert(Self.route("0.0.0.0/0", [3]), .instead))
        #expect(mirror.insert(Self.route("203.0.113.0/25", [3]), .instead))
        #expect(mirror.insert(Self.route("2001:db8:2::/48", [3]), .instead))
        #expect(old.defaultInterfaces == [2])
        #expect(Self.find(old, "203.0.113.1").best == [2] && Self.find(old, "2001:db8:2::1").best == [2])
        #expect(Self.find(old, "192.0.2.1").best == [2])
        let new = mirror.generation()
        #expect(new.defaultInterfaces == [2, 3])
        #expect(Self.find(new, "203.0.113.1").best == [3] && Self.find(new, "2001:db8:2::1").best == [3])
        // The uplinks stay: at once again.
        #expect(mirror.insert(Self.route("203.0.113.0/25", [2]), .instead))
        #expect(Self.find(new, "203.0.113.1").best == [2] && Self.find(old, "203.0.113.1").best == [2])
    }

    @Test("devices of default routes, of both families and of tables that rules lead to")
    func defaultInterfaces() {
        var rule = RuleEntry(isIPv4: true, priority: 5, action: .lookup(100))
        rule.from = prefix("10.0.0.0/8")
        var marked = RuleEntry(isIPv4: true, priority: 6, action: .lookup(101))
        (marked.mark, marked.markMask) = (1, 1)
        let mirror = RouteMirror()
        mirror.load(
            [
                Self.route("0.0.0.0/0", [3, 2]), Self.route("0.0.0.0/0", [4], metric: 9),
                Self.route("::/0", [5]), Self.route("::/0", [], kind: .unreachable, metric: 99),
                Self.route("0.0.0.0/0", [6], table: 100), Self.route("0.0.0.0/0", [7], table: 101),
                Self.route("10.0.0.0/8", [8]), Self.route("0.0.0.0/0", [9], table: 102),
            ], rules: RuleEntry.kernelDefaults + [rule, marked])
        #expect(mirror.generation().defaultInterfaces == [2, 3, 4, 5, 6])
        // Changes are followed.
        _ = mirror.insert(Self.route("0.0.0.0/0", [8], metric: 5), .last)
        #expect(mirror.generation().defaultInterfaces == [2, 3, 4, 5, 6, 8])
        _ = mirror.remove(Self.route("::/0", [5]))
        mirror.change(rules: RuleEntry.kernelDefaults)
        #expect(mirror.generation().defaultInterfaces == [2, 3, 4, 8])
        #expect(RouteTable([]).defaultInterfaces == [])
    }

    @Test("the best metric, and the others of the same prefix")
    func metrics() {
        for net in ["10.0.0.0/8", "2001:db8::/32"] {
            let host = net == "10.0.0.0/8" ? "10.1.1.1" : "2001:db8::1"
            let table = RouteTable([
                Self.route(net, [3], metric: 200), Self.route(net, [1, 2], metric: 100),
                Self.route(net, [2, 4], metric: 300),
                // Of a shorter prefix: no path to this one.
                Self.route(net.replacingLength(with: 4), [5]),
            ])
            #expect(Self.find(table, host) == Found(kind: .unicast, best: [1, 2], others: [3, 4]))
        }
    }

    @Test("equal metrics: the first of them")
    func equalMetrics() {
        let six = RouteTable([3, 1, 2].map { Self.route("2001:db8::/32", [$0], metric: 1024) })
        #expect(
            Self.find(six, "2001:db8::1") == Found(kind: .unicast, best: [3], others: [1, 2]))
        let four = RouteTable([3, 1, 2].map { Self.route("10.0.0.0/8", [$0], metric: 7) })
        #expect(Self.find(four, "10.0.0.1") == Found(kind: .unicast, best: [3], others: [1, 2]))
    }

    @Test("a route with a TOS serves only packets that carry it")
    func typeOfService() {
        let table = RouteTable([
            Self.route("10.0.0.0/8", [1], metric: 5, tos: 8),
            Self.route("10.0.0.0/8", [2], metric: 9),
        ])
        #expect(Self.find(table, "10.0.0.1") == Found(kind: .unicast, best: [2]))
    }

    @Test("default routes")
    func defaults() {
        let table = RouteTable([
            Self.route("0.0.0.0/0", [1]), Self.route("::/0", [2]), Self.route("0.0.0.0/1", [3]),
        ])
        #expect(Self.find(table, "200.0.0.1") == Found(kind: .unicast, best: [1], isDefault: true))
        #expect(Self.find(table, "100.0.0.1") == Found(kind: .unicast, best: [3]))
        #expect(Self.find(table, "2001::1") == Found(kind: .unicast, best: [2], isDefault: true))
    }

    @Test("kinds", arguments: (0...9).compactMap { RouteKind(rawValue: $0) }.filter { $0 != .none })
    func kinds(kind: RouteKind) {
        let table = RouteTable([
            Self.route("10.0.0.0/8", [1]), Self.route("10.1.0.0/16", [2], kind: kind),
        ])
        let expected =
            kind == .throw
            ? Found(kind: .none, best: []) : Found(kind: kind, best: [2])
        #expect(Self.find(table, "10.1.0.1") == expected)
        #expect(Self.find(table, "10.2.0.1") == Found(kind: .unicast, best: [1]))
    }

    @Test("local before main before default, however long the prefix")
    func tables() {
        let table = RouteTable([
            Self.route("10.1.1.0/24", [1], table: Self.last),
            Self.route("10.1.0.0/16", [2]),
            Self.route("10.0.0.0/8", [3], table: Self.last),
            Self.route("10.1.1.1/32", [4], table: Self.local, kind: .local),
            Self.route("10.1.1.0/24", [5], table: 100),
        ])
        #expect(Self.find(table, "10.1.1.1") == Found(kind: .local, best: [4]))
        #expect(Self.find(table, "10.1.1.2") == Found(kind: .unicast, best: [2]))
        #expect(Self.find(table, "10.2.0.1") == Found(kind: .unicast, best: [3]))
        #expect(table.countIPv4 == 5 && table.countIPv6 == 0)
    }

    @Test("throw: the next table decides, for that prefix alone")
    func throwing() {
        let table = RouteTable([
            Self.route("0.0.0.0/0", [1]),
            Self.route("10.0.0.0/8", [], kind: .throw),
            Self.route("10.3.0.0/16", [2]),
            Self.route("10.1.0.0/16", [3], table: Self.last),
            Self.route("10.3.3.0/24", [4], table: Self.last),
            Self.route("0.0.0.0/0", [5], table: Self.last),
        ])
        #expect(Self.find(table, "11.0.0.1") == Found(kind: .unicast, best: [1], isDefault: true))
        #expect(Self.find(table, "10.9.0.1") == Found(kind: .unicast, best: [5], isDefault: true))
        #expect(Self.find(table, "10.1.0.1") == Found(kind: .unicast, best: [3]))
        #expect(Self.find(table, "10.3.3.3") == Found(kind: .unicast, best: [2]))
        // Only where the throw is the preferred route of its prefix.
        let worse = RouteTable([
            Self.route("10.0.0.0/8", [], kind: .throw, metric: 9), Self.route("10.0.0.0/8", [1]),
        ])
        #expect(Self.find(worse, "10.0.0.1") == Found(kind: .unicast, best: [1]))
    }

    /// The rules as they stand in ip-rule(8): each table by longest prefix, then lowest metric.
    private static func model(_ entries: [RouteEntry], _ address: Address) -> Found {
        for table in address.isIPv4 ? [local, main, last] : [local, main] {
            let routes = entries.filter { $0.table == table && $0.prefix.contains(address) }
            guard let length = routes.map(\.prefix.length).max() else { continue }
            let matched = routes.filter { $0.prefix.length == length }
            let metric = matched.map(\.metric).min()!
            let first = matched.first { $0.metric == metric }!
            if first.kind == .throw { continue }
            let best = first.interfaces
            let others = matched.filter { $0.kind == .unicast }.flatMap(\.interfaces)
            return Found(
                kind: first.kind, best: Set(best).sorted(),
                others: Set(others).subtracting(best).sorted(), isDefault: length == 0)
        }
        return Found(kind: .none, best: [])
    }

    @Test("random tables against the rules", arguments: Array(1...20) as [UInt64])
    func model(seed: UInt64) {
        var random = Random(seed)
        for _ in 0..<5 {
            let prefixes = (0..<20).map { _ in random.prefix() }
            let entries = (0..<(1 + random.below(60))).map { _ in
                RouteEntry(
                    prefix: prefixes[random.below(20)],
                    table: [Self.local, Self.main, Self.main, Self.last, 77][random.below(5)],
                    kind: random.chance(3)
                        ? RouteKind(rawValue: UInt8(1 + random.below(9)))! : .unicast,
                    metric: UInt32(random.below(4)),
                    interfaces: (0..<random.below(4)).map { _ in Int32(1 + random.below(9)) })
            }
            let table = RouteTable(entries)
            for _ in 0..<400 {
                let address = random.address(near: entries[random.below(entries.count)].prefix)
                let (found, expected) = (Self.find(table, address), Self.model(entries, address))
                if found != expected {
                    Issue.record("seed \(seed): \(text(address)): \(found), not \(expected)")
                    return
                }
            }
        }
    }
}

extension String {
    /// `10.0.0.0/8` with another length.
    fileprivate func replacingLength(with length: Int) -> String {
        String(split(separator: "/")[0]) + "/\(length)"
    }
}
