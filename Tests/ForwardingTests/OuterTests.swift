// Rows O1 to O12: the outer header, what is accepted and what refused.
// Which tunnel a frame belongs to (O4) has a file of its own.

import TestPackets
import Testing

@testable import Forwarding

@Suite("Outer header")
struct OuterTests {
    static let overIPv4: [Mode] = [.ipip, .ip6ip]
    static let overIPv6: [Mode] = [.ipip6, .ip6ip6]
    let world = ForwardingTests.world()

    @Test("a good frame is stripped", arguments: Mode.allCases)
    func good(mode: Mode) {
        let packet = Encapsulated(mode)
        let judged = judge(packet, in: world)
        #expect(judged.outcome == .inject(packet.innerPacket))
        #expect(judged.verdict.mode == mode)
        #expect(judged.verdict.tunnel == 0)
        #expect(judged.verdict.device == 0)
        #expect(judged.verdict.headLength == 0)
        #expect(judged.verdict.vnet == VirtioHeader())
    }

    @Test("O1 version", arguments: Mode.allCases, 0...15)
    func version(mode: Mode, version: Int) {
        let packet = Encapsulated(mode).with { $0.outer.version = UInt8(version) }
        let isGood = version == (mode.outerIsIPv4 ? 4 : 6)
        #expect(
            outcome(packet, in: world)
                == (isGood ? .inject(packet.innerPacket) : .drop(.invalidHeader)))
    }

    @Test("O1 the length of a header of another version is no length", arguments: Mode.allCases)
    func versionBeforeLength(mode: Mode) {
        for (version, length) in [(5, 65535), (0, 65535), (5, 0), (7, 1000)] {
            let outer = Encapsulated(mode).with {
                $0.outer.version = UInt8(version)
                $0.outer.lengthField = UInt16(length)
            }
            #expect(outcome(outer, in: world) == .drop(.invalidHeader))
            let inner = Encapsulated(mode).with {
                $0.inner.version = UInt8(version)
                $0.inner.lengthField = UInt16(length)
            }
            #expect(outcome(inner, in: world) == .drop(.invalidHeader))
            // What the capture lost comes before it.
            #expect(outcome(outer, in: world, Arrival(cut: 1)) == .drop(.packetTooSmall))
        }
    }

    @Test("O1 header length below five words", arguments: overIPv4, 0...4)
    func headerLength(mode: Mode, words: Int) {
        let packet = Encapsulated(mode).with { $0.outer.headerWords = UInt8(words) }
        #expect(outcome(packet, in: world) == .drop(.invalidHeader))
    }

    @Test("O1 header checksum: each of its bits", arguments: overIPv4, 0...15)
    func checksum(mode: Mode, bit: Int) {
        let packet = Encapsulated(mode).with { $0.outer.checksumError = 1 << UInt16(bit) }
        #expect(outcome(packet, in: world) == .drop(.invalidChecksum))
    }

    @Test("O1 the checksum covers options", arguments: overIPv4)
    func checksumOfOptions(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.outer.options = [1, 1, 1, 1] }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
        let bad = packet.with { $0.outer.checksumError = 0x0100 }
        #expect(outcome(bad, in: world) == .drop(.invalidChecksum))
    }

    @Test("O1 total length beyond the frame, or below the header", arguments: Mode.allCases)
    func lengths(mode: Mode) {
        let good = Encapsulated(mode)
        let header = mode.outerIsIPv4 ? 20 : 0
        let length = UInt16(header + good.innerPacket.count)
        let beyond = good.with { $0.outer.lengthField = length + 1 }
        #expect(outcome(beyond, in: world) == .drop(.packetTooSmall))
        // The byte that is missing may be there as padding: then the inner packet is whole.
        let padded = beyond.with { $0.padding = [0] }
        #expect(outcome(padded, in: world) == .inject(good.innerPacket))
        let short = good.with { $0.outer.lengthField = length - 1 }
        #expect(outcome(short, in: world) == .drop(.packetTooSmall))
        let empty = good.with { $0.outer.lengthField = UInt16(header) }
        #expect(outcome(empty, in: world) == .drop(.packetTooSmall))
        if mode.outerIsIPv4 {
            let lie = good.with { $0.outer.lengthField = 19 }
            #expect(outcome(lie, in: world) == .drop(.invalidHeader))
        }
    }

    @Test("O2 padding is trimmed, behind the outer and behind the inner", arguments: Mode.allCases)
    func padding(mode: Mode) {
        let packet = Encapsulated(mode)
        for count in [1, 2, 10, 46, 1000] {
            let fill = [UInt8](repeating: 0x5a, count: count)
            let behindOuter = packet.with { $0.padding = fill }
            #expect(outcome(behindOuter, in: world) == .inject(packet.innerPacket))
            let inside = packet.outer.packet(packet.innerPacket + fill)
            let judged = judge(
                inside, etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world)
            #expect(judged.outcome == .inject(packet.innerPacket))
        }
    }

    @Test("O3 frames for others, other ethertypes, other addresses", arguments: Mode.allCases)
    func notOurs(mode: Mode) {
        let packet = Encapsulated(mode)
        #expect(outcome(packet, in: world, Arrival(isForUs: false)) == .pass)
        for etherType: UInt16 in [0, 0x0806, 0x8100, 0x88a8, 0x8847, 0xffff] {
            #expect(judge(packet.packet, etherType: etherType, in: world).outcome == .pass)
        }
        let elsewhere = packet.with {
            $0.outer.destination = ip(mode.outerIsIPv4 ? "192.0.2.3" : "2001:db8::3")
        }
        #expect(outcome(elsewhere, in: world) == .pass)
        #expect(outcome(elsewhere, in: world, Arrival(cut: 10)) == .pass)
    }

    @Test("O3 tags of VLAN 0 are none", arguments: Mode.allCases, [UInt16(0x8100), 0x88a8])
    func priorityTags(mode: Mode, tag: UInt16) {
        let type: UInt16 = mode.outerIsIPv4 ? 0x0800 : 0x86dd
        let packet = Encapsulated(mode).packet
        func tagged(_ count: Int, control: UInt16 = 0xe000) -> [UInt8] {
            (0..<count).flatMap { number -> [UInt8] in
                let next = number + 1 < count ? tag : type
                return [control, next].flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
            } + packet
        }
        // Offsets of a checksum to be finished count from the link layer's first byte.
        func arrival(_ tags: Int) -> Arrival {
            Arrival(
                vnet: VirtioHeader(
                    flags: VirtioHeader.needsChecksum,
                    checksumStart: UInt16(14 + 4 * tags + packet.count - 8 - 20),
                    checksumOffset: 6))
        }
        let plain = judge(packet, etherType: type, in: world)
        let unfinished = judge(packet, etherType: type, in: world, arrival(0))
        #expect(plain.outcome.isInject)
        for count in 1...8 {
            let same = judge(tagged(count), etherType: tag, in: world)
            #expect(same.outcome == plain.outcome)
            let other = judge(tagged(count), etherType: tag, in: world, arrival(count))
            #expect(other.outcome == unfinished.outcome)
            for vlan: UInt16 in [1, 0x0100, 0x0fff, 0xe001] {
                let named = tagged(count, control: vlan)
                #expect(judge(named, etherType: tag, in: world).outcome == .pass)
            }
        }
        #expect(judge(tagged(9), etherType: tag, in: world).outcome == .pass)
        for length in 0..<4 {
            let cut = Array(tagged(1)[..<length])
            #expect(judge(cut, etherType: tag, in: world).outcome == .pass)
        }
        #expect(
            judge(tagged(1), etherType: tag, in: world, Arrival(isForUs: false)).outcome == .pass)
    }

    @Test("O3 other protocols than 4 and 41", arguments: Mode.allCases)
    func otherProtocols(mode: Mode) {
        for number in UInt8.min...UInt8.max where number != 4 && number != 41 {
            // Behind an IPv6 header these are extension headers, which have tests of their own.
            if !mode.outerIsIPv4 && [0, 43, 44, 60].contains(number) { continue }
            let packet = Encapsulated(mode).with { $0.outer.protocolNumber = number }
            if outcome(packet, in: world) != .pass { Issue.record("protocol \(number)") }
        }
    }

    @Test("O5 the inner version must be the protocol's", arguments: Mode.allCases, 0...15)
    func innerVersion(mode: Mode, version: Int) {
        let packet = Encapsulated(mode).with { $0.inner.version = UInt8(version) }
        let isGood = version == (mode.innerIsIPv4 ? 4 : 6)
        #expect(
            outcome(packet, in: world)
                == (isGood ? .inject(packet.innerPacket) : .drop(.invalidHeader)))
    }

    @Test("O5 a whole packet of the other family", arguments: Mode.allCases)
    func otherFamily(mode: Mode) {
        let other = Mode.allCases.first {
            $0.outerIsIPv4 == mode.outerIsIPv4 && $0.innerIsIPv4 != mode.innerIsIPv4
        }!
        let packet = Encapsulated(other).with {
            $0.outer.protocolNumber = mode.innerIsIPv4 ? 4 : 41
        }
        #expect(outcome(packet, in: world) == .drop(.invalidHeader))
    }

    @Test("O6 the outer TTL is not looked at", arguments: Mode.allCases, [0, 1, 255] as [UInt8])
    func ttl(mode: Mode, ttl: UInt8) {
        let packet = Encapsulated(mode).with { $0.outer.ttl = ttl }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
    }

    static let harmlessOptions: [[UInt8]] = [
        [1], [1, 1, 1, 1], [0, 0, 0, 0],
        [148, 4, 0, 0],  // router alert
        [7, 7, 4, 0, 0, 0, 0],  // record route
        [68, 8, 5, 0, 0, 0, 0, 0],  // timestamp
        [1, 148, 4, 0, 0, 68, 4, 5, 0],
        [0, 131, 137, 131],  // behind the end of the list
        [7, 39, 4] + [UInt8](repeating: 0, count: 36) + [1],  // all forty bytes
        [0x5e, 2, 0x9e, 2],  // unknown
        [7, 7, 8, 0, 0, 0, 0],  // record route, full
        [68, 4, 5, 0xe0],  // timestamp, full, and 14 routers found it so
        [68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],  // with addresses
        [68, 4, 5, 0xf3],  // of prescribed addresses: nobody counts
    ]

    @Test("O7 IPv4 options are skipped", arguments: overIPv4, harmlessOptions)
    func harmless(mode: Mode, options: [UInt8]) {
        let packet = Encapsulated(mode).with { $0.outer.options = options }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
    }

    static let sourceRoutes: [[UInt8]] = [
        [131, 7, 4, 10, 0, 0, 1], [137, 7, 4, 10, 0, 0, 1], [131, 3, 4], [137, 2],
        [1, 1, 1, 131, 7, 4, 10, 0, 0, 1], [148, 4, 0, 0, 137, 3, 8],
    ]

    @Test("O7 source routes are refused", arguments: overIPv4, sourceRoutes)
    func sourceRoute(mode: Mode, options: [UInt8]) {
        let packet = Encapsulated(mode).with { $0.outer.options = options }
        #expect(outcome(packet, in: world) == .drop(.sourceRoute))
    }

    static let malformedOptions: [[UInt8]] = [
        [7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 4, 0], [1, 1, 1, 7], [131, 255, 4, 0],
        [131, 3, 4, 7, 1, 0, 0, 0],
        // Lists without room for a whole entry, or with one before their head; two of a kind.
        [7, 2, 1, 1], [7, 7, 3, 0, 0, 0, 0], [7, 6, 4, 0, 0, 0],
        [7, 7, 4, 0, 0, 0, 0, 7, 7, 4, 0, 0, 0, 0], [68, 3, 5], [68, 8, 4, 0, 0, 0, 0, 0],
        [68, 7, 5, 0, 0, 0, 0], [68, 8, 5, 1, 0, 0, 0, 0], [68, 8, 5, 3, 0, 0, 0, 0],
        [68, 4, 5, 0xf0], [68, 4, 5, 0, 68, 4, 5, 0], [148, 3, 0],
    ]

    @Test("O7 options that do not parse", arguments: overIPv4, malformedOptions)
    func malformed(mode: Mode, options: [UInt8]) {
        let packet = Encapsulated(mode).with { $0.outer.options = options }
        #expect(outcome(packet, in: world) == .drop(.invalidHeader))
    }

    @Test("O7 a label is only for nodes of its domain", arguments: overIPv4)
    func label(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.outer.options = [134, 6, 0, 0, 0, 1] }
        #expect(outcome(packet, in: world) == .drop(.invalidHeader))
    }

    @Test("O8 fragments of an outer IPv4 packet", arguments: overIPv4)
    func fragments(mode: Mode) {
        let packet = Encapsulated.even(mode)
        for word: UInt16 in [0x2000, 0x0001, 0x1f00, 0x2001, 0x6000, 0x0800] {
            let fragment = packet.with { $0.outer.fragment = word }
            #expect(outcome(fragment, in: world) == .drop(.fragmentsDisabled))
            let other = fragment.with { $0.outer.protocolNumber = 17 }
            #expect(outcome(other, in: world) == .pass)
        }
        // Don't-fragment and the reserved bit do not make a fragment.
        for word: UInt16 in [0, 0x4000, 0x8000, 0xc000] {
            let whole = packet.with { $0.outer.fragment = word }
            #expect(outcome(whole, in: world) == .inject(packet.innerPacket))
        }
    }

    @Test("O8 a later fragment holds no inner header: none is looked for", arguments: overIPv4)
    func laterFragment(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.outer.fragment = 185
            $0.inner.version = 9
        }
        #expect(outcome(packet, in: world) == .drop(.fragmentsDisabled))
    }

    @Test("O11 fragments of an outer IPv6 packet", arguments: overIPv6)
    func fragmentsIPv6(mode: Mode) {
        let packet = Encapsulated.even(mode)
        for (offset, more) in [(0, true), (1, false), (185, true), (8000, false)] {
            let fragment = packet.with {
                $0.outer.extensions = [.fragment(offset: UInt16(offset), more: more)]
            }
            #expect(outcome(fragment, in: world) == .drop(.fragmentsDisabled))
            for number: UInt8 in [6, 17, 58] {
                let other = fragment.with { $0.outer.protocolNumber = number }
                #expect(outcome(other, in: world) == .pass)
            }
        }
        for reserved: UInt16 in 0...3 {
            let atomic = packet.with {
                $0.outer.extensions = [.fragment(offset: 0, more: false, reserved: reserved)]
            }
            #expect(outcome(atomic, in: world) == .inject(packet.innerPacket))
        }
    }

    @Test("O11 a later fragment of a destination header is not ours to judge", arguments: overIPv6)
    func laterFragmentOfHeaders(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.outer.extensions = [
                .fragment(offset: 2, more: false), .options(Extension.destination, []),
            ]
        }
        #expect(outcome(packet, in: world) == .pass)
    }

    @Test("O11 a first fragment must hold the whole chain", arguments: overIPv6)
    func firstFragmentWithoutChain(mode: Mode) {
        let packet = Encapsulated.even(mode).with {
            $0.outer.extensions = [
                .fragment(offset: 0, more: true),
                .options(Extension.destination, [5, 10] + [UInt8](repeating: 0, count: 10)),
            ]
        }
        #expect(outcome(packet, in: world) == .drop(.fragmentsDisabled))
        // Cut within the destination header: what follows may well be a tunnel's packet.
        let bytes = packet.with { $0.outer.lengthField = 16 }.packet
        #expect(
            judge(Array(bytes[..<56]), etherType: 0x86dd, in: world).outcome
                == .drop(.badExtensionHeader))
    }

    @Test("O12 our own address as outer source", arguments: Mode.allCases)
    func ownSource(mode: Mode) {
        let world = ForwardingTests.world { policy in
            policy.tunnels[0].remotes = [prefix("0.0.0.0/0"), prefix("::/0")]
            policy.tunnels[0].local += [prefix("192.0.2.9"), prefix("2001:db8::9")]
        }
        #expect(outcome(Encapsulated(mode), in: world).isInject)
        for source in mode.outerIsIPv4
            ? ["192.0.2.2", "192.0.2.9"] : ["2001:db8::2", "2001:db8::9"]
        {
            let packet = Encapsulated(mode).with { $0.outer.source = ip(source) }
            #expect(outcome(packet, in: world) == .drop(.remoteNotAllowed))
        }
    }
}
