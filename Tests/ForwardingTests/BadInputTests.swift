// Truncated, lying and mutated frames: nothing crashes, nothing is injected that was not sent.

import TestPackets
import Testing

@testable import Forwarding

@Suite("Bad input")
struct BadInputTests {
    let world = ForwardingTests.world()

    /// One of each mode with everything that has a length: options, extension headers, an MSS.
    static func rich(_ mode: Mode) -> Encapsulated {
        Encapsulated(mode).with {
            if mode.outerIsIPv4 {
                $0.outer.options = [148, 4, 0, 0, 1, 1, 1, 0]
            } else {
                $0.outer.extensions = [
                    .options(Extension.hopByHop, [5, 2, 0, 0]), .routing(segmentsLeft: 0),
                    .fragment(offset: 0, more: false), .options(Extension.destination, [4, 1, 4]),
                ]
            }
            if mode.innerIsIPv4 {
                $0.inner.options = [7, 7, 4, 0, 0, 0, 0, 0]
            } else {
                $0.inner.extensions = [.options(Extension.destination, []), .authentication]
            }
            $0.inner.trafficClass = 2
            $0.outer.trafficClass = 3
            $0.carry(.syn([1] + mss(9000) + [4, 2, 3, 3, 7]))
        }
    }

    @Test("frames cut at every byte", arguments: Mode.allCases)
    func truncated(mode: Mode) {
        let etherType: UInt16 = mode.outerIsIPv4 ? 0x0800 : 0x86dd
        for packet in [Encapsulated(mode), Self.rich(mode)] {
            let bytes = packet.packet
            for length in 0..<bytes.count {
                let short = judge(Array(bytes[..<length]), etherType: etherType, in: world)
                if short.outcome != .drop(.packetTooSmall) {
                    Issue.record("cut to \(length): \(short.outcome)")
                }
                let cut = judge(
                    Array(bytes[..<length]), etherType: etherType, in: world,
                    Arrival(cut: bytes.count - length))
                if cut.outcome != .drop(.packetTooSmall) {
                    Issue.record("captured \(length): \(cut.outcome)")
                }
            }
            #expect(judge(bytes, etherType: etherType, in: world).outcome.isInject)
            // Only padding is missing, but who knows: the frame is not whole.
            let cut = judge(bytes, etherType: etherType, in: world, Arrival(cut: 1))
            #expect(cut.outcome == .drop(.packetTooSmall))
        }
    }

    @Test("cut at every byte by an outer length that agrees", arguments: Mode.allCases)
    func shortened(mode: Mode) {
        for packet in [Encapsulated(mode), Self.rich(mode)] {
            let bytes = packet.packet
            let header = mode.outerIsIPv4 ? 20 + packet.outer.options.count : 40
            for length in header..<bytes.count {
                let lie = packet.with {
                    $0.outer.lengthField = UInt16(mode.outerIsIPv4 ? length : length - 40)
                }
                for end in [length, bytes.count] {
                    let judged = judge(
                        Array(lie.packet[..<end]), etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd,
                        in: world)
                    if judged.outcome != .drop(.packetTooSmall) {
                        Issue.record("\(length) of \(end): \(judged.outcome)")
                    }
                }
            }
        }
    }

    @Test("a short frame of another protocol, as far as that can be seen, is not ours")
    func shortOthers() {
        for length in 0..<20 {
            var bytes = Encapsulated(.ipip).with { $0.outer.protocolNumber = 17 }.packet
            bytes = Array(bytes[..<length])
            let expected: Outcome = length > 9 ? .pass : .drop(.packetTooSmall)
            #expect(judge(bytes, etherType: 0x0800, in: world).outcome == expected)
        }
        for number: UInt8 in [6, 0, 43, 44, 60] {
            for length in 0..<40 {
                let packet = Encapsulated(.ip6ip6).with { $0.outer.protocolNumber = number }
                let expected: Outcome = length > 6 && number == 6 ? .pass : .drop(.packetTooSmall)
                let bytes = Array(packet.packet[..<length])
                #expect(judge(bytes, etherType: 0x86dd, in: world).outcome == expected)
            }
        }
    }

    @Test("outer IPv4: every version, header length and protocol")
    func everyOuterIPv4() {
        let packets: [UInt8: Encapsulated] = [4: Encapsulated(.ipip), 41: Encapsulated(.ip6ip)]
        for first in UInt8.min...UInt8.max {
            for number in UInt8.min...UInt8.max {
                var packet = packets[number] ?? packets[4]!
                packet.outer.protocolNumber = number
                packet.outer.version = first >> 4
                packet.outer.headerWords = first & 15
                var bytes = packet.packet
                // The checksum over as many bytes as the header says it has.
                let length = min(Int(first & 15) * 4, bytes.count)
                bytes.replaceSubrange(10..<12, with: [0, 0])
                bytes.replaceSubrange(10..<12, with: word(~sum(Array(bytes[..<length]))))
                let result = judge(bytes, etherType: 0x0800, in: world).outcome
                let isExpected =
                    switch (packets[number] != nil, first) {
                    case (false, _): result == .pass
                    case (true, 0x45): result == .inject(packet.innerPacket)
                    // The inner packet's first bytes, taken for options.
                    case (true, 0x46...0x4f): !result.isInject && result != .pass
                    case (true, _): result == .drop(.invalidHeader)
                    }
                if !isExpected { Issue.record("\(first), protocol \(number): \(result)") }
            }
        }
    }

    @Test("outer IPv6: every version, traffic class and next header")
    func everyOuterIPv6() {
        let packets: [UInt8: Encapsulated] = [4: Encapsulated(.ipip6), 41: Encapsulated(.ip6ip6)]
        for first in UInt8.min...UInt8.max {
            for number in UInt8.min...UInt8.max {
                var packet = packets[number] ?? packets[4]!
                packet.outer.protocolNumber = number
                var bytes = packet.packet
                bytes[0] = first
                let result = judge(bytes, etherType: 0x86dd, in: world).outcome
                let isExpected =
                    switch (packets[number] != nil, first >> 4) {
                    // Behind them lies no extension header but an inner packet.
                    case (false, _): result == .pass || [0, 43, 60].contains(number)
                    case (true, 6): result == .inject(packet.innerPacket)
                    case (true, _): result == .drop(.invalidHeader)
                    }
                if !isExpected || (result.isInject && packets[number] == nil) {
                    Issue.record("\(first), next header \(number): \(result)")
                }
            }
        }
    }

    @Test("inner: every first byte", arguments: Mode.allCases)
    func everyInner(mode: Mode) {
        for first in UInt8.min...UInt8.max {
            let good = Encapsulated(mode)
            var inner = good.innerPacket
            inner[0] = first
            if mode.innerIsIPv4 {
                let length = min(Int(first & 15) * 4, inner.count)
                inner.replaceSubrange(10..<12, with: [0, 0])
                inner.replaceSubrange(10..<12, with: word(~sum(Array(inner[..<length]))))
            }
            let result = judge(
                good.outer.packet(inner), etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world
            ).outcome
            let isExpected =
                switch (mode.innerIsIPv4, first) {
                case (true, 0x45), (false, 0x60...0x6f): result == .inject(inner)
                // A longer header is as good, if its options are; 15 words are more than it has.
                case (true, 0x46...0x4f):
                    result == .inject(inner) || result == .drop(.invalidHeader)
                default: result == .drop(.invalidHeader)
                }
            if !isExpected { Issue.record("\(first): \(result)") }
        }
    }

    static let lengths = Array(0...200) + [1499, 1500, 32767, 32768, 65533, 65534, 65535]

    @Test("outer lengths that lie", arguments: Mode.allCases)
    func outerLengths(mode: Mode) {
        let good = Encapsulated(mode).with { $0.padding = [UInt8](repeating: 0, count: 30) }
        let room = good.packet.count
        for value in Self.lengths {
            let packet = good.with { $0.outer.lengthField = UInt16(value) }
            let total = mode.outerIsIPv4 ? value : value + 40
            let expected: Outcome =
                if total > room { .drop(.packetTooSmall) } else if total < 20 {
                    .drop(.invalidHeader)
                } else if total < good.outerLength + good.innerPacket.count { .drop(.packetTooSmall) } else {
                    .inject(good.innerPacket)
                }
            let result = outcome(packet, in: world)
            if result != expected { Issue.record("\(value): \(result)") }
        }
    }

    @Test("inner lengths that lie", arguments: Mode.allCases)
    func innerLengths(mode: Mode) {
        let good = Encapsulated(mode)
        let room = good.innerPacket.count + 30
        for value in Self.lengths {
            let inner = good.with { $0.inner.lengthField = UInt16(value) }.innerPacket
            let packet = good.outer.packet(inner + [UInt8](repeating: 0, count: 30))
            let total = mode.innerIsIPv4 ? value : value + 40
            let expected: Outcome =
                if total > room { .drop(.packetTooSmall) } else if total < 20 { .drop(.invalidHeader) } else {
                    .inject(Array((inner + [UInt8](repeating: 0, count: 30))[..<total]))
                }
            let result = judge(
                packet, etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world
            ).outcome
            if result != expected { Issue.record("\(value): \(result)") }
        }
    }

    @Test("the largest packet there can be", arguments: Mode.allCases)
    func largest(mode: Mode) {
        let headers = (mode.outerIsIPv4 ? 20 : 0) + (mode.innerIsIPv4 ? 20 : 40)
        let packet = Encapsulated(mode).with {
            $0.inner.protocolNumber = 17
            $0.payload = [UInt8](repeating: 0xaa, count: 65535 - headers)
        }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
    }
}
