// Ten thousand mutations a mode: what is injected are the frame's own bytes, but for those few
// that may be rewritten.

import TestPackets
import Testing

@testable import Forwarding

@Suite("Mutations")
struct MutationTests {
    /// Rewrites all that can be rewritten.
    static let world = ForwardingTests.world { policy in
        policy.dscp = .uniform
        policy.ttl = .uniform
        policy.mssIPv4 = .fixed(536)
        policy.mssIPv6 = .fixed(1220)
        policy.tunnels[0].destinations = [
            .init(prefix: prefix("10.2.0.0/16"), protocolNumber: 6, ports: [1...65535]),
            .init(prefix: prefix("10.2.1.9"), protocolNumber: 17),
            .init(prefix: prefix("2001:db8:2::/48"), protocolNumber: 6, ports: [1...65535]),
            .init(prefix: prefix("0.0.0.0/0")), .init(prefix: prefix("::/0")),
        ]
    }

    static func seeds(_ mode: Mode) -> [Encapsulated] {
        let plain = Encapsulated(mode)
        return [
            plain, BadInputTests.rich(mode), plain.with { $0.carry(.syn(mss(1460))) },
            plain.with { $0.carry(.syn([1, 1, 1] + mss(1460) + [4, 2] + mss(9000))) },
            plain.with {
                $0.inner.protocolNumber = $0.inner.isIPv4 ? 1 : 58
                $0.payload = icmp(
                    $0.inner, type: $0.inner.isIPv4 ? 3 : 2, plain.innerPacket)
            },
            plain.with {
                $0.inner.protocolNumber = 17
                $0.payload = udp($0.inner, to: 53, [1, 2, 3])
                $0.inner.fragment = 0x2000
                if !$0.inner.isIPv4 { $0.inner.extensions = [.fragment(offset: 0, more: true)] }
            },
        ]
    }

    /// Where in the inner packet bytes may change, found without the code under test.
    static func mayChange(_ inner: [UInt8]) -> Set<Int> {
        var places: Set<Int> = []
        var number: UInt8
        var offset: Int
        if inner[0] >> 4 == 4 {
            places = [1, 8, 10, 11]
            number = inner[9]
            offset = Int(inner[0] & 15) * 4
        } else {
            places = [0, 1, 7]
            number = inner[6]
            offset = 40
            while [0, 43, 44, 51, 60].contains(number), offset + 8 <= inner.count {
                let units = Int(inner[offset + 1])
                let length = number == 44 ? 8 : number == 51 ? units * 4 + 8 : units * 8 + 8
                number = inner[offset]
                offset += length
            }
        }
        guard number == 6, inner.count >= offset + 20, inner[offset + 13] & 2 != 0 else {
            return places
        }
        places.formUnion([offset + 16, offset + 17])
        let end = min(offset + Int(inner[offset + 12] >> 4) * 4, inner.count)
        for place in offset..<end where place >= offset + 22 {
            if (inner[place - 2], inner[place - 1]) == (2, 4) {
                places.formUnion([place, place + 1])
            }
        }
        return places
    }

    /// Where the inner packet begins, found without the code under test.
    static func innerOffset(_ packet: [UInt8], _ mode: Mode) -> Int {
        if mode.outerIsIPv4 { return Int(packet[0] & 15) * 4 }
        var number = packet[6]
        var offset = 40
        while number != 4 && number != 41 {
            let length = number == 44 ? 8 : (Int(packet[offset + 1]) + 1) * 8
            number = packet[offset]
            offset += length
        }
        return offset
    }

    static func mutate(_ bytes: [UInt8], _ mode: Mode, _ random: inout Random) -> [UInt8] {
        var bytes = bytes
        for _ in 0...random.below(3) {
            let place = random.below(random.chance(2) ? bytes.count : min(110, bytes.count))
            switch random.below(6) {
            case 0: bytes[place] ^= 1 << UInt8(random.below(8))
            case 1: bytes[place] = UInt8(truncatingIfNeeded: random.next())
            case 2: bytes[place] = [0, 1, 4, 41, 44, 60, 127, 255][random.below(8)]
            case 3: bytes[place] &+= random.chance(2) ? 1 : 255
            case 4: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
            default:
                if random.chance(4) && place > 0 { bytes = Array(bytes[..<place]) }
            }
        }
        if random.chance(2) { mendChecksums(&bytes, mode) }
        return bytes
    }

    /// So that mutated IPv4 headers get beyond their checksum.
    static func mendChecksums(_ bytes: inout [UInt8], _ mode: Mode) {
        func mend(_ start: Int) {
            guard bytes.count >= start + 20 else { return }
            let end = start + Int(bytes[start] & 15) * 4
            guard end >= start + 20, end <= bytes.count else { return }
            bytes.replaceSubrange((start + 10)..<(start + 12), with: [0, 0])
            bytes.replaceSubrange(
                (start + 10)..<(start + 12), with: word(~sum(Array(bytes[start..<end]))))
        }
        if mode.outerIsIPv4 { mend(0) }
        guard bytes.count > 40, mode.innerIsIPv4 else { return }
        if mode.outerIsIPv4 {
            mend(Int(bytes[0] & 15) * 4)
        } else if bytes[6] == 4 {
            mend(40)
        }
    }

    @Test("random mutations", arguments: Mode.allCases)
    func mutations(mode: Mode) {
        let seed = UInt64(mode.rawValue) + 90
        var random = Random(seed)
        let seeds = Self.seeds(mode).map(\.packet)
        var injected = 0
        var rewritten = 0
        for round in 0..<10_000 {
            let packet = Self.mutate(seeds[random.below(seeds.count)], mode, &random)
            var arrival = Arrival()
            if random.chance(8) {
                arrival.vnet = VirtioHeader(
                    flags: UInt8(random.below(4)), gsoType: [0, 1, 4, 5][random.below(4)],
                    headerLength: UInt16(random.below(200)), gsoSize: UInt16(random.below(1500)),
                    checksumStart: UInt16(random.below(200)),
                    checksumOffset: UInt16(random.below(20)))
            }
            let judged = judge(
                packet, etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: Self.world, arrival)
            guard case .inject(let result) = judged.outcome else { continue }
            injected += 1
            let start = Self.innerOffset(packet, judged.verdict.mode)
            let original = Array(packet[start..<min(start + result.count, packet.count)])
            let changed = original.indices.filter { original[$0] != result[$0] }
            if !changed.isEmpty { rewritten += 1 }
            if result.count != original.count
                || !Set(changed).isSubset(of: Self.mayChange(original))
                || !Self.isConsistent(result)
            {
                Issue.record("seed \(seed), round \(round): \(hex(packet)) gave \(hex(result))")
                return
            }
        }
        // Otherwise this proves little.
        #expect(injected > 1_000 && rewritten > 200, "\(injected) injected, \(rewritten) rewritten")
    }

    /// What went out is a packet of its own length, with a good header checksum.
    static func isConsistent(_ packet: [UInt8]) -> Bool {
        if packet[0] >> 4 == 4 {
            return Int(packet[2]) * 256 + Int(packet[3]) == packet.count
                && sum(Array(packet[..<(Int(packet[0] & 15) * 4)])) == 0xffff
        }
        return Int(packet[4]) * 256 + Int(packet[5]) + 40 == packet.count
    }

    @Test("noise", arguments: [0x0800, 0x86dd] as [UInt16])
    func noise(etherType: UInt16) {
        var random = Random(7)
        for _ in 0..<20_000 {
            let bytes = random.bytes(random.below(120))
            let result = judge(bytes, etherType: etherType, in: Self.world).outcome
            if result != .pass && result != .drop(.packetTooSmall) {
                Issue.record("seed 7: \(hex(bytes)): \(result)")
            }
        }
    }
}
