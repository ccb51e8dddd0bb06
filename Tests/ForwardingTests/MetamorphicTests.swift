// Laws that hold whatever the packet is: relations between a frame's verdict and a changed one's.

import SlowJudge
import TestPackets
import Testing

@testable import Forwarding

@Suite("Metamorphic")
struct MetamorphicTests {
    static let plain = ForwardingTests.world {
        $0.mssIPv4 = .off
        $0.mssIPv6 = .off
        $0.ecn = .pipe
    }
    static let marking = ForwardingTests.world {
        $0.mssIPv4 = .off
        $0.mssIPv6 = .off
    }

    /// A random inner packet that is good, in a random good outer one.
    static func random(_ mode: Mode, _ random: inout Random) -> Encapsulated {
        var packet = Encapsulated(mode)
        packet.inner.trafficClass = UInt8(random.below(256))
        packet.outer.trafficClass = UInt8(random.below(256))
        packet.inner.ttl = UInt8(1 + random.below(255))
        packet.outer.ttl = UInt8(random.below(256))
        packet.inner.flowLabel = UInt32(random.below(1 << 20))
        packet.inner.identification = UInt16(random.below(65536))
        packet.padding = random.bytes(random.chance(3) ? random.below(60) : 0)
        if random.chance(3) {
            packet.outer.options = [UInt8](repeating: 1, count: 4 * random.below(11))
            packet.outer.extensions = (0..<random.below(5)).map { _ in
                .options(Extension.destination, [4, 1, 4])
            }
        }
        if random.chance(3) {
            packet.inner.options = [UInt8](repeating: 1, count: 4 * random.below(11))
            packet.inner.extensions = (0..<random.below(5)).map { _ in
                .options(Extension.hopByHop, [5, 2, 0, 0])
            }
        }
        switch random.below(4) {
        case 0:
            let options =
                [UInt8](repeating: 1, count: random.below(4))
                + mss(UInt16(random.below(65536))) + (random.chance(2) ? [4, 2] : [])
            packet.carry(.syn(options))
        case 1: packet.carry(TCPSegment(payload: random.bytes(random.below(100))))
        case 2:
            packet.inner.protocolNumber = 17
            packet.payload = udp(packet.inner, to: 53, random.bytes(random.below(100)))
        default:
            packet.inner.protocolNumber = [1, 50, 58, 89, 132, 253][random.below(6)]
            packet.payload = random.bytes(random.below(100))
        }
        return packet
    }

    @Test("strip(wrap(p)) is p, but for its ECN", arguments: Mode.allCases)
    func roundTrip(mode: Mode) {
        let seed = UInt64(mode.rawValue) + 10
        var random = Random(seed)
        for _ in 0..<1_500 {
            let packet = Self.random(mode, &random)
            let ecn = MarkTests.standard.first {
                $0.inner == packet.inner.trafficClass & 3
                    && $0.outer == packet.outer.trafficClass & 3
            }!
            let piped = outcome(packet, in: Self.plain)
            var expected = Outcome.drop(.tunnelECN)
            if let result = ecn.result {
                let marked = packet.with {
                    $0.inner.trafficClass = $0.inner.trafficClass & 0xfc | result
                }
                expected = .inject(marked.innerPacket)
            }
            if piped != .inject(packet.innerPacket)
                || outcome(packet, in: Self.marking) != expected
            {
                Issue.record("seed \(seed): \(hex(packet.packet)): \(piped)")
                return
            }
        }
    }

    @Test("padding changes nothing", arguments: Mode.allCases)
    func padding(mode: Mode) {
        let seed = UInt64(mode.rawValue) + 20
        var random = Random(seed)
        let world = MutationTests.world
        for _ in 0..<1_500 {
            var packet = Self.random(mode, &random)
            if random.chance(4) { packet.inner.checksumError = 1 }
            if random.chance(4) { packet.outer.lengthField = UInt16(random.below(200)) }
            packet.padding = []
            let bare = judge(packet, in: world)
            let fill = random.bytes(1 + random.below(60))
            let padded = judge(packet.with { $0.padding = fill }, in: world)
            // A length that reaches beyond the frame may be met by the padding.
            if bare.outcome == .drop(.packetTooSmall), packet.outer.lengthField != nil { continue }
            if bare.outcome != padded.outcome || bare.verdict.reason != padded.verdict.reason
                || bare.verdict.destination != padded.verdict.destination
                || bare.verdict.clampedMSS != padded.verdict.clampedMSS
            {
                Issue.record("seed \(seed): \(hex(packet.packet)): \(bare) or \(padded)")
                return
            }
        }
    }

    @Test("clamping twice is clamping once", arguments: Mode.allCases)
    func twice(mode: Mode) {
        let seed = UInt64(mode.rawValue) + 30
        var random = Random(seed)
        var clamped = 0
        let world = ForwardingTests.world()
        for _ in 0..<1_500 {
            let packet = Self.random(mode, &random).with {
                $0.outer.trafficClass = 0
                $0.outer.ttl = 255
            }
            let once = judge(packet, in: world)
            guard case .inject(let result) = once.outcome else { continue }
            clamped += once.verdict.clampedMSS ? 1 : 0
            let again = judge(
                packet.outer.packet(result), etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd,
                in: world)
            if again.outcome != .inject(result) || again.verdict.clampedMSS
                || again.verdict.unclampedMSS != once.verdict.unclampedMSS
            {
                Issue.record("seed \(seed): \(hex(packet.packet))")
                return
            }
        }
        #expect(clamped > 100)
    }

    @Test("cutting bytes off never injects an altered packet", arguments: Mode.allCases)
    func cutting(mode: Mode) {
        let seed = UInt64(mode.rawValue) + 40
        var random = Random(seed)
        for _ in 0..<300 {
            let packet = Self.random(mode, &random)
            let whole = outcome(packet, in: MutationTests.world)
            let bytes = packet.packet
            for _ in 0..<20 {
                let length = random.below(bytes.count)
                let cut = judge(
                    Array(bytes[..<length]), etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd,
                    in: MutationTests.world
                ).outcome
                // Nothing but padding may be missing.
                let isPadding = length >= bytes.count - packet.padding.count
                if cut != (isPadding ? whole : .drop(.packetTooSmall)) {
                    Issue.record("seed \(seed): \(hex(bytes)) cut to \(length): \(cut)")
                    return
                }
            }
        }
    }

    @Test("frames of a batch are judged as they are alone")
    func batch() {
        var random = Random(50)
        let packets = (0..<Limits.batch).map { index in
            Self.random(Mode.allCases[index % 4], &random)
        }
        let bytes = packets.map(\.packet)
        let blocks = bytes.map {
            UnsafeMutableRawBufferPointer.allocate(byteCount: $0.count, alignment: 1)
        }
        let heads = bytes.map { _ in
            UnsafeMutableRawBufferPointer.allocate(byteCount: Limits.headBytes, alignment: 1)
        }
        defer { for buffer in blocks + heads { buffer.deallocate() } }
        var frames: [Frame] = []
        for (index, packet) in packets.enumerated() {
            blocks[index].copyBytes(from: bytes[index])
            frames.append(
                Frame(
                    network: UnsafeRawPointer(blocks[index].baseAddress!),
                    head: heads[index].baseAddress!, length: bytes[index].count,
                    wireLength: bytes[index].count, linkLength: 14,
                    etherType: packet.mode.outerIsIPv4 ? 0x0800 : 0x86dd, interface: 0,
                    isForUs: true))
        }
        var verdicts = [Verdict](repeating: Verdict(kind: .hold), count: frames.count)
        let world = ForwardingTests.world()
        Judge.judge(&frames, into: &verdicts, count: frames.count, tables: world.view)
        for (index, packet) in packets.enumerated() {
            let alone = judge(packet, in: world).verdict
            #expect(verdicts[index].kind == alone.kind && verdicts[index].reason == alone.reason)
            #expect(verdicts[index].mode == alone.mode && verdicts[index].length == alone.length)
            #expect(verdicts[index].headLength == alone.headLength)
        }
    }
}
