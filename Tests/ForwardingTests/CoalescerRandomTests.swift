// Random batches of flows that lose, repeat, reorder and change: cut back, they are what came in, in order.

import TestPackets
import Testing

@testable import Forwarding

/// A sender: what it sends next follows from what it sent, mostly.
private struct Sender {
    var segment: Segment
    var size: Int
    /// How often, one in so many, something is out of the ordinary.
    var oddity: Int

    init(_ random: inout Random, mode: Mode, number: Int) {
        segment = Segment(mode, isTCP: random.chance(2))
        segment.sourcePort = UInt16(3000 + number % 3)
        if number % 2 == 1 {
            segment.header.source = ip(mode.innerIsIPv4 ? "203.0.113.9" : "2001:db8:c::9")
        }
        // Some agree with other senders' in all but addresses or ports.
        if random.chance(2) {
            segment.header.identification = UInt16(truncatingIfNeeded: random.next())
            segment.header.flowLabel = UInt32(random.below(1 << 20))
        }
        segment.tcp?.sequence = UInt32(truncatingIfNeeded: random.next())
        if random.chance(2) { segment.tcp?.options = [1, 1, 8, 10] + random.bytes(8) }
        if random.chance(4) { segment.header.fragment = 0 }
        if random.chance(4) { segment.isUnfinished = true }
        if random.chance(4) { segment.header.trafficClass = 2 }
        size = [1, 3, 8, 26, 100, 101, 536, 1380][random.below(8)]
        oddity = [3, 10, 1000][random.below(3)]
    }

    mutating func next(_ random: inout Random) -> Segment {
        segment.payload = random.bytes(random.chance(12) ? random.below(size + 2) : size)
        var sent = segment
        if sent.isTCP, random.chance(10) { sent.tcp!.flags |= 0x08 }
        if random.chance(oddity) { change(&sent, &random) }
        segment.tcp?.sequence &+= UInt32(segment.payload.count)
        segment.header.identification &+= 1
        return sent
    }

    /// For this packet alone, or from now on.
    private mutating func change(_ sent: inout Segment, _ random: inout Random) {
        switch random.below(20) {
        case 0: sent.checksumError = UInt16(1 + random.below(0xfffe))
        case 1: sent.checksum = [0, 0xffff][random.below(2)]
        case 2: sent.header.ttl = UInt8(1 + random.below(255))
        case 3: sent.header.trafficClass ^= UInt8(1 + random.below(255))
        case 4: sent.tcp?.flags = UInt8(truncatingIfNeeded: random.next())
        case 5: sent.tcp?.acknowledgement &+= 1
        case 6: sent.tcp?.window &-= 1
        case 7: sent.tcp?.options = random.bytes(4 * random.below(11))
        case 8: sent.header.identification = UInt16(truncatingIfNeeded: random.next())
        case 9: sent.isUnfinished.toggle()
        case 10: sent.header.options = [1, 1, 1, 0]
        case 11: sent.header.extensions = [.options(Extension.destination, [])]
        case 12: sent.header.fragment = UInt16(random.below(3)) << 13 | UInt16(random.below(2))
        case 13: sent.lengthField = UInt16(8 + random.below(60))
        case 14: sent.gsoSize = UInt16(1 + random.below(100))
        case 15: sent.outerECN = UInt8(random.below(4))
        case 16: sent.header.checksumError = 0xffff
        // A lost packet: what follows is ahead.
        case 17: segment.tcp?.sequence &+= UInt32(size)
        case 18: segment.header.identification &+= 1
        default: sent.header.flowLabel ^= 1
        }
    }
}

/// A batch of some flows, in bursts, with packets that change places or come twice.
private func batch(_ random: inout Random) -> [Segment] {
    let modes = random.chance(3) ? Mode.allCases : [Mode.allCases[random.below(4)]]
    var senders = (0..<(1 + random.below(6))).map { number in
        Sender(&random, mode: modes[random.below(modes.count)], number: number)
    }
    let burst = 1 + random.below(16)
    var segments: [Segment] = []
    let count = 1 + random.below(Limits.batch)
    while segments.count < count {
        let sender = random.below(senders.count)
        for _ in 0..<(1 + random.below(burst)) where segments.count < count {
            segments.append(senders[sender].next(&random))
            if random.chance(40), segments.count < count { segments.append(segments.last!) }
            if random.chance(30), segments.count > 1 {
                segments.swapAt(segments.count - 1, segments.count - 2)
            }
        }
    }
    return segments
}

/// Whether a later one must not overtake an earlier: both of one flow, or one may be of any.
private func isOrdered(_ one: Segment, _ other: Segment) -> Bool {
    func hidesPorts(_ segment: Segment) -> Bool {
        segment.header.isIPv4
            ? segment.header.fragment & 0x3fff != 0 || !segment.header.options.isEmpty
            : !segment.header.extensions.isEmpty
    }
    guard one.header.isIPv4 == other.header.isIPv4, one.isTCP == other.isTCP,
        one.header.source == other.header.source
    else { return false }
    return one.sourcePort == other.sourcePort || hidesPorts(one) || hidesPorts(other)
}

@Suite("Joining, random batches")
struct CoalescerRandomTests {
    @Test("bytes, order and number of packets", arguments: 0..<8)
    func batches(seed: Int) {
        var random = Random(UInt64(seed) + 77)
        let worker = TestBatch()
        var (injected, written) = (0, 0)
        for _ in 0..<40 {
            let segments = batch(&random)
            // Flows that look alike to the table: only their headers tell them apart.
            let mask: UInt32? = random.chance(2) ? nil : [4, 0x0300_0004][random.below(2)]
            let found = writes(segments, in: worker, flowMask: mask)
            expectSameBytes(found, segments)
            var place = [Int](repeating: -1, count: segments.count)
            var next = 0
            for member in found.flatMap(\.members) {
                #expect(place[member] == -1, "written twice")
                place[member] = next
                next += 1
            }
            let single = writes(segments, kinds: [])
            #expect(single.allSatisfy { $0.members.count == 1 })
            #expect(Set(single.map { $0.members[0] }) == Set(place.indices.filter { place[$0] >= 0 }))
            for late in segments.indices where place[late] >= 0 {
                for early in 0..<late where place[early] >= 0 && place[early] > place[late] {
                    if isOrdered(segments[early], segments[late]) {
                        Issue.record("\(late) overtook \(early)")
                    }
                }
            }
            injected += single.count
            written += found.count
        }
        #expect(injected > 1000 && written * 10 < injected * 8, "\(injected) in \(written)")
    }
}
