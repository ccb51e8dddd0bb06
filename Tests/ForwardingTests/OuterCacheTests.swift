// What the cache knows must hold for nothing but the world, interface and tunnel it was found in.

import IP
import Routing
import SlowJudge
import TestPackets
import Testing

@testable import Forwarding

@Suite("Outer cache")
struct OuterCacheTests {
    /// Judges packets that come in turn, with one cache for all.
    final class Worker {
        let cache: OuterCache
        private let memory = UnsafeMutableRawPointer.allocate(
            byteCount: OuterCache.byteCount, alignment: 128)
        private let head = UnsafeMutableRawPointer.allocate(
            byteCount: Limits.headBytes, alignment: 8)

        init() { cache = OuterCache(in: memory) }

        deinit {
            memory.deallocate()
            head.deallocate()
        }

        func judge(_ packet: Encapsulated, in world: ForwardingTables, interface: UInt16 = 0) -> Verdict {
            judge(packet, in: world, interface: interface, cache)
        }

        func judge(
            _ packet: Encapsulated, in world: ForwardingTables, interface: UInt16, _ cache: OuterCache?
        ) -> Verdict {
            packet.packet.withUnsafeBytes { bytes in
                var frame = self.frame(bytes, packet.mode, interface)
                var verdict = Verdict(kind: .hold)
                Judge.judge(&frame, into: &verdict, count: 1, tables: world.view, cache: cache)
                return verdict
            }
        }

        func takesShortWay(_ packet: Encapsulated, in world: ForwardingTables) -> Bool {
            packet.packet.withUnsafeBytes { bytes in
                var frame = self.frame(bytes, packet.mode, 0)
                var verdict = Verdict(kind: .hold)
                return FastPath.accepts(&frame, world.view, cache, &verdict)
            }
        }

        private func frame(
            _ bytes: UnsafeRawBufferPointer, _ mode: Mode, _ interface: UInt16
        ) -> Frame {
            Frame(
                network: bytes.baseAddress!, head: head, length: bytes.count,
                wireLength: bytes.count, linkLength: 14,
                etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, interface: interface,
                isForUs: true)
        }
    }

    /// More worlds than a scope has generations: what each must forget comes back in none.
    @Test("a new world forgets", arguments: Mode.allCases)
    func generations(mode: Mode) {
        let worker = Worker()
        let open = world()
        let closed = world { $0.tunnels[0].destinations = [.init(prefix: prefix("192.88.99.1"))] }
        let packet = Encapsulated(mode)
        for generation in 0..<2100 {
            let isOpen = generation % 3 != 2
            worker.cache.empty()
            for _ in 0..<3 {
                let verdict = worker.judge(packet, in: isOpen ? open : closed)
                #expect(verdict.kind == (isOpen ? .inject : .drop), "world \(generation)")
            }
        }
    }

    /// As many as a configuration may have: no number of one is another's.
    @Test("every interface and every tunnel has a number of its own", arguments: Mode.allCases)
    func numbers(mode: Mode) {
        let worker = Worker()
        let own = { (number: Int) in
            mode.outerIsIPv4
                ? "198.18.\(number >> 8).\(number & 255)" : "2001:db8:77::\(String(number, radix: 16))"
        }
        let world = world { policy in
            policy.interfaces = (0..<Limits.interfaces.value).map {
                .init(name: "e\($0)", reversePath: .off)
            }
            policy.tunnels = (0..<Limits.tunnels.value).map { number in
                Policy.Tunnel(
                    name: "t\(number)", interfaces: [number % Limits.interfaces.value],
                    local: [prefix(own(number))], remotes: policy.tunnels[0].remotes)
            }
        }
        for number in [0, 1, 63, 64, 65, 127, 128, 255, 256, 319, 1022, 1023] {
            let interface = number % Limits.interfaces.value
            var packet = Encapsulated(mode)
            packet.outer.destination = ip(own(number))
            for other in Set([0, 1, 63, 64, 191, 192, 255, interface]) {
                for _ in 0..<3 {
                    let verdict = worker.judge(packet, in: world, interface: UInt16(other))
                    #expect(
                        verdict.kind == (other == interface ? .inject : .pass),
                        "tunnel \(number) on interface \(other)")
                    if other == interface { #expect(verdict.tunnel == number) }
                }
            }
        }
    }

    @Test("one interface's reverse path is not another's", arguments: Mode.allCases)
    func interfaces(mode: Mode) {
        let worker = Worker()
        let routes = ["0.0.0.0/0", "::/0"].map {
            RouteEntry(prefix: prefix($0), table: RouteEntry.tableMain, interfaces: [2])
        }
        let world = world(routes: routes) {
            $0.interfaces[0].reversePath = .strict
            $0.interfaces[1].reversePath = .strict
        }
        for _ in 0..<4 {
            #expect(worker.judge(Encapsulated(mode), in: world, interface: 0).kind == .inject)
            #expect(
                worker.judge(Encapsulated(mode), in: world, interface: 1).reason == .reversePath)
        }
    }

    /// A pair is not kept where a rule looks at more of a packet than its addresses.
    @Test("policy rules see each packet", arguments: Mode.allCases)
    func rules(mode: Mode) {
        let worker = Worker()
        let routes = ["0.0.0.0/0", "::/0"].flatMap {
            [
                RouteEntry(prefix: prefix($0), table: RouteEntry.tableMain, interfaces: [2]),
                RouteEntry(prefix: prefix($0), table: 100, interfaces: [3]),
            ]
        }
        for isByProtocol in [false, true] {
            var rule = RuleEntry(isIPv4: mode.innerIsIPv4, priority: 100, action: .lookup(100))
            if isByProtocol { rule.protocolNumber = 17 } else { rule.tos = 0x10 }
            let world = world(routes: routes, rules: bothDefaults + [rule]) {
                $0.interfaces[0].reversePath = .strict
            }
            worker.cache.empty()
            for round in 0..<6 {
                var packet = Encapsulated(mode)
                if round % 2 == 1 {
                    packet.inner.protocolNumber = isByProtocol ? 17 : 6
                    packet.inner.trafficClass = isByProtocol ? 0 : 0x10
                }
                let verdict = worker.judge(packet, in: world)
                #expect(
                    verdict.reason == (round % 2 == 0 ? .none : .reversePath), "round \(round)")
            }
        }
    }

    /// Both inner families by one outer pair, each through a tunnel of its own.
    @Test("one outer pair, two tunnels")
    func tunnels() {
        let worker = Worker()
        let world = world {
            $0.tunnels.append($0.tunnels[0])
            $0.tunnels[0].modes = [.ipip, .ip6ip6]
            $0.tunnels[1].modes = [.ip6ip, .ipip6]
            $0.tunnels[1].name = "other"
        }
        for _ in 0..<4 {
            for mode in Mode.allCases {
                let verdict = worker.judge(Encapsulated(mode), in: world)
                #expect(verdict.kind == .inject && verdict.mode == mode)
                #expect(verdict.tunnel == (mode == .ipip || mode == .ip6ip6 ? 0 : 1))
            }
        }
    }

    /// Nothing else tells the two ways apart: the answer is the same.
    @Test("the smallest packets take the short way", arguments: Mode.allCases)
    func smallest(mode: Mode) {
        let worker = Worker()
        let world = world()
        var packet = Encapsulated(mode)
        for _ in 0..<2 { #expect(worker.judge(packet, in: world).kind == .inject) }
        #expect(worker.takesShortWay(packet, in: world))
        packet.inner.protocolNumber = 17
        packet.payload = [0, 9, 0, 9, 0, 8, 0, 0]
        #expect(worker.takesShortWay(packet, in: world))
        packet.inner.protocolNumber = 1
        #expect(!worker.takesShortWay(packet, in: world))
        packet.inner.protocolNumber = 17
        packet.payload.removeLast()
        #expect(!worker.takesShortWay(packet, in: world))
    }

    /// A pair that is kept under other addresses would let in those, which nobody has checked.
    @Test("what is kept of a packet is its own addresses", arguments: Mode.allCases)
    func kept(mode: Mode) {
        let worker = Worker()
        let world = world()
        let packet = Encapsulated(mode)
        for _ in 0..<3 { #expect(worker.judge(packet, in: world).kind == .inject) }
        packet.packet.withUnsafeBytes { bytes in
            let outer = mode.outerIsIPv4 ? 20 : 40
            let inner = Bytes(bytes.baseAddress! + outer, count: bytes.count - outer)
            // Key 0 belongs at the first place of each table.
            if mode.innerIsIPv4 {
                let first = UnsafeRawPointer(worker.cache.pair4(0))
                let all = (0..<1 << 14).map { (first + 16 * $0).load(as: OuterCache.Pair<UInt64>.self) }
                #expect(all.filter { $0.scope != 0 }.map(\.key) == [inner.ipv4.rawAddresses])
            } else {
                let first = UnsafeRawPointer(worker.cache.pair6(0))
                let all = (0..<1 << 14).map {
                    (first + 64 * $0).load(as: OuterCache.Pair<OuterCache.Addresses>.self)
                }
                let kept = all.filter { $0.scope != 0 }.map(\.key)
                #expect(
                    kept.map { [$0.first, $0.second, $0.third, $0.fourth] }
                        == [[8, 16, 24, 32].map { inner.raw($0) }])
            }
        }
    }

    /// More pairs than places, in an order without order, some of them refused.
    @Test("pairs push each other out", arguments: Mode.allCases)
    func crowd(mode: Mode) {
        let worker = Worker()
        let refused = mode.innerIsIPv4 ? prefix("80.64.0.0/10") : prefix("2a00:40::/26")
        let world = world { $0.denySources = [refused] }
        var random = Random(7)
        var sources: [Address] = []
        for _ in 0..<12_000 {
            let source: Address
            if sources.count > 100 && random.chance(3) {
                source = sources[random.below(sources.count)]
            } else {
                source =
                    mode.innerIsIPv4
                    ? Address(ipv4: 80 << 24 | UInt32(random.below(1 << 24)))
                    : Address(
                        high: 0x2a00 << 48 | UInt64(random.below(1 << 8)) << 32,
                        low: random.next())
                sources.append(source)
            }
            var packet = Encapsulated(mode)
            packet.inner.source = source
            let verdict = worker.judge(packet, in: world)
            #expect(
                verdict.reason == (refused.contains(source) ? .localSource : .none), "\(source)")
        }
    }
}

/// Pairs of inner IPv6 addresses that belong at one place: told apart by each of their words.
@Suite("Pairs of one place")
struct PairPlaceTests {
    /// A place follows from three of the four words, as their exclusive or.
    enum Difference: CaseIterable {
        case destinationsFirst, sourcesBoth, sourcesFirst, sourcesSecond

        /// Addresses of the same place, others for each of `bits`.
        func addresses(_ source: Address, _ destination: Address, _ bits: UInt64) -> (Address, Address) {
            switch self {
            case .destinationsFirst:
                (source, Address(high: destination.high ^ bits << 16, low: destination.low))
            case .sourcesBoth:
                (Address(high: source.high ^ bits, low: source.low ^ bits), destination)
            case .sourcesFirst:
                (
                    Address(high: source.high ^ bits, low: source.low),
                    Address(high: destination.high, low: destination.low ^ bits)
                )
            case .sourcesSecond:
                (
                    Address(high: source.high, low: source.low ^ bits),
                    Address(high: destination.high, low: destination.low ^ bits)
                )
            }
        }
    }

    /// Two that may pass hold both places, and then comes one that may not.
    @Test(
        "one that may not pass is not taken for one that may",
        arguments: [Mode.ip6ip, .ip6ip6], Difference.allCases)
    func refused(mode: Mode, difference: Difference) {
        func packet(_ bits: UInt64) -> Encapsulated {
            var packet = Encapsulated(mode)
            (packet.inner.source, packet.inner.destination) = difference.addresses(
                packet.inner.source, packet.inner.destination, bits)
            return packet
        }
        let isBySource = difference != .destinationsFirst
        let world = world {
            $0.tunnels[0].destinations = ["2001:db8:2::/48", "2001:db8:6::/48"].map {
                .init(prefix: prefix($0))
            }
            if isBySource { $0.denySources = [Prefix(host: packet(1).inner.source)] }
        }
        let worker = OuterCacheTests.Worker()
        for _ in 0..<3 {
            #expect(worker.judge(packet(0), in: world).kind == .inject)
            #expect(worker.judge(packet(4), in: world).kind == .inject)
            #expect(
                worker.judge(packet(1), in: world).reason
                    == (isBySource ? .localSource : .destinationNotAllowed))
        }
    }
}
