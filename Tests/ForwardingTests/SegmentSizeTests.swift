// Rows M6 and M7: the MSS option of SYN segments, at every place it can stand, and the checksums.

import IP
import TestPackets
import Testing

@testable import Forwarding

@Suite("Maximum segment size")
struct SegmentSizeTests {
    static let automatic: [Mode: UInt16] = [
        .ipip: 1440, .ip6ip: 1420, .ipip6: 1420, .ip6ip6: 1400,
    ]
    static let limit: UInt16 = 1300
    let world = ForwardingTests.world {
        $0.mssIPv4 = .fixed(limit)
        $0.mssIPv6 = .fixed(limit)
    }

    /// The packet with another TCP header, its checksum computed anew.
    private func carrying(_ packet: Encapsulated, _ header: TCPSegment) -> [UInt8] {
        packet.with { $0.carry(header) }.innerPacket
    }

    @Test("M6 what auto gives", arguments: Mode.allCases)
    func automatic(mode: Mode) {
        for (mtu, difference) in [(1500, 0), (9000, 7500), (1280, -220), (1400, -100)] {
            let world = ForwardingTests.world(mtu: Int32(mtu))
            let expected = UInt16(Int(Self.automatic[mode]!) + difference)
            for offered in [expected - 1, expected, expected + 1, 65535] {
                let packet = Encapsulated(mode).with { $0.carry(.syn(mss(offered))) }
                let judged = judge(packet, in: world)
                let result = carrying(packet, .syn(mss(min(offered, expected))))
                #expect(judged.outcome == .inject(result))
                #expect(judged.verdict.clampedMSS == (offered > expected))
                #expect(!judged.verdict.unclampedMSS)
            }
        }
    }

    @Test(
        "M6 a link whose MTU is unknown or leaves no room clamps nothing",
        arguments: Mode.allCases)
    func noRoom(mode: Mode) {
        for mtu: Int32 in [0, 60] {
            let packet = Encapsulated(mode).with { $0.carry(.syn(mss(65535))) }
            let judged = judge(packet, in: ForwardingTests.world(mtu: mtu))
            #expect(judged.outcome == .inject(packet.innerPacket))
            #expect(!judged.verdict.clampedMSS && !judged.verdict.unclampedMSS)
        }
    }

    @Test("fixed and off, by family", arguments: Mode.allCases)
    func byFamily(mode: Mode) {
        let world = ForwardingTests.world {
            $0.mssIPv4 = mode.innerIsIPv4 ? .fixed(900) : .off
            $0.mssIPv6 = mode.innerIsIPv4 ? .off : .fixed(900)
        }
        let packet = Encapsulated(mode).with { $0.carry(.syn(mss(1460))) }
        #expect(outcome(packet, in: world) == .inject(carrying(packet, .syn(mss(900)))))
        let off = ForwardingTests.world {
            $0.mssIPv4 = mode.innerIsIPv4 ? .off : .fixed(900)
            $0.mssIPv6 = mode.innerIsIPv4 ? .fixed(900) : .off
        }
        #expect(outcome(packet, in: off) == .inject(packet.innerPacket))
    }

    @Test("M7 only segments with SYN", arguments: Mode.allCases)
    func flags(mode: Mode) {
        for flags in UInt8.min...UInt8.max {
            let header = TCPSegment(flags: flags, options: mss(1460))
            let packet = Encapsulated(mode).with { $0.carry(header) }
            var expected = header
            if flags & 2 != 0 { expected.options = mss(Self.limit) }
            if outcome(packet, in: world) != .inject(carrying(packet, expected)) {
                Issue.record("flags \(flags)")
            }
        }
    }

    @Test("M7 never raised, never added", arguments: Mode.allCases)
    func onlyLower(mode: Mode) {
        for options in [mss(0), mss(1), mss(536), mss(1299), mss(1300), [], [1, 1, 4, 2, 3, 3, 7]] {
            let packet = Encapsulated(mode).with { $0.carry(.syn(options)) }
            let judged = judge(packet, in: world)
            #expect(judged.outcome == .inject(packet.innerPacket))
            #expect(!judged.verdict.clampedMSS && !judged.verdict.unclampedMSS)
            #expect(judged.verdict.headLength == 0)
        }
    }

    /// Options that fill `count` bytes, of no interest to us.
    private static func filler(_ count: Int) -> [UInt8] {
        switch count {
        case 0..<2: [UInt8](repeating: 1, count: count)
        case 2..<10: [0xfe, UInt8(count)] + [UInt8](repeating: 2, count: count - 2)
        default: [8, 10, 2, 4, 5, 0xb4, 2, 4, 5, 0xb4] + filler(count - 10)
        }
    }

    @Test("M7 at every offset, odd and even, among other options", arguments: Mode.allCases)
    func everyOffset(mode: Mode) {
        for offset in 0...36 {
            for isPadded in [true, false] {
                for value: UInt16 in [1301, 1460, 0x05b5, 0x8000, 0xff00, 65535] {
                    let before =
                        isPadded
                        ? [UInt8](repeating: 1, count: offset) : Self.filler(offset)
                    let behind = Self.filler(isPadded ? 0 : 36 - offset)
                    let header = TCPSegment.syn(before + mss(value) + behind)
                    let packet = Encapsulated(mode).with { $0.carry(header) }
                    let judged = judge(packet, in: world)
                    let expected = TCPSegment.syn(before + mss(Self.limit) + behind)
                    if judged.outcome != .inject(carrying(packet, expected))
                        || !judged.verdict.clampedMSS || judged.verdict.unclampedMSS
                    {
                        Issue.record("offset \(offset), MSS \(value): \(judged)")
                    }
                }
            }
        }
    }

    @Test("M7 several MSS options: each is lowered", arguments: Mode.allCases)
    func several(mode: Mode) {
        func options(_ first: UInt16, _ second: UInt16, _ third: UInt16) -> TCPSegment {
            .syn(mss(first) + [1] + mss(second) + [4, 2] + mss(third))
        }
        for (given, expected) in [
            (options(1460, 1461, 1462), options(1300, 1300, 1300)),
            (options(536, 1461, 65535), options(536, 1300, 1300)),
            (options(1301, 536, 1), options(1300, 536, 1)),
            (options(1, 2, 0x9001), options(1, 2, 1300)),
        ] {
            let packet = Encapsulated(mode).with { $0.carry(given) }
            #expect(outcome(packet, in: world) == .inject(carrying(packet, expected)))
        }
    }

    @Test("M7 behind the end of the list stands no option", arguments: Mode.allCases)
    func behindEnd(mode: Mode) {
        for options in [[0] + mss(1460), mss(1200) + [0] + mss(1460), [1, 1, 0, 2, 4, 0xff]] {
            let packet = Encapsulated(mode).with { $0.carry(.syn(options)) }
            let judged = judge(packet, in: world)
            #expect(judged.outcome == .inject(packet.innerPacket))
            #expect(!judged.verdict.clampedMSS && !judged.verdict.unclampedMSS)
        }
        let packet = Encapsulated(mode).with { $0.carry(.syn(mss(1460) + [0, 2, 4, 9])) }
        let expected = TCPSegment.syn(mss(1300) + [0, 2, 4, 9])
        #expect(outcome(packet, in: world) == .inject(carrying(packet, expected)))
    }

    static let malformed: [[UInt8]] = [
        [2, 0, 5, 0xb4], [2, 1, 5, 0xb4], [2, 2, 5, 0xb4], [2, 3, 5, 0xb4], [2, 5, 5, 0xb4, 0],
        [2, 255, 5, 0xb4], [1, 1, 1, 2], [1, 1, 2, 4], [1, 2, 4, 5],
        // A good one before or behind a bad one: the whole list is left alone.
        mss(1460) + [3, 0, 0, 0], mss(1460) + [8, 10, 1, 1], mss(1460) + [1, 1, 1, 3],
        [3, 1, 0, 1] + mss(1460), [0xfe, 12, 1, 1] + mss(1460),
    ]

    @Test("M7 options that do not parse go on as they are, counted", arguments: Mode.allCases)
    func malformed(mode: Mode) {
        for options in Self.malformed {
            let packet = Encapsulated(mode).with { $0.carry(.syn(options)) }
            let judged = judge(packet, in: world)
            #expect(judged.outcome == .inject(packet.innerPacket), "\(options)")
            #expect(judged.verdict.unclampedMSS && !judged.verdict.clampedMSS, "\(options)")
        }
    }

    @Test("M7 a TCP header that is not whole", arguments: Mode.allCases)
    func headerLength(mode: Mode) {
        for words: UInt8 in 0...15 {
            var header = TCPSegment.syn(mss(1460))
            header.headerWords = words
            let packet = Encapsulated(mode).with { $0.carry(header) }
            let judged = judge(packet, in: world)
            #expect(judged.verdict.clampedMSS == (words == 6), "\(words)")
            #expect(judged.verdict.unclampedMSS == (words < 5 || words > 6), "\(words)")
            if words != 6 { #expect(judged.outcome == .inject(packet.innerPacket)) }
        }
        for length in 0..<24 {
            let packet = Encapsulated(mode).with {
                $0.carry(.syn(mss(1460)))
                $0.payload = Array($0.payload[..<length])
            }
            let judged = judge(packet, in: world)
            #expect(judged.outcome == .inject(packet.innerPacket))
            #expect(judged.verdict.unclampedMSS == (length >= 14), "\(length)")
        }
    }

    @Test("M7 behind inner options and extension headers", arguments: Mode.allCases)
    func behindOptions(mode: Mode) {
        for count in [0, 1, 3] {
            let packet = Encapsulated(mode).with {
                if mode.innerIsIPv4 {
                    $0.inner.options = [UInt8](repeating: 1, count: 12 * count)
                } else {
                    $0.inner.extensions = Array(
                        repeating: .options(Extension.destination, [4, 1, 4]), count: count)
                }
                $0.carry(.syn([1] + mss(1460)))
            }
            let expected = carrying(packet, .syn([1] + mss(1300)))
            #expect(outcome(packet, in: world) == .inject(expected))
        }
    }

    @Test(
        "M7 headers longer than may be rewritten go on as they are",
        arguments: [.ip6ip, .ip6ip6] as [Mode])
    func longHeaders(mode: Mode) {
        // 40 bytes of IPv6, 24 of TCP: 176 may stand between them.
        for (count, isClamped) in [(176, true), (184, false), (248, false)] {
            let packet = Encapsulated(mode).with {
                let options = [0x1e, UInt8(count - 4)] + [UInt8](repeating: 0, count: count - 4)
                $0.inner.extensions = [.options(Extension.destination, options)]
                $0.carry(.syn(mss(1460)))
            }
            #expect(packet.inner.extensions[0].bytes.count == count)
            let judged = judge(packet, in: world)
            let header = TCPSegment.syn(mss(isClamped ? 1300 : 1460))
            #expect(judged.outcome == .inject(carrying(packet, header)))
            #expect(judged.verdict.clampedMSS == isClamped)
            #expect(judged.verdict.unclampedMSS == !isClamped)
        }
    }

    @Test("clamping and marking at once", arguments: Mode.allCases)
    func withMarks(mode: Mode) {
        let world = ForwardingTests.world {
            $0.mssIPv4 = .fixed(1300)
            $0.mssIPv6 = .fixed(1300)
            $0.dscp = .uniform
            $0.ttl = .uniform
        }
        let packet = Encapsulated(mode).with {
            $0.outer.trafficClass = 0xb9
            $0.outer.ttl = 3
            $0.inner.trafficClass = 0x02
            $0.inner.flowLabel = 0xfffff
            $0.carry(.syn([1] + mss(1460)))
        }
        let expected = packet.with {
            $0.inner.trafficClass = 0xb9
            $0.inner.ttl = 3
        }
        #expect(
            outcome(packet, in: world) == .inject(carrying(expected, .syn([1] + mss(1300)))))
    }

    @Test("a bad TCP checksum stays bad, by as much", arguments: Mode.allCases)
    func badStaysBad(mode: Mode) {
        for padding in [0, 1] {
            for bit in 0..<16 {
                var header = TCPSegment.syn([UInt8](repeating: 1, count: padding) + mss(1460))
                header.checksumError = 1 << UInt16(bit)
                let packet = Encapsulated(mode).with { $0.carry(header) }
                let before = packet.inner.checksum(packet.payload)
                guard case .inject(let result) = outcome(packet, in: world) else {
                    Issue.record("not injected")
                    continue
                }
                let after = packet.inner.checksum(
                    Array(result.dropFirst(mode.innerIsIPv4 ? 20 : 40)))
                #expect(before != 0 && after == before)
            }
        }
    }

    @Test("NEEDS_CSUM: the field holds the pseudo-header's sum and stays", arguments: Mode.allCases)
    func unfinishedChecksum(mode: Mode) {
        for padding in [0, 1] {
            let header = TCPSegment.syn([UInt8](repeating: 1, count: padding) + mss(1460))
            let packet = Encapsulated(mode).with { $0.carry(header) }
            let offset = packet.outerLength + (mode.innerIsIPv4 ? 20 : 40)
            let judged = judge(
                packet, in: world,
                Arrival(
                    vnet: VirtioHeader(
                        flags: VirtioHeader.needsChecksum, checksumStart: UInt16(14 + offset),
                        checksumOffset: 16)))
            var expected = packet.innerPacket
            let place = (mode.innerIsIPv4 ? 40 : 60) + padding + 2
            expected.replaceSubrange(place..<(place + 2), with: word(1300))
            #expect(judged.outcome == .inject(expected))
            #expect(judged.verdict.clampedMSS)
        }
    }
}

@Suite("RFC 1624")
struct ChecksumTests {
    @Test("all 65,536 deltas: good stays good, bad stays bad by as much")
    func deltas() {
        var random = Random(1624)
        for delta in UInt16.min...UInt16.max {
            let old = UInt16.random(in: 0...0xffff, using: &random)
            let others = word(UInt16.random(in: 1...0xffff, using: &random))
            let new = old &+ delta
            let error: UInt16 = delta % 3 == 0 ? 0 : UInt16.random(in: 0...0xffff, using: &random)
            let checksum = ~sum(word(old) + others) ^ error
            let updated = Checksum.updated(checksum, from: old, to: new)
            let before = sum(word(old) + others + word(checksum))
            let after = sum(word(new) + others + word(updated))
            if before != after || (error == 0 && after != 0xffff) {
                Issue.record("seed 1624: \(old) to \(new), error \(error): \(before), \(after)")
                return
            }
        }
    }

    @Test("the edges: all of 0, 1, 0xfffe, 0xffff")
    func edges() {
        let edges: [UInt16] = [0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff]
        for old in edges {
            for new in edges {
                for other in edges where other != 0 {
                    let checksum = ~sum(word(old) + word(other))
                    let updated = Checksum.updated(checksum, from: old, to: new)
                    #expect(updated == ~sum(word(new) + word(other)))
                }
            }
        }
    }

    @Test("the sum over a header is RFC 1071's", arguments: 0..<16)
    func sums(words: Int) {
        var random = Random(1071)
        for _ in 0..<200 {
            var bytes = random.bytes(words * 4)
            if random.chance(4) { bytes = bytes.map { $0 | 0xf0 } }
            let result = bytes.withUnsafeBytes {
                Bytes($0.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!, count: $0.count)
                    .headerSum(length: $0.count)
            }
            // Words are added as they lie: the sum has the host's byte order.
            #expect(result.byteSwapped == sum(bytes))
        }
    }
}
