// Probes from a link-local address inside a tunnel: the new source, its checksum, and all that stays
// refused; and the way back.

import IP
import Routing
import TestPackets
import Testing

@testable import Forwarding

/// What the tests of rewriting share.
enum Probe {
    typealias Build = @Sendable (IPHeader) -> [UInt8]

    static let from = ip("fe80::1234:5678:9abc")
    static let to = ip("2603:1062:0:1:fe80:1234:5678:9abc")
    static let other = ip("fe80::1234:5678:9abd")

    static func world(_ change: (inout Policy) -> Void = { _ in }) -> ForwardingTables {
        ForwardingTests.world {
            $0.rewrites = [
                Policy.SourceRewrite(from: ip("fe80::7"), to: ip("2001:db8:ff::7"), interface: 0),
                Policy.SourceRewrite(from: from, to: to, interface: 0),
            ]
            change(&$0)
        }
    }

    /// A probe in a tunnel, its payload built for a header with its source.
    static func encapsulated(
        _ mode: Mode = .ip6ip6, number: UInt8 = 6, from source: Address = from,
        _ build: @escaping Probe.Build
    ) -> Encapsulated {
        Encapsulated(mode).with {
            $0.inner.source = source
            $0.inner.protocolNumber = number
            $0.payload = build($0.inner)
        }
    }

    @Sendable static func tcp(_ header: IPHeader) -> [UInt8] {
        TCPSegment(flags: TCPSegment.syn, options: mss(1460), payload: []).segment(header)
    }
    @Sendable static func datagram(_ header: IPHeader) -> [UInt8] { udp(header, to: 53, [1, 2, 3]) }
    @Sendable static func echo(_ header: IPHeader) -> [UInt8] { icmp(header, type: 128, [9, 8, 7]) }

    /// The packet as it was before, from `to`.
    static func expected(
        _ packet: Encapsulated, number: UInt8, _ build: @escaping Probe.Build
    ) -> [UInt8] {
        var header = packet.inner
        header.source = to
        header.protocolNumber = number
        return header.packet(build(header))
    }
}

@Suite("Source rewriting in a tunnel")
struct SourceRewriteTests {
    private static let noClamp: @Sendable (inout Policy) -> Void = { $0.mssIPv6 = .off }

    @Test("TCP, UDP and ICMPv6 go on with a checksum that holds", arguments: [Mode.ip6ip, .ip6ip6])
    func protocols(mode: Mode) {
        let world = Probe.world(Self.noClamp)
        let builds: [(UInt8, Probe.Build)] = [
            (6, Probe.tcp), (17, Probe.datagram), (58, Probe.echo),
        ]
        for (number, build) in builds {
            let packet = Probe.encapsulated(mode, number: number, build)
            let judged = judge(packet, in: world)
            #expect(
                judged.outcome == .inject(Probe.expected(packet, number: number, build)),
                "protocol \(number)")
            #expect(judged.verdict.mode == mode)
        }
    }

    @Test("any two addresses and any payload; a wrong checksum stays wrong by as much")
    func random() {
        var random = Random(11)
        for _ in 0..<500 {
            let from = Address(bytes: [0xfe, 0x80] + random.bytes(14))!
            let to = Address(bytes: [0x20] + random.bytes(15))!
            let world = Probe.world {
                $0.rewrites = [Policy.SourceRewrite(from: from, to: to, interface: 0)]
                $0.mssIPv6 = .off
            }
            let error: UInt16 = random.chance(2) ? 0 : UInt16(random.below(65535))
            let payload = random.bytes(random.below(60))
            let build: Probe.Build = {
                TCPSegment(checksumError: 0, payload: payload).segment($0)
            }
            var packet = Probe.encapsulated(from: from, build)
            let sum16 = UInt16(packet.payload[16]) << 8 | UInt16(packet.payload[17])
            packet.payload.replaceSubrange(16..<18, with: word(sum16 &+ error))
            guard case .inject(let bytes) = outcome(packet, in: world) else {
                Issue.record("refused: \(hex(packet.packet))")
                return
            }
            var header = packet.inner
            #expect(Address(bytes: bytes[8..<24]) == to)
            let before = header.checksum(packet.payload)
            header.source = to
            // What is left over is the same, in one's complement: 0 and 0xffff are one.
            let after = header.checksum(Array(bytes[40...]))
            #expect(before % 0xffff == after % 0xffff, "\(hex(packet.packet))")
            #expect(Array(bytes[40..<56]) == Array(packet.payload[..<16]))
        }
    }

    @Test("a UDP checksum of zero stays; one that comes to zero is written as the other")
    func datagramZero() {
        let world = Probe.world()
        var packet = Probe.encapsulated(number: 17, Probe.datagram)
        packet.payload.replaceSubrange(6..<8, with: [0, 0])
        guard case .inject(let bytes) = outcome(packet, in: world) else {
            Issue.record("refused")
            return
        }
        #expect(bytes[46..<48] == [0, 0])
        // The last word of the payload makes the sum, from the new source, all ones.
        var header = packet.inner
        header.source = Probe.to
        var payload: [UInt8] = [0, 0]
        let rest = header.checksum(word(40000) + word(53) + word(10) + [0, 0] + payload)
        payload = word(rest)
        #expect(header.checksum(word(40000) + word(53) + word(10) + [0, 0] + payload) == 0)
        packet = Probe.encapsulated(number: 17) { [payload] in udp($0, to: 53, payload) }
        guard case .inject(let zero) = outcome(packet, in: world) else {
            Issue.record("refused")
            return
        }
        #expect(zero[46..<48] == [0xff, 0xff])
    }

    @Test("an unfinished checksum is the pseudo-header's sum, and is mended as that")
    func unfinished() {
        let world = Probe.world()
        for (number, offset): (UInt8, Int) in [(6, 16), (17, 6)] {
            let build: Probe.Build = { header in
                var bytes = number == 6 ? Probe.tcp(header) : Probe.datagram(header)
                let count = word(0) + word(UInt16(bytes.count))
                let pseudo = sum(header.addressBytes + count + [0, 0, 0, number])
                bytes.replaceSubrange(offset..<offset + 2, with: word(pseudo))
                return bytes
            }
            let packet = Probe.encapsulated(number: number, build)
            var arrival = Arrival()
            arrival.vnet = VirtioHeader(
                flags: 1, checksumStart: UInt16(14 + packet.outerLength + 40),
                checksumOffset: UInt16(offset))
            let judged = judge(packet, in: world, arrival)
            guard case .inject(let bytes) = judged.outcome else {
                Issue.record("refused")
                return
            }
            let expected = Probe.expected(packet, number: number, build)
            #expect(bytes[8..<24] == expected[8..<24])
            let field = 40 + offset..<42 + offset
            #expect(bytes[field] == expected[field], "protocol \(number)")
            #expect(judged.verdict.vnet.flags == 1 && judged.verdict.vnet.checksumStart == 40)
        }
    }

    @Test("MSS, marks and source in one head")
    func composition() {
        let world = Probe.world {
            $0.dscp = .uniform
            $0.ttl = .uniform
            $0.mssIPv6 = .fixed(1300)
        }
        var packet = Probe.encapsulated(.ip6ip6, Probe.tcp)
        packet.outer.trafficClass = 0xb8
        packet.outer.ttl = 33
        let judged = judge(packet, in: world)
        guard case .inject(let bytes) = judged.outcome else {
            Issue.record("refused")
            return
        }
        var header = packet.inner
        header.source = Probe.to
        header.trafficClass = 0xb8
        header.ttl = 33
        let segment = TCPSegment(flags: TCPSegment.syn, options: mss(1300), payload: [])
        #expect(bytes == header.packet(segment.segment(header)))
        #expect(judged.verdict.clampedMSS)
    }

    @Test("no reverse path, no route, no martian check of a rewritten source")
    func reversePath() {
        let world = Probe.world {
            $0.interfaces[0].reversePath = .strict
            $0.denySources = [prefix("fe80::/10"), prefix("2603::/16")]
        }
        let routed = ForwardingTables(
            policy: world.policy, routes: RouteTable([]), interfaces: world.interfaces)
        #expect(outcome(Probe.encapsulated(.ip6ip6, Probe.tcp), in: routed).isInject)
        #expect(
            outcome(Probe.encapsulated(from: ip("2001:db8:c::7"), Probe.tcp), in: routed)
                == .drop(.reversePath))
    }

    @Test("all else from a link-local address stays refused")
    func refused() {
        let world = Probe.world()
        let good = Probe.encapsulated(.ip6ip6, Probe.tcp)
        #expect(outcome(good, in: world).isInject)
        #expect(outcome(good, in: world, Arrival(interface: 1)) == .drop(.invalidSource))
        #expect(
            outcome(Probe.encapsulated(from: Probe.other, Probe.tcp), in: world)
                == .drop(.invalidSource))
        for type in UInt8.min ... .max {
            let packet = Probe.encapsulated(number: 58) { icmp($0, type: type, [0, 0, 0, 0]) }
            let isOfLink = (130...137).contains(type) || type == 143
            #expect(
                outcome(packet, in: world).isInject == !isOfLink, "ICMPv6 type \(type)")
            if isOfLink { #expect(outcome(packet, in: world) == .drop(.invalidSource)) }
        }
        for number: UInt8 in [0, 1, 33, 50, 59, 132, 136, 255] {
            let packet = Probe.encapsulated(number: number) { _ in [UInt8](repeating: 0, count: 40) }
            let result = outcome(packet, in: world)
            #expect(result == .drop(.invalidSource), "protocol \(number): \(result)")
        }
        // Where it goes is checked as ever.
        var away = good
        away.inner.destination = ip("ff02::1")
        #expect(outcome(away, in: world) == .drop(.invalidDestination))
    }

    @Test("nobody else may have the address that answers go to")
    func taken() {
        let packet = Probe.encapsulated(from: Probe.to, Probe.tcp)
        #expect(outcome(packet, in: Probe.world()) == .drop(.localSource))
    }

    @Test("segments too short for a checksum are not rewritten")
    func short() {
        let world = Probe.world()
        for (number, least): (UInt8, Int) in [(6, 18), (17, 8), (58, 4)] {
            for count in 0...least + 2 {
                let packet = Probe.encapsulated(number: number) { _ in
                    Array(([128] + [UInt8](repeating: 1, count: 40))[..<count])
                }
                #expect(
                    outcome(packet, in: world).isInject == (count >= least),
                    "protocol \(number), \(count) bytes")
            }
        }
    }

    @Test("a later fragment gets the source alone, a first one its checksum too")
    func fragments() {
        let world = Probe.world(Self.noClamp)
        for (number, build): (UInt8, Probe.Build) in [(6, Probe.tcp), (17, Probe.datagram)] {
            var first = Probe.encapsulated(number: number, build)
            first.inner.extensions = [.fragment(offset: 0, more: true)]
            #expect(
                outcome(first, in: world)
                    == .inject(Probe.expected(first, number: number, build)))
            var later = Probe.encapsulated(number: number) { _ in [1, 2, 3] }
            later.inner.extensions = [.fragment(offset: 9, more: false)]
            #expect(
                outcome(later, in: world)
                    == .inject(Probe.expected(later, number: number) { _ in [1, 2, 3] }))
            // Without its whole header (RFC 7112).
            first.payload = Array(first.payload[..<4])
            #expect(outcome(first, in: world) == .drop(.badExtensionHeader))
        }
        var strange = Probe.encapsulated(number: 50) { _ in [1, 2, 3] }
        strange.inner.extensions = [.fragment(offset: 9, more: false)]
        #expect(outcome(strange, in: world) == .drop(.invalidSource))
    }

    @Test("a checksum beyond the head is not reached")
    func farChecksum() {
        let world = Probe.world(Self.noClamp)
        for count in [8, 100, 174, 182, 190, 198] {
            // A header of options takes 8 bytes for every 8.
            var packet = Probe.encapsulated(number: 17, Probe.datagram)
            packet.inner.extensions = [.options(60, [1, UInt8(count)] + [UInt8](repeating: 0, count: count))]
            let transport = packet.innerPacket.count - packet.payload.count
            let result = outcome(packet, in: world)
            if transport + 8 <= Limits.headBytes {
                #expect(
                    result == .inject(Probe.expected(packet, number: 17, Probe.datagram)),
                    "\(count)")
            } else {
                #expect(result == .drop(.invalidSource), "\(count)")
            }
        }
    }

    @Test("inner IPv4 has nothing to do with it", arguments: [Mode.ipip, .ipip6])
    func ipv4(mode: Mode) {
        #expect(outcome(Encapsulated(mode), in: Probe.world()).isInject)
    }
}

@Suite("The way back")
struct AnswerRewriteTests {
    private static func apply(_ packet: [UInt8], _ world: ForwardingTables) -> (index: Int?, bytes: [UInt8]) {
        var bytes = packet
        let index = bytes.withUnsafeMutableBytes {
            AnswerRewrite.apply($0.baseAddress!, count: packet.count, tables: world.view)
        }
        return (index, bytes)
    }

    private static func answer(
        _ number: UInt8, to destination: Address, _ build: @escaping Probe.Build
    ) -> [UInt8] {
        var header = IPHeader("2001:db8:2::9", "::1", protocolNumber: number, isIPv4: false)
        header.destination = destination
        return header.packet(build(header))
    }

    @Test("answers go to where the probe came from, and their checksum holds")
    func answers() {
        let world = Probe.world()
        for (number, build): (UInt8, Probe.Build) in [
            (6, Probe.tcp), (17, Probe.datagram), (58, { icmp($0, type: 129, [1, 2]) }),
        ] {
            let result = Self.apply(Self.answer(number, to: Probe.to, build), world)
            #expect(result.index == 1)
            #expect(result.bytes == Self.answer(number, to: Probe.from, build), "protocol \(number)")
        }
        #expect(Self.apply(Self.answer(6, to: ip("2001:db8:ff::7"), Probe.tcp), world).index == 0)
    }

    @Test("whatever else the kernel routes to the device is left as it is")
    func others() {
        let world = Probe.world()
        let good = Self.answer(17, to: Probe.to, Probe.datagram)
        var others = [
            Self.answer(17, to: ip("2603:1062:0:1:fe80:1234:5678:9abd"), Probe.datagram),
            Self.answer(17, to: Probe.from, Probe.datagram),
            Self.answer(50, to: Probe.to, Probe.datagram),
            Self.answer(58, to: Probe.to) { icmp($0, type: 135, [UInt8](repeating: 0, count: 16)) },
            IPHeader("10.2.1.9", "203.0.113.7", protocolNumber: 17, isIPv4: true).packet([0, 1]),
            good + [0],
        ]
        for count in 0..<good.count { others.append(Array(good[..<count])) }
        for packet in others {
            let result = Self.apply(packet, world)
            #expect(result.index == nil && result.bytes == packet, "\(hex(packet))")
        }
        #expect(Self.apply(good, ForwardingTests.world()).index == nil)
        var fragment = IPHeader("2001:db8:2::9", "::1", protocolNumber: 17, isIPv4: false)
        fragment.destination = Probe.to
        fragment.extensions = [.fragment(offset: 3, more: false)]
        let later = fragment.packet([1, 2, 3])
        fragment.destination = Probe.from
        #expect(Self.apply(later, world).bytes == fragment.packet([1, 2, 3]))
    }

    @Test("there and back again, also with a checksum that lies")
    func roundTrip() {
        var random = Random(5)
        for _ in 0..<500 {
            let from = Address(bytes: [0xfe, 0x80] + random.bytes(14))!
            let to = Address(bytes: [0x20] + random.bytes(15))!
            let world = Probe.world {
                $0.rewrites = [Policy.SourceRewrite(from: from, to: to, interface: 0)]
            }
            let payload = random.bytes(20 + random.below(20))
            let there = Self.apply(Self.answer(6, to: to) { _ in payload }, world).bytes
            let back = Self.answer(6, to: from) { _ in payload }
            // 0 and 0xffff are one sum: the way back may end in the other.
            #expect(there[..<56] == back[..<56] && there[58...] == back[58...])
            var header = IPHeader("2001:db8:2::9", "::1", protocolNumber: 6, isIPv4: false)
            header.destination = to
            let before = header.checksum(payload)
            header.destination = from
            #expect(before % 0xffff == header.checksum(Array(there[40...])) % 0xffff)
        }
    }
}
