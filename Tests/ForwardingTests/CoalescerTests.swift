// Which segments are joined and which are not, each rule from both sides; a cut gives the bytes back.

import TestPackets
import Testing

@testable import Forwarding

/// Protocols in all modes.
private let kinds = Mode.allCases.flatMap { mode in
    [true, false].map { Kind(mode: mode, isTCP: $0) }
}

struct Kind: CustomStringConvertible, Sendable {
    var mode: Mode
    var isTCP: Bool
    var description: String { "\(isTCP ? "TCP" : "UDP"), \(mode.name)" }

    /// Segments of one flow that join: the last one is shorter.
    func segments(_ count: Int, size: Int = 100) -> [Segment] {
        (0..<count).map { number in
            var segment = Segment(mode, isTCP: isTCP)
            let length = number == count - 1 ? size - 7 : size
            segment.payload = (0..<length).map { UInt8(truncatingIfNeeded: $0 * 7 + number) }
            segment.header.identification = 0xffff &+ UInt16(number)
            // Over the end of the sequence space.
            segment.tcp?.sequence = UInt32.max - 150 &+ UInt32(number * size)
            return segment
        }
    }
}

/// What each write holds.
private func members(_ segments: [Segment], kinds: Coalescer.Kinds = [.tcp, .udp]) -> [[Int]] {
    let found = writes(segments, kinds: kinds)
    expectSameBytes(found, segments)
    return found.map(\.members)
}

@Suite("Joining")
struct CoalescerTests {
    @Test("segments of a flow become one", arguments: kinds)
    func joins(kind: Kind) {
        for count in [2, 3, 40, 64] {
            let segments = kind.segments(count)
            #expect(members(segments) == [Array(0..<count)])
        }
        #expect(members(kind.segments(1)) == [[0]])
    }

    @Test("by themselves, all of one size, and odd sizes", arguments: kinds)
    func sizes(kind: Kind) {
        for size in [8, 9, 15, 16, 17, 31, 33, 1399, 1400] {
            var segments = kind.segments(5, size: size)
            #expect(members(segments) == [Array(0..<5)], "\(size)")
            // The last one of the full size, too.
            segments[4].payload = segments[3].payload
            #expect(members(segments) == [Array(0..<5)], "\(size)")
        }
    }

    @Test("a packet in the middle with a difference: a run ends before it", arguments: kinds)
    func differences(kind: Kind) {
        for (name, change) in Self.differences where name.applies(kind) {
            var segments = kind.segments(6)
            change(&segments[3])
            let found = members(segments)
            #expect(found.first == [0, 1, 2], "\(name.text)")
            #expect(found.flatMap { $0 } == Array(0..<6), "\(name.text)")
            #expect(!found.contains { $0.count > 1 && $0.contains(3) && $0[0] != 3 }, "\(name.text)")
        }
    }

    @Test("a packet of another flow in the middle", arguments: kinds)
    func others(kind: Kind) {
        let changes: [(inout Segment) -> Void] = [
            { $0.header.source = ip($0.header.isIPv4 ? "203.0.113.8" : "2001:db8:c::8") },
            { $0.header.source = ip($0.header.isIPv4 ? "204.0.113.7" : "2001:db9:c::7") },
            { $0.header.destination = ip($0.header.isIPv4 ? "10.2.1.8" : "2001:db8:2::8") },
            { $0.header.destination = ip($0.header.isIPv4 ? "11.2.1.9" : "2001:db9:2::9") },
            { $0.sourcePort += 1 }, { $0.destinationPort += 1 },
        ]
        for change in changes {
            var segments = kind.segments(6)
            change(&segments[3])
            let found = members(segments)
            #expect(found.contains([3]))
            // Where neither IDs nor sequence numbers show a gap, the rest joins around it.
            if kind.isTCP || kind.mode.innerIsIPv4 {
                #expect(found == [[0, 1, 2], [3], [4, 5]])
            }
        }
    }

    struct Name: Sendable {
        let text: String
        var applies: @Sendable (Kind) -> Bool = { _ in true }
        static func all(_ text: String) -> Name { Name(text: text) }
        static func tcp(_ text: String) -> Name { Name(text: text) { $0.isTCP } }
        static func udp(_ text: String) -> Name { Name(text: text) { !$0.isTCP } }
        static func ipv4(_ text: String) -> Name { Name(text: text) { $0.mode.innerIsIPv4 } }
        static func ipv6(_ text: String) -> Name { Name(text: text) { !$0.mode.innerIsIPv4 } }
    }

    /// Of the fourth of six segments.
    private static let differences: [(Name, @Sendable (inout Segment) -> Void)] = [
        (.all("TTL"), { $0.header.ttl = 63 }),
        (.all("DSCP"), { $0.header.trafficClass = 0x20 }),
        (.all("ECN"), { $0.header.trafficClass = 2 }),
        (.all("more payload"), { $0.payload.append(1) }),
        (.all("no payload"), { $0.payload = [] }),
        (.all("wrong checksum"), { $0.checksumError = 1 }),
        (.all("checksum to be finished"), { $0.isUnfinished = true }),
        (.all("GSO"), { $0.gsoSize = 10 }),
        (.ipv4("options"), { $0.header.options = [1, 1, 1, 1] }),
        (.ipv4("fragment"), { $0.header.fragment = 0x2000 }),
        (.ipv4("later fragment"), { $0.header.fragment = 0x0003 }),
        (.ipv4("don't-fragment"), { $0.header.fragment = 0 }),
        (.ipv4("the ID of the one before"), { $0.header.identification &-= 1 }),
        (.ipv4("a jump of the ID"), { $0.header.identification &+= 1 }),
        (.ipv6("flow label"), { $0.header.flowLabel = 1 }),
        (.ipv6("extension header"), { $0.header.extensions = [.options(Extension.destination, [])] }),
        (.ipv6("fragment header"), { $0.header.extensions = [.fragment(offset: 0, more: true)] }),
        (.tcp("a gap"), { $0.tcp!.sequence &+= 1 }),
        (.tcp("an overlap"), { $0.tcp!.sequence &-= 1 }),
        (.tcp("sent again"), { $0.tcp!.sequence &-= 100 }),
        (.tcp("acknowledgement"), { $0.tcp!.acknowledgement += 1 }),
        (.tcp("window"), { $0.tcp!.window += 1 }),
        (.tcp("urgent pointer"), { $0.tcp!.urgent += 1 }),
        (.tcp("FIN"), { $0.tcp!.flags |= 0x01 }),
        (.tcp("SYN"), { $0.tcp!.flags |= 0x02 }),
        (.tcp("RST"), { $0.tcp!.flags |= 0x04 }),
        (.tcp("no ACK"), { $0.tcp!.flags = 0x08 }),
        (.tcp("URG"), { $0.tcp!.flags |= 0x20 }),
        (.tcp("ECE"), { $0.tcp!.flags |= 0x40 }),
        (.tcp("CWR"), { $0.tcp!.flags |= 0x80 }),
        (.tcp("timestamps"), { $0.tcp!.options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] }),
        (.udp("no checksum"), { $0.checksum = 0 }),
        (.udp("a length that lies"), { $0.lengthField = UInt16($0.payload.count + 7) }),
        (.udp("a longer length"), { $0.lengthField = UInt16($0.payload.count + 9) }),
    ]

    @Test("the same in all segments joins", arguments: kinds)
    func likeness(kind: Kind) {
        let changes: [(Name, (inout Segment) -> Void)] = [
            (.all("TTL"), { $0.header.ttl = 3 }),
            (.all("DSCP and ECN"), { $0.header.trafficClass = 0xba }),
            (.all("checksum to be finished"), { $0.isUnfinished = true }),
            (.ipv4("no don't-fragment"), { $0.header.fragment = 0 }),
            (.ipv6("flow label"), { $0.header.flowLabel = 0xabcde }),
            (.tcp("ECE"), { $0.tcp!.flags |= 0x40 }),
            (.tcp("timestamps"), { $0.tcp!.options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] }),
            (.tcp("forty bytes of options"), { $0.tcp!.options = [UInt8](repeating: 1, count: 40) }),
            (.tcp("urgent pointer without URG"), { $0.tcp!.urgent = 3 }),
        ]
        for (name, change) in changes where name.applies(kind) {
            var segments = kind.segments(4)
            for index in segments.indices { change(&segments[index]) }
            #expect(members(segments) == [[0, 1, 2, 3]], "\(name.text)")
        }
    }

    @Test("the same in all segments and yet none joins", arguments: kinds)
    func loners(kind: Kind) {
        let changes: [(Name, (inout Segment) -> Void)] = [
            (.all("no payload"), { $0.payload = [] }),
            (.all("wrong checksum"), { $0.checksumError = 0x0100 }),
            (
                .all("sum to be finished that is none"),
                {
                    $0.isUnfinished = true
                    $0.checksum = 1
                }
            ),
            (.all("GSO"), { $0.gsoSize = 10 }),
            (
                .all("another mark outside"),
                {
                    $0.header.trafficClass = 2
                    $0.outerECN = 3
                }
            ),
            (.ipv4("a constant ID"), { $0.header.identification = 0 }),
            (.ipv4("options"), { $0.header.options = [1, 1, 1, 1] }),
            (.ipv4("fragments"), { $0.header.fragment = 0x2000 }),
            (.ipv4("the reserved flag"), { $0.header.fragment = 0x8000 }),
            (.ipv6("extension header"), { $0.header.extensions = [.options(Extension.destination, [])] }),
            (.tcp("PSH"), { $0.tcp!.flags |= 0x08 }),
            (.tcp("FIN"), { $0.tcp!.flags |= 0x01 }),
            (.tcp("SYN"), { $0.tcp!.flags |= 0x02 }),
            (.tcp("RST"), { $0.tcp!.flags |= 0x04 }),
            (.tcp("URG"), { $0.tcp!.flags |= 0x20 }),
            (.tcp("CWR"), { $0.tcp!.flags |= 0x80 }),
            (.tcp("no ACK"), { $0.tcp!.flags = 0 }),
            (.tcp("a header that is too short"), { $0.tcp!.headerWords = 4 }),
            (
                .tcp("a header beyond the end"),
                {
                    $0.tcp!.headerWords = 15
                    $0.payload = [1]
                }
            ),
            (.udp("no checksum"), { $0.checksum = 0 }),
            (.udp("a length that lies"), { $0.lengthField = UInt16($0.payload.count + 7) }),
        ]
        for (name, change) in changes where name.applies(kind) {
            var segments = kind.segments(4)
            for index in segments.indices { change(&segments[index]) }
            #expect(members(segments) == [[0], [1], [2], [3]], "\(name.text)")
        }
    }

    @Test("PSH ends a run and stands on the last", arguments: Mode.allCases)
    func push(mode: Mode) {
        var segments = Kind(mode: mode, isTCP: true).segments(6)
        segments[2].tcp!.flags |= 0x08
        segments[5].tcp!.flags |= 0x08
        #expect(members(segments) == [[0, 1, 2], [3, 4, 5]])
        let flags = mode.innerIsIPv4 ? 33 : 53
        #expect(writes(segments).map { $0.packet[flags] } == [0x18, 0x18])
        segments[2].tcp!.flags = 0x10
        segments[5].tcp!.flags = 0x10
        #expect(writes(segments).map { $0.packet[flags] } == [0x10])
    }

    @Test("a shorter segment ends a run", arguments: kinds)
    func shorter(kind: Kind) {
        var segments = kind.segments(6)
        segments[2].payload.removeLast(50)
        for index in 3..<6 { segments[index].tcp?.sequence &-= 50 }
        #expect(members(segments) == [[0, 1, 2], [3, 4, 5]])
    }

    @Test("never more than 65535 bytes", arguments: kinds)
    func length(kind: Kind) {
        let headers = (kind.mode.innerIsIPv4 ? 20 : 40) + (kind.isTCP ? 20 : 8)
        let size = 1300
        var segments = kind.segments(64, size: size)
        let fit = (65_535 - headers) / size
        let found = members(segments)
        #expect(found == [Array(0..<fit), Array(fit..<64)])
        #expect(writes(segments)[0].packet.count == headers + fit * size)
        // To the byte: the last one fills what is left, or has one too many.
        segments = Array(segments[...fit])
        segments[fit].payload = [UInt8](repeating: 3, count: 65_535 - headers - fit * size)
        #expect(members(segments) == [Array(0...fit)])
        segments[fit].payload.append(3)
        #expect(members(segments) == [Array(0..<fit), [fit]])
    }

    @Test("a device that does not cut gets single packets", arguments: kinds)
    func kindsOfDevice(kind: Kind) {
        let segments = kind.segments(3)
        let single = [[0], [1], [2]]
        #expect(members(segments, kinds: []) == single)
        #expect(members(segments, kinds: .tcp) == (kind.isTCP ? [[0, 1, 2]] : single))
        #expect(members(segments, kinds: .udp) == (kind.isTCP ? single : [[0, 1, 2]]))
    }

    /// The kernel would write the other of two values that mean the same.
    @Test("checksums that can be written in two ways")
    func twoWays() {
        for kind in kinds {
            var segments = kind.segments(2)
            // Fill the payload up until the checksum comes to 0.
            segments[0].payload = [0, 0] + segments[0].payload.dropFirst(2)
            let offset = (kind.mode.innerIsIPv4 ? 20 : 40) + (kind.isTCP ? 16 : 6)
            let value = Array(segments[0].inner[offset..<(offset + 2)])
            segments[0].payload.replaceSubrange(0..<2, with: value)
            if kind.isTCP {
                for field: UInt16 in [0, 0xffff] {
                    segments[0].checksum = field
                    #expect(members(segments) == [[0], [1]], "\(kind), \(field)")
                }
            } else {
                #expect(segments[0].inner[offset] == 0xff && segments[0].inner[offset + 1] == 0xff)
                #expect(members(segments) == [[0, 1]], "\(kind)")
            }
        }
    }

    @Test("an IPv4 header checksum of 0xffff, which means 0", arguments: [true, false])
    func headerChecksum(isTCP: Bool) {
        for offset in [0, 1] {
            var segments = Kind(mode: .ipip, isTCP: isTCP).segments(3)
            // Choose the IDs so that the checksum of the one looked at comes to 0.
            let header = segments[offset].header.packet(Array(segments[offset].inner.dropFirst(20)))
            let field = UInt16(header[10]) << 8 | UInt16(header[11])
            let identification = sum(word(segments[offset].header.identification) + word(field))
            for index in 0..<3 {
                segments[index].header.identification = identification &+ UInt16(index) &- UInt16(offset)
            }
            let plain = segments[offset].inner
            #expect(plain[10] == 0 && plain[11] == 0)
            #expect(members(segments) == [[0, 1, 2]])
            segments[offset].header.checksumError = 0xffff
            #expect(!members(segments).contains { $0.count > 1 && $0.contains(offset) })
        }
    }
}

@Suite("Joining, flows")
struct JoinerFlowTests {
    @Test("flows in turn are each joined", arguments: kinds)
    func interleaved(kind: Kind) {
        // Ports whose places in the coalescer's table differ.
        let flows = 4
        var segments: [Segment] = []
        for number in 0..<8 {
            for flow in 0..<flows {
                var segment = kind.segments(9)[number]
                segment.sourcePort = UInt16(1000 + flow * 11)
                segments.append(segment)
            }
        }
        let found = members(segments)
        #expect(found == (0..<flows).map { Array(stride(from: $0, to: 32, by: flows)) })
    }

    /// Anyone can find ports whose hashes are the same; IDs and labels are his to choose, too.
    @Test("flows of one hash stay apart", arguments: kinds)
    func collisions(kind: Kind) {
        let changes: [(inout Segment) -> Void] = [
            { $0.sourcePort += 1 }, { $0.destinationPort += 1 },
            { $0.header.source = ip($0.header.isIPv4 ? "203.0.113.8" : "2001:db8:c::8") },
            { $0.header.destination = ip($0.header.isIPv4 ? "10.2.1.8" : "2001:db8:2::8") },
        ]
        for change in changes {
            var segments = kind.segments(6)
            for index in 3..<6 { change(&segments[index]) }
            let found = writes(segments, flowMask: 4)
            expectSameBytes(found, segments)
            #expect(found.map(\.members) == [[0, 1, 2], [3, 4, 5]])
        }
    }

    @Test("what cannot be joined keeps its place in its flow", arguments: kinds)
    func order(kind: Kind) {
        // A wrong checksum, then two good ones that join behind it and not around it.
        var segments = kind.segments(4)
        segments[1].checksumError = 5
        #expect(members(segments) == [[0], [1], [2, 3]])
    }

    @Test("a fragment may be of any flow", arguments: kinds)
    func fragment(kind: Kind) {
        var fragment = Segment(kind.mode, isTCP: kind.isTCP)
        fragment.other = [UInt8](repeating: 1, count: 64)
        if kind.mode.innerIsIPv4 {
            fragment.header.fragment = 0x0010
        } else {
            fragment.header.extensions = [.fragment(offset: 2, more: false)]
        }
        let segments = kind.segments(4)
        #expect(
            members(Array(segments[..<2]) + [fragment] + segments[2...])
                == [[0, 1], [2], [3, 4]])
        // Another protocol's packet is not of this flow.
        var message = fragment
        message.header.fragment = 0x4000
        message.header.extensions = []
        message.header.protocolNumber = kind.mode.innerIsIPv4 ? 1 : 58
        message.other = icmp(message.header, type: kind.mode.innerIsIPv4 ? 8 : 128, [1, 2, 3, 4])
        #expect(
            members(Array(segments[..<2]) + [message] + segments[2...]) == [[0, 1, 3, 4], [2]])
    }

    @Test("two devices, one flow: never joined")
    func devices() {
        let segments = Kind(mode: .ipip, isTCP: false).segments(4)
        var number: UInt16 = 0
        let found = writes(segments) { verdict in
            verdict.device = number & 1
            number += 1
        }
        #expect(found.map(\.members) == [[0], [1], [2], [3]])
    }

    @Test("a rewritten head is written by itself", arguments: kinds)
    func rewritten(kind: Kind) {
        var segments = kind.segments(5)
        for index in segments.indices { segments[index].header.trafficClass = 2 }
        segments[2].outerECN = 3
        #expect(members(segments) == [[0, 1], [2], [3, 4]])
    }

    @Test("what was dropped joins nothing", arguments: kinds)
    func dropped(kind: Kind) {
        var segments = kind.segments(5)
        segments[1].header.ttl = 0
        let isUnnumbered = !kind.isTCP && !kind.mode.innerIsIPv4
        #expect(members(segments) == (isUnnumbered ? [[0, 2, 3, 4]] : [[0], [2, 3, 4]]))
    }

    @Test("a batch finds nothing of the one before")
    func batches() {
        let worker = TestBatch()
        let segments = Kind(mode: .ipip, isTCP: true).segments(20)
        for range in [0..<10, 10..<20, 3..<5, 0..<20, 7..<8] {
            let part = Array(segments[range])
            let found = writes(part, in: worker)
            expectSameBytes(found, part)
            #expect(found.map(\.members) == [Array(part.indices)])
        }
    }
}
