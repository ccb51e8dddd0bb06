// Section 3: what becomes of the outer header's ECN, DSCP and TTL.

import TestPackets
import Testing

@testable import Forwarding

@Suite("ECN, DSCP, TTL")
struct MarkTests {
    // Codepoints of RFC 3168 §5.
    static let notCapable: UInt8 = 0b00
    static let capable1: UInt8 = 0b01
    static let capable0: UInt8 = 0b10
    static let congested: UInt8 = 0b11

    /// RFC 6040 §4.2, figure 4: inner, outer, what comes out; nil for the refused cell.
    static let standard: [(inner: UInt8, outer: UInt8, result: UInt8?)] = [
        (notCapable, notCapable, notCapable), (notCapable, capable0, notCapable),
        (notCapable, capable1, notCapable), (notCapable, congested, nil),
        (capable0, notCapable, capable0), (capable0, capable0, capable0),
        (capable0, capable1, capable1), (capable0, congested, congested),
        (capable1, notCapable, capable1), (capable1, capable0, capable1),
        (capable1, capable1, capable1), (capable1, congested, congested),
        (congested, notCapable, congested), (congested, capable0, congested),
        (congested, capable1, congested), (congested, congested, congested),
    ]

    static func packet(_ mode: Mode, inner: UInt8, outer: UInt8) -> Encapsulated {
        Encapsulated(mode).with {
            $0.inner.trafficClass = inner
            $0.outer.trafficClass = outer
            $0.inner.flowLabel = 0xabcde
            $0.outer.flowLabel = 0x54321
        }
    }

    @Test("the sixteen cells", arguments: Mode.allCases, standard)
    func cells(mode: Mode, cell: (inner: UInt8, outer: UInt8, result: UInt8?)) {
        let world = ForwardingTests.world()
        let dscp: UInt8 = 0b101110_00
        let packet = Self.packet(mode, inner: dscp | cell.inner, outer: 0b000100_00 | cell.outer)
        let judged = judge(packet, in: world)
        #expect(judged.verdict.ecnCell == cell.inner << 2 | cell.outer)
        guard let result = cell.result else {
            #expect(judged.outcome == .drop(.tunnelECN))
            return
        }
        let expected = packet.with { $0.inner.trafficClass = dscp | result }
        #expect(judged.outcome == .inject(expected.innerPacket))
        #expect((judged.verdict.headLength > 0) == (result != cell.inner))
    }

    @Test("copy and pipe refuse no cell", arguments: Mode.allCases)
    func copyAndPipe(mode: Mode) {
        let copy = ForwardingTests.world { $0.ecn = .copy }
        let pipe = ForwardingTests.world { $0.ecn = .pipe }
        for cell in Self.standard {
            let packet = Self.packet(mode, inner: 0xb8 | cell.inner, outer: 0x28 | cell.outer)
            let copied = packet.with { $0.inner.trafficClass = 0xb8 | cell.outer }
            #expect(outcome(packet, in: copy) == .inject(copied.innerPacket))
            #expect(outcome(packet, in: pipe) == .inject(packet.innerPacket))
            #expect(judge(packet, in: pipe).verdict.ecnCell == cell.inner << 2 | cell.outer)
        }
    }

    @Test("no cell is counted for a frame that was not read", arguments: Mode.allCases)
    func noCell(mode: Mode) {
        let packet = Self.packet(mode, inner: 0, outer: 3).with { $0.inner.version = 7 }
        #expect(judge(packet, in: world()).verdict.ecnCell == Verdict.noCell)
    }

    @Test("DSCP: all outer values", arguments: Mode.allCases)
    func dscp(mode: Mode) {
        let pipe = ForwardingTests.world()
        let uniform = ForwardingTests.world { $0.dscp = .uniform }
        for outer: UInt8 in 0..<64 {
            for inner: UInt8 in [0, 1, 0x2e, 0x3f] {
                let packet = Self.packet(mode, inner: inner << 2 | 2, outer: outer << 2)
                if outcome(packet, in: pipe) != .inject(packet.innerPacket) {
                    Issue.record("pipe: inner \(inner), outer \(outer)")
                }
                // ECN is a matter of its own.
                let marked = packet.with { $0.inner.trafficClass = outer << 2 | 2 }
                if outcome(packet, in: uniform) != .inject(marked.innerPacket) {
                    Issue.record("uniform: inner \(inner), outer \(outer)")
                }
            }
        }
    }

    @Test("DSCP and ECN together", arguments: Mode.allCases)
    func together(mode: Mode) {
        let world = ForwardingTests.world { $0.dscp = .uniform }
        let packet = Self.packet(mode, inner: 0xfe, outer: 0x03)
        let expected = packet.with { $0.inner.trafficClass = 0x03 }
        #expect(outcome(packet, in: world) == .inject(expected.innerPacket))
    }

    @Test("TTL: pipe keeps the inner, uniform takes the smaller", arguments: Mode.allCases)
    func ttl(mode: Mode) {
        let pipe = ForwardingTests.world()
        let uniform = ForwardingTests.world { $0.ttl = .uniform }
        for outer: UInt8 in [0, 1, 2, 63, 64, 65, 254, 255] {
            for inner: UInt8 in [1, 2, 63, 64, 65, 255] {
                let packet = Encapsulated(mode).with {
                    $0.outer.ttl = outer
                    $0.inner.ttl = inner
                }
                #expect(outcome(packet, in: pipe) == .inject(packet.innerPacket))
                let expected = packet.with { $0.inner.ttl = min(inner, outer) }
                #expect(
                    outcome(packet, in: uniform)
                        == (outer == 0 ? .drop(.ttlExpired) : .inject(expected.innerPacket)))
            }
        }
    }

    @Test("the header checksum follows every change", arguments: [.ipip, .ipip6] as [Mode])
    func headerChecksum(mode: Mode) {
        let world = ForwardingTests.world {
            $0.dscp = .uniform
            $0.ttl = .uniform
        }
        var random = Random(3)
        for _ in 0..<5_000 {
            let packet = Encapsulated(mode).with {
                $0.outer.trafficClass = UInt8.random(in: 0...255, using: &random)
                $0.inner.trafficClass = UInt8.random(in: 0...255, using: &random) & 0xfc | 2
                $0.outer.ttl = UInt8.random(in: 1...255, using: &random)
                $0.inner.ttl = UInt8.random(in: 1...255, using: &random)
                $0.inner.identification = UInt16.random(in: 0...0xffff, using: &random)
            }
            let result = Self.standard.first {
                $0.inner == 2 && $0.outer == packet.outer.trafficClass & 3
            }!.result!
            let expected = packet.with {
                $0.inner.trafficClass = packet.outer.trafficClass & 0xfc | result
                $0.inner.ttl = min(packet.inner.ttl, packet.outer.ttl)
            }
            if outcome(packet, in: world) != .inject(expected.innerPacket) {
                Issue.record("seed 3: \(hex(packet.packet))")
                return
            }
        }
    }
}
