// Row I9: does the host's routing lead back to the inner source by the interface it came in on?

import Routing
import TestPackets
import Testing

@testable import Forwarding

@Suite("Reverse path")
struct ReversePathTests {
    static let main = RouteEntry.tableMain
    static let local = RouteEntry.tableLocal

    /// eth0 is 2, eth1 is 3; the client's network is behind one of many.
    static func route(
        _ text: String, _ interfaces: [Int32], kind: RouteKind = .unicast, metric: UInt32 = 0,
        table: UInt32 = main
    ) -> RouteEntry {
        RouteEntry(
            prefix: prefix(text), table: table, kind: kind, metric: metric, interfaces: interfaces)
    }

    /// The same routes for both families: IPv4's written, IPv6's made of it.
    static func both(_ routes: [RouteEntry]) -> [RouteEntry] {
        routes
            + routes.map { route in
                var other = route
                // 203.0.113.0/24 becomes 2001:db8:c::/48; a default route one of IPv6.
                other.prefix =
                    route.prefix.length == 0
                    ? .allIPv6 : prefix("2001:db8:c::/\(24 + route.prefix.length)")
                return other
            }
    }

    static func outcome(
        _ mode: Mode, _ routes: [RouteEntry]?, _ way: ReversePathMode, interface: UInt16 = 0,
        _ change: (inout Policy) -> Void = { _ in }
    ) -> Outcome {
        let world = ForwardingTests.world(routes: routes) {
            $0.interfaces[0].reversePath = way
            $0.interfaces[1].reversePath = way
            change(&$0)
        }
        return ForwardingTests.outcome(
            Encapsulated(mode), in: world, Arrival(interface: interface))
    }

    /// What each mode lets in: off, loose, loose without a default route, feasible, strict.
    struct Case: Sendable, CustomStringConvertible {
        var name: String
        var routes: [RouteEntry]
        var allowed: Set<ReversePathMode>
        var description: String { name }
        init(_ name: String, _ routes: [RouteEntry], _ allowed: Set<ReversePathMode>) {
            self.name = name
            self.routes = routes
            self.allowed = allowed
        }
    }

    static let all: Set<ReversePathMode> = [.off, .loose, .looseNoDefault, .feasible, .strict]
    static let net = "203.0.113.0/24"
    static let half = "203.0.113.0/25"

    static let cases: [Case] = [
        Case("best route by eth0", [route(net, [2])], all),
        Case("best route by another", [route(net, [3])], [.off, .loose, .looseNoDefault]),
        Case("multipath with eth0 first", [route(net, [2, 3])], all),
        Case("multipath with eth0 last", [route(net, [7, 3, 2])], all),
        Case("multipath without eth0", [route(net, [7, 3])], [.off, .loose, .looseNoDefault]),
        Case(
            "default route by eth0", [route("0.0.0.0/0", [2])],
            [.off, .loose, .feasible, .strict]),
        Case("default route by another", [route("0.0.0.0/0", [3])], [.off, .loose]),
        Case("no route", [], [.off]),
        Case(
            "better metric by another", [route(net, [3], metric: 10), route(net, [2], metric: 20)],
            [.off, .loose, .looseNoDefault, .feasible]),
        Case(
            "better metric by eth0", [route(net, [3], metric: 20), route(net, [2], metric: 10)],
            all),
        Case(
            "longer prefix by another, whatever its metric",
            [route(net, [2]), route(half, [3], metric: 900)], [.off, .loose, .looseNoDefault]),
        Case(
            "longer prefix by eth0", [route(net, [3]), route(half, [2])], all),
        Case("blackhole", [route(net, [], kind: .blackhole), route("0.0.0.0/0", [2])], [.off]),
        Case("unreachable", [route(net, [], kind: .unreachable), route("0.0.0.0/0", [2])], [.off]),
        Case("prohibit", [route(net, [], kind: .prohibit), route("0.0.0.0/0", [2])], [.off]),
        Case(
            "blackhole with the better metric",
            [route(net, [2], metric: 20), route(net, [], kind: .blackhole, metric: 10)], [.off]),
        Case(
            "blackhole with the worse metric",
            [route(net, [2], metric: 10), route(net, [], kind: .blackhole, metric: 20)], all),
        Case("another table's route", [route(net, [2], table: 100)], [.off]),
        Case("the default table's", [route(net, [2], table: RouteEntry.tableDefault)], all),
        Case(
            "main before default, though shorter",
            [route(half, [2], table: RouteEntry.tableDefault), route(net, [3])],
            [.off, .loose, .looseNoDefault]),
        Case(
            "throw: on to the default table",
            [
                route(half, [], kind: .throw), route(net, [2]),
                route("0.0.0.0/0", [3], table: RouteEntry.tableDefault),
            ], [.off, .loose]),
        Case(
            "throw, and nothing behind it", [route(half, [], kind: .throw), route(net, [2])],
            [.off]),
    ]

    @Test("every mode", arguments: Mode.allCases, cases)
    func modes(mode: Mode, item: Case) {
        for way in ReversePathMode.allCases {
            let result = Self.outcome(mode, Self.both(item.routes), way)
            let expected: Outcome =
                item.allowed.contains(way)
                ? .inject(Encapsulated(mode).innerPacket) : .drop(.reversePath)
            #expect(result == expected, "\(way)")
        }
    }

    @Test("without routes nothing is checked", arguments: Mode.allCases)
    func noRoutes(mode: Mode) {
        for way in ReversePathMode.allCases {
            #expect(Self.outcome(mode, nil, way).isInject)
        }
    }

    @Test("each interface has its own mode and index", arguments: Mode.allCases)
    func perInterface(mode: Mode) {
        let routes = Self.both([Self.route(Self.net, [3])])
        let world = ForwardingTests.world(routes: routes) {
            $0.interfaces[0].reversePath = .strict
            $0.interfaces[1].reversePath = .strict
            $0.interfaces.append(.init(name: "eth2", reversePath: .loose))
            $0.tunnels[0].interfaces = [0, 1, 2]
        }
        let packet = Encapsulated(mode)
        #expect(
            ForwardingTests.outcome(packet, in: world, Arrival(interface: 0))
                == .drop(.reversePath))
        #expect(ForwardingTests.outcome(packet, in: world, Arrival(interface: 1)).isInject)
        #expect(ForwardingTests.outcome(packet, in: world, Arrival(interface: 2)).isInject)
    }

    @Test("of routes of one metric the first is the one")
    func twins() {
        let routes = [3, 2, 7].map { Self.route("2001:db8:c::/48", [Int32($0)], metric: 1024) }
        for mode in [Mode.ip6ip, .ip6ip6] {
            #expect(Self.outcome(mode, routes, .strict) == .drop(.reversePath))
            #expect(Self.outcome(mode, routes, .feasible).isInject)
            let better = [routes[0], Self.route("2001:db8:c::/48", [2], metric: 1023)]
            #expect(Self.outcome(mode, better, .strict).isInject)
        }
        let twins = [Self.route(Self.net, [3]), Self.route(Self.net, [2])]
        #expect(Self.outcome(.ipip, twins, .strict) == .drop(.reversePath))
        #expect(Self.outcome(.ipip, twins.reversed(), .strict).isInject)
    }

    @Test("exempt sources", arguments: Mode.allCases)
    func exempt(mode: Mode) {
        let routes = Self.both([Self.route(Self.net, [3])])
        for (text, isExempt) in mode.innerIsIPv4
            ? [("203.0.113.0/24", true), ("203.0.113.7/32", true), ("203.0.113.8/32", false)]
            : [("2001:db8:c::/64", true), ("2001:db8:c::7", true), ("2001:db8:c::8", false)]
        {
            let result = Self.outcome(mode, routes, .strict) { $0.exemptSources = [prefix(text)] }
            #expect(result.isInject == isExempt, "\(text)")
        }
        // Exempt from this check, not from the others.
        let denied = Self.outcome(mode, routes, .strict) {
            $0.exemptSources = [.allIPv4, .allIPv6]
            $0.denySources = [prefix("203.0.113.0/28"), prefix("2001:db8:c::/64")]
        }
        #expect(denied == .drop(.localSource))
        let martian = Encapsulated(mode).with {
            $0.inner.source = ip(mode.innerIsIPv4 ? "127.0.0.1" : "::1")
        }
        let world = ForwardingTests.world(routes: routes) {
            $0.exemptSources = [.allIPv4, .allIPv6]
        }
        #expect(ForwardingTests.outcome(martian, in: world) == .drop(.invalidSource))
    }

    @Test("I8 addresses of the local table are ours, in every mode", arguments: Mode.allCases)
    func localAddresses(mode: Mode) {
        let host = mode.innerIsIPv4 ? "203.0.113.7/32" : "2001:db8:c::7/128"
        for way in ReversePathMode.allCases {
            for kind in [RouteKind.local, .anycast] {
                let routes =
                    Self.both([Self.route(Self.net, [2])])
                    + [Self.route(host, [1], kind: kind, table: Self.local)]
                #expect(Self.outcome(mode, routes, way) == .drop(.localSource))
                let exempt = Self.outcome(mode, routes, way) { $0.exemptSources = [prefix(host)] }
                #expect(exempt == .drop(.localSource))
            }
        }
    }

    /// eth0 is 2, eth1 is 3, and 7 is no configured interface: a pod's device, say.
    static let inside: [Case] = [
        Case("a pod's own route", [route("203.0.113.7/32", [7]), route("0.0.0.0/0", [2])], []),
        Case("a network of pods", [route(net, [7]), route("0.0.0.0/0", [2])], []),
        Case("a network of pods, over several devices", [route(net, [7, 8])], []),
        Case("pods on other nodes, by an overlay", [route("203.0.0.0/8", [9]), route("0.0.0.0/0", [2])], []),
        Case("a pod's route before a better network", [route(half, [7]), route(net, [2])], []),
        Case(
            "a pod's route with the better metric",
            [route(net, [7], metric: 10), route(net, [2], metric: 20)], []),
        Case("an uplink's own network", [route(net, [2]), route("0.0.0.0/0", [3])], all),
        Case("by a pod's device and an uplink", [route(net, [7, 2])], all),
        Case(
            "a pod's route with the worse metric",
            [route(net, [2], metric: 10), route(net, [7], metric: 20)], all),
        Case(
            "a default route by another device makes it an uplink", [route("0.0.0.0/0", [7])],
            [.off, .loose]),
        Case(
            "networks behind the default route's device", [route(net, [7]), route("0.0.0.0/0", [7])],
            [.off, .loose, .looseNoDefault]),
        Case(
            "also where another default route is preferred",
            [
                route(net, [7]), route("0.0.0.0/0", [2], metric: 1),
                route("0.0.0.0/0", [7], metric: 2),
            ], [.off, .loose, .looseNoDefault]),
        Case(
            "a default route that no rule leads to makes no uplink",
            [route(net, [7]), route("0.0.0.0/0", [7], table: 100)], []),
        Case(
            "a default route that leads nowhere makes none",
            [
                route(net, [7]), route("0.0.0.0/0", [7], kind: .unreachable, metric: 9),
            ], []),
    ]

    @Test(
        "I8 what is behind a device that is no uplink is the host's own, in every mode",
        arguments: Mode.allCases, inside)
    func pods(mode: Mode, item: Case) {
        for way in ReversePathMode.allCases {
            let packet = Encapsulated(mode).innerPacket
            let expected: Outcome =
                item.allowed.contains(way)
                ? .inject(packet)
                : .drop(item.allowed.isEmpty ? .localSource : .reversePath)
            #expect(Self.outcome(mode, Self.both(item.routes), way) == expected, "\(way)")
            guard item.allowed.isEmpty else { continue }
            // Exempt from the reverse path, not from this.
            let exempt = Self.outcome(mode, Self.both(item.routes), way) {
                $0.exemptSources = [.allIPv4, .allIPv6]
            }
            #expect(exempt == .drop(.localSource), "\(way)")
        }
    }

    @Test(
        "I8 pods are the host's own, whatever a rule from the service's address leads to",
        arguments: Mode.allCases)
    func podsBehindRules(mode: Mode) {
        let service = mode.innerIsIPv4 ? "10.2.1.9/32" : "2001:db8:2::9/128"
        var rule = RuleEntry(isIPv4: mode.innerIsIPv4, priority: 100, action: .lookup(100))
        rule.from = prefix(service)
        let uplink = Self.both([Self.route("0.0.0.0/0", [2], table: 100)])
        for (routes, isInside) in [
            ([Self.route(Self.net, [7])], true), ([Self.route(Self.net, [2])], false),
            ([], false),
        ] {
            for way in [ReversePathMode.strict, .feasible, .loose, .off] {
                let world = ForwardingTests.world(
                    routes: uplink + Self.both(routes), rules: bothDefaults + [rule]
                ) { $0.interfaces[0].reversePath = way }
                #expect(
                    ForwardingTests.outcome(Encapsulated(mode), in: world)
                        == (isInside ? .drop(.localSource) : .inject(Encapsulated(mode).innerPacket)))
            }
        }
    }

    @Test("I8 a rule from one address says nothing of packets from nobody", arguments: Mode.allCases)
    func podsBesideRules(mode: Mode) {
        var rule = RuleEntry(isIPv4: mode.innerIsIPv4, priority: 100, action: .lookup(100))
        rule.from = prefix(mode.innerIsIPv4 ? "0.0.0.1/32" : "::1/128")
        let routes = Self.both([Self.route("0.0.0.0/0", [2], table: 100), Self.route(Self.net, [7])])
        let world = ForwardingTests.world(routes: routes, rules: bothDefaults + [rule]) {
            $0.interfaces[0].reversePath = .loose
        }
        #expect(ForwardingTests.outcome(Encapsulated(mode), in: world) == .drop(.localSource))
    }

    @Test(
        "I5 I8 the route of the address within a 6to4 or NAT64 source",
        arguments: [.ip6ip, .ip6ip6] as [Mode])
    func embedded(mode: Mode) {
        let client = [Self.route("::/0", [2])]
        let cases: [([RouteEntry], DropReason)] = [
            ([Self.route(Self.net, [7])], .localSource),
            ([Self.route("203.0.113.7/32", [1], kind: .local, table: Self.local)], .localSource),
            ([Self.route("203.0.113.7/32", [2], kind: .broadcast, table: Self.local)], .invalidSource),
            // Only the IPv6 route must lead back.
            ([Self.route(Self.net, [3])], .none), ([], .none),
            ([Self.route(Self.net, [], kind: .blackhole)], .none),
        ]
        for source in InnerTests.holders("203.0.113.7") {
            let packet = Encapsulated(mode).with { $0.inner.source = source }
            for (routes, reason) in cases {
                for way in ReversePathMode.allCases where way != .looseNoDefault {
                    let world = ForwardingTests.world(routes: client + routes) {
                        $0.interfaces[0].reversePath = way
                    }
                    #expect(
                        ForwardingTests.outcome(packet, in: world)
                            == (reason == .none ? .inject(packet.innerPacket) : .drop(reason)), "\(way)")
                }
            }
            // Its own route counts as any other's.
            let elsewhere = ForwardingTests.world(routes: [Self.route("::/0", [3])]) {
                $0.interfaces[0].reversePath = .strict
            }
            #expect(ForwardingTests.outcome(packet, in: elsewhere) == .drop(.reversePath))
        }
    }

    @Test("I4 a network's broadcast address is a martian, in every mode")
    func broadcast() {
        for mode in [Mode.ipip, .ipip6] {
            for way in ReversePathMode.allCases {
                let routes = [
                    Self.route(Self.net, [2]),
                    Self.route("203.0.113.7/32", [2], kind: .broadcast, table: Self.local),
                ]
                #expect(Self.outcome(mode, routes, way) == .drop(.invalidSource))
                // Where martians pass it is still no unicast route back.
                let passed = Self.outcome(mode, routes, way) { $0.dropMartians = false }
                #expect(passed.isInject == (way == .off))
            }
        }
    }

    @Test("an interface that is absent leads nowhere", arguments: Mode.allCases)
    func absent(mode: Mode) {
        let policy = ForwardingTests.world { $0.interfaces[0].reversePath = .strict }.policy
        let states = [
            InterfaceState(index: 0, mtu: 0, reversePath: .strict),
            InterfaceState(index: 3, mtu: 1500, reversePath: .strict),
        ]
        let routes = RouteTable(Self.both([Self.route(Self.net, [3])]))
        let world = ForwardingTables(policy: policy, routes: routes, interfaces: states)
        #expect(ForwardingTests.outcome(Encapsulated(mode), in: world) == .drop(.reversePath))
    }
}
