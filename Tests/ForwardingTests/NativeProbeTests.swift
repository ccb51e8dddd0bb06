// Probes that are not encapsulated: exactly those that a tunnel's destinations allow are injected, and
// claimed; everything else is left to the kernel.

import IP
import TestPackets
import Testing

@testable import Forwarding

@Suite("Native probes")
struct NativeProbeTests {
    private static func header(
        _ number: UInt8, from source: Address = Probe.from, to destination: String = "2001:db8:2::9"
    ) -> IPHeader {
        var header = IPHeader("::1", destination, protocolNumber: number, isIPv4: false)
        header.source = source
        return header
    }

    private static func judged(
        _ packet: [UInt8], _ world: ForwardingTables, _ arrival: Arrival = Arrival()
    ) -> Judged {
        judge(packet, etherType: 0x86dd, in: world, arrival)
    }

    private static func outcome(_ header: IPHeader, _ payload: [UInt8], _ world: ForwardingTables) -> Outcome
    {
        judged(header.packet(payload), world).outcome
    }

    private static func allowing(_ destinations: [Policy.Destination]) -> ForwardingTables {
        Probe.world { $0.tunnels[0].destinations = destinations }
    }

    @Test("TCP, UDP and ICMPv6 are injected whole, with another source")
    func protocols() {
        let world = Probe.world { $0.mssIPv6 = .fixed(1220) }
        for (number, build): (UInt8, Probe.Build) in [
            (6, Probe.tcp), (17, Probe.datagram), (58, Probe.echo),
        ] {
            let header = Self.header(number)
            let judged = Self.judged(header.packet(build(header)) + [0, 0], world)
            var expected = header
            expected.source = Probe.to
            // A SYN's MSS stays: no outer header takes from the link's MTU.
            #expect(judged.outcome == .inject(expected.packet(build(expected))))
            let verdict = judged.verdict
            #expect(verdict.mode == .native && verdict.offset == 0 && verdict.tunnel == 0)
            #expect(verdict.ecnCell == Verdict.noCell && !verdict.clampedMSS)
        }
    }

    @Test("offloads are taken along")
    func offloads() {
        let header = Self.header(6)
        var arrival = Arrival()
        arrival.vnet = VirtioHeader(
            flags: 1, gsoType: 4, headerLength: 74, gsoSize: 1, checksumStart: 54,
            checksumOffset: 16)
        let packet = header.packet(TCPSegment(payload: [1, 2, 3]).segment(header))
        let judged = Self.judged(packet, Probe.world(), arrival)
        #expect(judged.outcome.isInject)
        #expect(judged.verdict.vnet.checksumStart == 40 && judged.verdict.vnet.gsoType == 4)
        // Claimed, so that nobody else takes it.
        for change: (inout VirtioHeader) -> Void in [
            { $0.gsoType = 1 }, { $0.checksumOffset = 2 }, { $0.checksumStart = 40 },
        ] {
            var wrong = arrival
            change(&wrong.vnet)
            #expect(Self.judged(packet, Probe.world(), wrong).outcome == .drop(.gsoInvalid))
        }
    }

    @Test("whatever is not exactly a probe is the kernel's")
    func passed() {
        let world = Probe.world()
        let tcp = Self.header(6)
        let good = tcp.packet(Probe.tcp(tcp))
        #expect(Self.judged(good, world).outcome.isInject)
        #expect(Self.judged(good, world, Arrival(interface: 1)).outcome == .pass)
        #expect(Self.judged(good, world, Arrival(isForUs: false)).outcome == .pass)
        #expect(Self.judged(good, world, Arrival(cut: 1)).outcome == .pass)
        #expect(Self.judged(good, ForwardingTests.world()).outcome == .pass)
        #expect(judge(good, etherType: 0x0800, in: world).outcome == .pass)
        var headers: [IPHeader] = [
            Self.header(6, from: Probe.other), Self.header(6, from: Probe.to),
        ]
        for to in [
            "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1", "::", "::1", "::10.2.1.9",
            "::ffff:10.2.1.9",
        ] {
            headers.append(Self.header(6, to: to))
        }
        let changes: [(inout IPHeader) -> Void] = [
            { $0.ttl = 0 }, { $0.version = 4 }, { $0.version = 7 }, { $0.lengthField = 300 },
            { $0.lengthField = 17 }, { $0.extensions = [.options(60, [])] },
            { $0.extensions = [.fragment(offset: 0, more: false)] },
            { $0.extensions = [.authentication] }, { $0.protocolNumber = 132 },
            { $0.protocolNumber = 59 },
        ]
        for change in changes {
            var header = Self.header(6)
            change(&header)
            headers.append(header)
        }
        for header in headers {
            let result = Self.outcome(header, Probe.tcp(header), world)
            #expect(result == .pass, "\(header): \(result)")
        }
        // Also where martians may pass.
        let lenient = Probe.world { $0.dropMartians = false }
        #expect(Self.outcome(headers[2], Probe.tcp(headers[2]), lenient) == .pass)
        #expect(Self.outcome(headers[8], Probe.tcp(headers[8]), lenient) == .pass)
    }

    @Test("neighbour discovery and listeners' reports stay on their link")
    func neighbours() {
        let world = Probe.world()
        for type in UInt8.min ... .max {
            let header = Self.header(58)
            let result = Self.outcome(
                header, icmp(header, type: type, [UInt8](repeating: 0, count: 24)), world)
            let isOfLink = (130...137).contains(type) || type == 143
            #expect(result.isInject == !isOfLink && (result == .pass) == isOfLink, "type \(type)")
        }
    }

    @Test("cut at every byte: never more than the frame is read")
    func cut() {
        let header = Self.header(17)
        let packet = header.packet(Probe.datagram(header))
        for count in 0..<packet.count {
            let result = Self.judged(Array(packet[..<count]), Probe.world()).outcome
            // Without the next header it may be a tunnel's.
            let expected: Outcome = count > 6 ? .pass : .drop(.packetTooSmall)
            #expect(result == expected, "\(count) bytes: \(result)")
        }
    }

    @Test("destinations: prefix, protocol, ports; the first tunnel that allows it")
    func destinations() {
        let pods = Policy.Destination(prefix: prefix("2001:db8:2::/64"))
        var web = pods
        web.protocolNumber = 6
        web.ports = [80...80, 8000...8010]
        web.device = 0
        let tcp = Self.header(6)
        func result(_ world: ForwardingTables, port: UInt16 = 80, to: String = "2001:db8:2::9") -> Outcome {
            let header = Self.header(6, to: to)
            return Self.outcome(
                header, TCPSegment(destinationPort: port).segment(header), world)
        }
        #expect(result(Self.allowing([pods])).isInject)
        #expect(result(Self.allowing([pods]), to: "2001:db8:3::9") == .pass)
        #expect(result(Self.allowing([web])).isInject)
        #expect(result(Self.allowing([web]), port: 8005).isInject)
        #expect(result(Self.allowing([web]), port: 81) == .pass)
        let udp = Self.header(17)
        #expect(Self.outcome(udp, Probe.datagram(udp), Self.allowing([web])) == .pass)
        #expect(
            result(Self.allowing([Policy.Destination(prefix: prefix("10.0.0.0/8"))])) == .pass)
        // An error that quotes what a pod is meant to have sent has no destination of its own.
        let error = Self.header(58)
        let quoted = IPHeader("2001:db8:2::9", "2001:db8::1", protocolNumber: 6, isIPv4: false)
            .packet(TCPSegment(sourcePort: 80).segment(tcp))
        #expect(
            Self.outcome(error, icmp(error, type: 1, quoted), Self.allowing([web])) == .pass)
        // The second tunnel.
        let world = Probe.world {
            $0.tunnels[0].destinations = [Policy.Destination(prefix: prefix("2001:db8:3::/64"))]
            var other = $0.tunnels[0]
            other.destinations = [web]
            $0.tunnels.append(other)
            other.interfaces = [1]
            other.destinations = []
            $0.tunnels.append(other)
        }
        let judged = Self.judged(tcp.packet(Probe.tcp(tcp)), world)
        #expect(judged.outcome.isInject && judged.verdict.tunnel == 1)
        #expect(judged.verdict.destination == 1)
        #expect(result(world, port: 81) == .pass)
    }

    @Test("the list of unroutable destinations is what the judge goes by")
    func unroutable() {
        let tables = Probe.world()
        defer { withExtendedLifetime(tables) {} }
        let policy = tables.policy.view.addresses
        var random = Random(3)
        let starts: [[UInt8]] = [
            [0xfe, 0x80], [0xfe, 0xbf], [0xfe, 0xc0], [0xfe, 0xff], [0xfe, 0x7f], [0xff], [0xfd],
            [UInt8](repeating: 0, count: 12), [UInt8](repeating: 0, count: 10) + [255, 255],
            [UInt8](repeating: 0, count: 10) + [255, 254], [0, 0, 1], [],
        ]
        for _ in 0..<200 {
            for start in starts {
                let address = Address(bytes: start + random.bytes(16 - start.count))!
                let flags = policy.lookup(ipv6: address)
                let host = Prefix(ipv6: address, length: 128)
                #expect(
                    (flags & (AddressClass.martian | AddressClass.linkLocal) != 0)
                        == SpecialPrefix.unroutableIPv6.contains { $0.covers(host) })
            }
        }
    }

    @Test("what is claimed")
    func claims() {
        var policy = Probe.world().policy.policy
        let claim = policy.claims(interface: 0).native
        #expect(claim?.sources == policy.rewrites.map(\.from))
        // Of each protocol: anywhere, but never to what belongs to one link.
        let targets = claim?.targets ?? []
        for number: UInt8 in [6, 17, 58] {
            let own = targets.filter { $0.protocolNumber == number }
            #expect(own.filter { $0.ports == .any }.map(\.prefix) == [.allIPv6])
            #expect(own.filter { $0.ports == .never }.count == SpecialPrefix.unroutableIPv6.count)
        }
        #expect(policy.claims(interface: 1).native == nil)
        policy.tunnels[0].destinations = [
            Policy.Destination(prefix: prefix("10.0.0.0/8")),
            Policy.Destination(prefix: prefix("2001:db8::/64"), protocolNumber: 132),
        ]
        #expect(policy.claims(interface: 0).native == nil)
        policy.tunnels[0].destinations += [
            Policy.Destination(prefix: prefix("2001:db8::/64"), protocolNumber: 6, ports: [80...81]),
            Policy.Destination(
                prefix: prefix("2001:db8::/64"), protocolNumber: 6, ports: [80...81], mss: .off),
        ]
        let native = policy.claims(interface: 0).native
        #expect(native?.targets.filter { $0.ports != .never }.map(\.ports) == [.set(0)])
        #expect(native?.portSets == [[80...81]])
    }
}
