// Row I7: where an inner packet may go, by prefix, protocol and port, and through which device.

import IP
import TestPackets
import Testing

@testable import Forwarding

@Suite("Destinations")
struct DestinationTests {
    static let pods = "10.2.1.9"
    static let pods6 = "2001:db8:2::9"

    /// A world whose one tunnel has these destinations.
    private static func world(
        _ destinations: [Policy.Destination], devices: [String] = ["shuck0", "shuck1", "shuck2"]
    ) -> ForwardingTables {
        ForwardingTests.world {
            $0.devices = devices.map { Policy.Device(name: $0) }
            $0.tunnels[0].destinations = destinations
        }
    }

    private static func both(
        _ number: UInt8?, _ ports: [ClosedRange<UInt16>] = [], device: Int = 0
    ) -> [Policy.Destination] {
        [pods, pods6].map {
            .init(prefix: prefix($0), protocolNumber: number, ports: ports, device: device)
        }
    }

    private static func packet(_ mode: Mode, to port: UInt16) -> Encapsulated {
        Encapsulated(mode).with { $0.carry(TCPSegment(destinationPort: port)) }
    }

    @Test("without destinations everything goes to the first device", arguments: Mode.allCases)
    func any(mode: Mode) {
        let judged = judge(Encapsulated(mode), in: Self.world([]))
        #expect(judged.outcome.isInject)
        #expect(judged.verdict.device == 0 && judged.verdict.destination == Verdict.noIndex)
    }

    @Test("elsewhere is refused", arguments: Mode.allCases)
    func elsewhere(mode: Mode) {
        let world = Self.world(Self.both(nil))
        #expect(outcome(Encapsulated(mode), in: world).isInject)
        for address in mode.innerIsIPv4
            ? ["10.2.1.8", "10.2.1.10", "203.0.113.9"] : ["2001:db8:2::8", "2001:db8:9::9"]
        {
            let packet = Encapsulated(mode).with { $0.inner.destination = ip(address) }
            #expect(outcome(packet, in: world) == .drop(.destinationNotAllowed))
        }
    }

    @Test("one family allowed is not the other", arguments: Mode.allCases)
    func families(mode: Mode) {
        let world = Self.world([.init(prefix: prefix(mode.innerIsIPv4 ? "::/0" : "0.0.0.0/0"))])
        #expect(outcome(Encapsulated(mode), in: world) == .drop(.destinationNotAllowed))
        // Not even as an IPv4-mapped address.
        let mapped = ForwardingTests.world {
            $0.dropMartians = false
            $0.tunnels[0].destinations = [.init(prefix: prefix("0.0.0.0/0"))]
        }
        if !mode.innerIsIPv4 {
            let packet = Encapsulated(mode).with { $0.inner.destination = ip("10.2.1.9") }
            #expect(outcome(packet, in: mapped) == .drop(.destinationNotAllowed))
        }
    }

    @Test("ports and ranges: all 65,536", arguments: Mode.allCases)
    func ports(mode: Mode) {
        let ranges: [ClosedRange<UInt16>] = [80...80, 443...443, 8000...8010, 65535...65535]
        let world = Self.world(Self.both(6, ranges))
        var packet = Self.packet(mode, to: 0).packet
        let place = packet.count - 18
        for port in UInt16.min...UInt16.max {
            packet.replaceSubrange(place..<(place + 2), with: word(port))
            let judged = judge(packet, etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world)
            if judged.outcome.isInject != ranges.contains(where: { $0.contains(port) }) {
                Issue.record("port \(port): \(judged.outcome)")
            }
        }
    }

    @Test("the source port is not looked at", arguments: Mode.allCases)
    func sourcePort(mode: Mode) {
        let world = Self.world(Self.both(6, [443...443]))
        let packet = Encapsulated(mode).with {
            $0.carry(TCPSegment(sourcePort: 443, destinationPort: 444))
        }
        #expect(outcome(packet, in: world) == .drop(.destinationNotAllowed))
    }

    @Test(
        "protocols, with and without ports",
        arguments: Mode.allCases, [6, 17, 33, 132, 136] as [UInt8])
    func protocols(mode: Mode, number: UInt8) {
        let world = Self.world(Self.both(number, [53...53]))
        for other: UInt8 in [1, 6, 17, 33, 50, 58, 132, 136] {
            for port: UInt16 in [52, 53] {
                let packet = Encapsulated(mode).with {
                    $0.inner.protocolNumber = other
                    $0.payload = udp($0.inner, to: port, [1, 2, 3, 4])
                }
                let isAllowed = other == number && port == 53
                #expect(outcome(packet, in: world).isInject == isAllowed, "\(other), \(port)")
            }
        }
        let all = Self.world(Self.both(number))
        let empty = Encapsulated(mode).with {
            $0.inner.protocolNumber = number
            $0.payload = []
        }
        #expect(outcome(empty, in: all).isInject)
        // Too short for a port: no rule with ports can hold.
        for length in 0..<4 {
            let short = empty.with { $0.payload = [UInt8](repeating: 0, count: length) }
            #expect(outcome(short, in: world) == .drop(.destinationNotAllowed))
        }
        let four = empty.with { $0.payload = [0, 0, 0, 53] }
        #expect(outcome(four, in: world).isInject)
    }

    @Test("the first match counts, also of nested prefixes", arguments: Mode.allCases)
    func firstMatch(mode: Mode) {
        let wide = mode.innerIsIPv4 ? "10.2.0.0/16" : "2001:db8:2::/48"
        let host = mode.innerIsIPv4 ? Self.pods : Self.pods6
        let rules: [Policy.Destination] = [
            .init(prefix: prefix(host), protocolNumber: 6, ports: [443...443], device: 2),
            .init(prefix: prefix(wide), protocolNumber: 6, ports: [80...443], device: 1),
            .init(prefix: prefix(host), device: 0),
        ]
        for (port, device, index) in [(443, 2, 0), (80, 1, 1), (442, 1, 1), (79, 0, 2)] {
            let judged = judge(Self.packet(mode, to: UInt16(port)), in: Self.world(rules))
            #expect(judged.outcome.isInject)
            #expect(judged.verdict.device == device && judged.verdict.destination == index)
        }
        // The other way about the wide one takes what both hold.
        let swapped = judge(
            Self.packet(mode, to: 443), in: Self.world([rules[1], rules[0], rules[2]]))
        #expect(swapped.verdict.device == 1 && swapped.verdict.destination == 0)
        // A neighbour in the wide prefix has the wide rule alone.
        let neighbour = Self.packet(mode, to: 443).with {
            $0.inner.destination = ip(mode.innerIsIPv4 ? "10.2.7.7" : "2001:db8:2::77")
        }
        #expect(judge(neighbour, in: Self.world(rules)).verdict.device == 1)
        let other = neighbour.with { $0.payload.replaceSubrange(2..<4, with: word(79)) }
        #expect(outcome(other, in: Self.world(rules)) == .drop(.destinationNotAllowed))
    }

    @Test("destinations are numbered through all tunnels")
    func numbering() {
        let world = ForwardingTests.world { policy in
            policy.tunnels[0].destinations = [
                .init(prefix: prefix("10.9.0.0/16")), .init(prefix: prefix("10.8.0.0/16")),
            ]
            var second = policy.tunnels[0]
            second.local = [prefix("192.0.2.5")]
            second.destinations = [
                .init(prefix: prefix("10.7.0.0/16")), .init(prefix: prefix("10.2.0.0/16")),
            ]
            policy.tunnels.append(second)
        }
        let packet = Encapsulated(.ipip).with { $0.outer.destination = ip("192.0.2.5") }
        let verdict = judge(packet, in: world).verdict
        #expect(verdict.kind == .inject && verdict.tunnel == 1 && verdict.destination == 3)
        // The second tunnel's destinations are not the first's.
        #expect(outcome(Encapsulated(.ipip), in: world) == .drop(.destinationNotAllowed))
    }

    @Test("many rules against a walk through the list", arguments: [1, 2, 3] as [UInt64])
    func model(seed: UInt64) {
        var random = Random(seed)
        let rules: [Policy.Destination] = (0..<60).map { _ in
            let address = Address(ipv4: 0x0a00_0000 | UInt32(random.below(64)))
            let hasPorts = random.chance(2)
            let low = UInt16(random.below(12))
            return .init(
                prefix: Prefix(address, length: 26 + random.below(7))!,
                protocolNumber: hasPorts ? [6, 17][random.below(2)] : [nil, 6, 17][random.below(3)],
                ports: hasPorts ? [low...(low + UInt16(random.below(4)))] : [],
                device: random.below(3))
        }
        let world = Self.world(Array(rules.dropFirst(random.below(30))))
        let given = world.policy.policy.tunnels[0].destinations
        for _ in 0..<3_000 {
            let port = UInt16(random.below(14))
            let packet = Encapsulated(.ip6ip).with {
                $0 = Encapsulated(.ipip)
                $0.inner.destination = Address(ipv4: 0x0a00_0000 | UInt32(random.below(66)))
                $0.inner.protocolNumber = random.chance(2) ? 6 : 17
                $0.payload = udp($0.inner, to: port, [UInt8](repeating: 0, count: 16))
            }
            let expected = given.firstIndex { rule in
                rule.prefix.contains(packet.inner.destination)
                    && (rule.protocolNumber ?? packet.inner.protocolNumber)
                        == packet.inner.protocolNumber
                    && (rule.ports.isEmpty || rule.ports.contains { $0.contains(port) })
            }
            let judged = judge(packet, in: world)
            if judged.outcome.isInject != (expected != nil)
                || (expected.map { Int(judged.verdict.destination) != $0 } ?? false)
            {
                // A host among the destinations cannot be the source: no client is one.
                Issue.record("seed \(seed): \(hex(packet.packet)): \(judged.verdict)")
                return
            }
        }
    }

    @Test("a later fragment is matched by prefix and protocol", arguments: Mode.allCases)
    func laterFragments(mode: Mode) {
        func fragment(_ number: UInt8, offset: UInt16) -> Encapsulated {
            Encapsulated(mode).with {
                $0.inner.protocolNumber = number
                $0.inner.fragment = offset | 0x2000
                $0.inner.extensions =
                    mode.innerIsIPv4
                    ? [] : [.fragment(offset: offset, more: true)]
                $0.payload = [UInt8](repeating: 0xff, count: 16)
            }
        }
        let world = Self.world(Self.both(17, [53...53], device: 1))
        #expect(judge(fragment(17, offset: 1), in: world).verdict.device == 1)
        #expect(outcome(fragment(17, offset: 1), in: world).isInject)
        #expect(outcome(fragment(6, offset: 1), in: world) == .drop(.destinationNotAllowed))
        // The first has ports, and they are not those.
        #expect(outcome(fragment(17, offset: 0), in: world) == .drop(.destinationNotAllowed))
    }

    @Test("MSS by destination", arguments: Mode.allCases)
    func segmentSize(mode: Mode) {
        let automatic = SegmentSizeTests.automatic[mode]!
        for (clamp, general, expected) in [
            (MSSClamp.fixed(1000), MSSClamp.auto, UInt16(1000)), (.off, .auto, 9000),
            (.auto, .off, automatic), (nil, .auto, automatic), (nil, .off, 9000),
            (nil, .fixed(1111), 1111), (.fixed(1200), .fixed(1100), 1200),
        ] as [(MSSClamp?, MSSClamp, UInt16)] {
            let world = ForwardingTests.world {
                $0.mssIPv4 = general
                $0.mssIPv6 = general
                $0.tunnels[0].destinations = [
                    .init(prefix: prefix(Self.pods), mss: clamp),
                    .init(prefix: prefix(Self.pods6), mss: clamp),
                ]
            }
            let packet = Encapsulated(mode).with { $0.carry(.syn(mss(9000))) }
            let result = packet.with { $0.carry(.syn(mss(expected))) }
            #expect(outcome(packet, in: world) == .inject(result.innerPacket))
        }
    }
}
