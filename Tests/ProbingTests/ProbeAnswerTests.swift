// Answers to probes and what is none, each read from memory that ends with the packet.

import Forwarding
import IP
import TestPackets
import Testing

@testable import Probing

@Suite struct ProbeAnswerTests {
    private static func segment(
        _ probe: ProbePacket, flags: UInt8 = 0x12, options: [UInt8] = mss(1420), number: UInt32? = nil,
        _ change: (inout IPHeader) -> Void = { _ in }
    ) -> [UInt8] {
        var header = probe.flow.header(back: true)
        change(&header)
        let segment = TCPSegment(
            sourcePort: probe.flow.port, destinationPort: probe.token, flags: flags, options: options,
            sequence: 7, acknowledgement: number ?? probe.secret &+ 1)
        return header.packet(segment.segment(header))
    }

    private static func kind(_ packet: [UInt8], _ probe: ProbePacket) -> ProbeAnswer.Kind? {
        read(packet).flatMap { probe.isAnswered(by: $0) ? $0.kind : nil }
    }

    @Test(arguments: Mode.allCases)
    func aSynAckTellsItsMSS(mode: Mode) {
        let probe = probe(mode)
        let number = probe.secret &+ 1
        #expect(Self.kind(Self.segment(probe), probe) == .synAck(acknowledged: number, mss: 1420))
        let behind = [1, 1, 4, 2] + mss(1300)
        #expect(
            Self.kind(Self.segment(probe, options: behind), probe)
                == .synAck(acknowledged: number, mss: 1300))
        #expect(
            Self.kind(Self.segment(probe, options: []), probe) == .synAck(acknowledged: number, mss: nil))
        // Options without a length, an MSS of 3 bytes that ends the list, an MSS of 0.
        for broken in [[8, 0, 0, 0], [2, 0, 0, 0], [2, 3, 5, 0], mss(0)] as [[UInt8]] {
            #expect(
                Self.kind(Self.segment(probe, options: broken), probe)
                    == .synAck(acknowledged: number, mss: 0))
        }
        #expect(
            Self.kind(Self.segment(probe, flags: 0x14), probe) == .reset(acknowledged: number))
    }

    @Test(arguments: Mode.allCases)
    func dataBehindTheSynMayBeAcknowledged(mode: Mode) {
        let probe = probe(mode, length: 1200)
        let data = UInt32(1200 - probe.flow.smallestPacket)
        for number in [probe.secret &+ 1, probe.secret &+ 1 &+ data] {
            #expect(
                Self.kind(Self.segment(probe, number: number), probe)
                    == .synAck(acknowledged: number, mss: 1420))
        }
        #expect(Self.kind(Self.segment(probe, number: probe.secret &+ 2), probe) == nil)
    }

    @Test(arguments: Mode.allCases)
    func othersSegmentsAreNoAnswer(mode: Mode) {
        let probe = probe(mode)
        // Data of a connection, a SYN, somebody else's number, address, port or token.
        #expect(Self.kind(Self.segment(probe, flags: 0x10), probe) == nil)
        #expect(Self.kind(Self.segment(probe, flags: 0x02), probe) == nil)
        #expect(Self.kind(Self.segment(probe, number: probe.secret), probe) == nil)
        let stranger = ip(mode.innerIsIPv4 ? "203.0.113.5" : "2001:db8:f::5")
        #expect(Self.kind(Self.segment(probe) { $0.source = stranger }, probe) == nil)
        #expect(Self.kind(Self.segment(probe) { $0.destination = stranger }, probe) == nil)
        let other = ProbePacket(flow: probe.flow, token: 50_001, secret: probe.secret, length: 0)
        #expect(Self.kind(Self.segment(other), probe) == nil)
        let otherPort = ProbePacket(
            flow: flow(mode, port: 81), token: probe.token, secret: probe.secret, length: 0)
        #expect(Self.kind(Self.segment(otherPort), probe) == nil)
    }

    @Test(arguments: Mode.allCases)
    func datagramsAndEchoReplies(mode: Mode) {
        let datagram = probe(mode, .udp)
        var header = datagram.flow.header(back: true)
        #expect(
            Self.kind(header.packet(udp(header, from: 80, to: datagram.token, [1])), datagram) == .datagram)
        let echo = probe(mode, .icmp)
        header = echo.flow.header(back: true)
        let type: UInt8 = mode.innerIsIPv4 ? 0 : 129
        let reply = [type, 0, 0, 0] + word(0xfedc) + word(echo.token) + [1, 2, 3]
        #expect(Self.kind(header.packet(reply), echo) == .echoReply(identifier: 0xfedc))
        let other = [type, 0, 0, 0] + word(0xfedd) + word(echo.token)
        #expect(Self.kind(header.packet(other), echo) == nil)
        // A request is none, and neither is a reply to what was asked by TCP.
        let request = [mode.innerIsIPv4 ? 8 : 128, 0, 0, 0] + word(0xfedc) + word(echo.token)
        #expect(read(header.packet(request)) == nil)
        #expect(Self.kind(header.packet(reply), probe(mode)) == nil)
    }

    /// The first fragment of an answer is one; the kernel of a pod may cut a long echo reply.
    @Test(arguments: Mode.allCases)
    func firstFragmentsAnswer(mode: Mode) {
        let echo = probe(mode, .icmp)
        var header = echo.flow.header(back: true)
        let reply = [mode.innerIsIPv4 ? 0 : 129, 0, 0, 0] + word(0xfedc) + word(echo.token)
        header.fragment = 0x2000
        header.extensions = mode.innerIsIPv4 ? [] : [.fragment(offset: 0, more: true)]
        #expect(Self.kind(header.packet(reply), echo) == .echoReply(identifier: 0xfedc))
        header.fragment = 0x0010
        header.extensions = mode.innerIsIPv4 ? [] : [.fragment(offset: 16, more: false)]
        #expect(read(header.packet(reply)) == nil)
    }

    @Test(arguments: Mode.allCases, ProbeProtocol.allCases)
    func errorsAboutTheInnerPacket(mode: Mode, probeProtocol: ProbeProtocol) {
        let probe = probe(mode, probeProtocol, length: 1400)
        let inner = Array(probe.bytes.dropFirst(probe.flow.outerHeaderBytes))
        let router = ip(mode.innerIsIPv4 ? "10.2.1.1" : "2001:db8:2::1")
        let isIPv4 = mode.innerIsIPv4
        let packet = errorPacket(
            from: router, to: probe.flow.innerSource, type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: 1300,
            quoting: Array(inner.prefix(isIPv4 ? 28 : 200)))
        let report = ICMPReport(
            sender: router, type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: 1300, isAboutOuter: false)
        #expect(Self.kind(packet, probe) == .error(report))
        #expect(report.isTooBig && !report.isPortUnreachable)
        let port = errorPacket(
            from: probe.flow.innerDestination, to: probe.flow.innerSource, type: isIPv4 ? 3 : 1,
            code: isIPv4 ? 3 : 4, quoting: Array(inner.prefix(100)))
        guard case .error(let refusal) = Self.kind(port, probe) else {
            Issue.record("no error")
            return
        }
        #expect(refusal.isPortUnreachable && refusal.mtu == nil)
    }

    /// Of IPv4 no more than 28 bytes, as RFC 792 has it: without the inner ports.
    @Test(arguments: Mode.allCases, ProbeProtocol.allCases)
    func errorsAboutTheOuterPacket(mode: Mode, probeProtocol: ProbeProtocol) {
        let probe = probe(mode, probeProtocol, length: 1400)
        let isIPv4 = mode.outerIsIPv4
        let router = ip(isIPv4 ? "192.0.2.9" : "2001:db8:1::9")
        let quoted = Array(probe.bytes.prefix(isIPv4 ? 28 : 120))
        let packet = errorPacket(
            from: router, to: probe.flow.outerSource, type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: 1400,
            quoting: quoted)
        let report = ICMPReport(
            sender: router, type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: 1400, isAboutOuter: true)
        #expect(Self.kind(packet, probe) == .error(report))
        let other = ProbePacket(flow: probe.flow, token: 50_001, secret: 1, length: 1400)
        #expect(Self.kind(packet, other) == nil)
    }

    /// Cut at every byte, and changed at random: nothing is read beyond its end.
    @Test func nothingIsReadBeyondTheEnd() throws {
        var random = Random(try Random.seed(usually: 13))
        var packets: [[UInt8]] = [[]]
        for mode in Mode.allCases {
            let probe = probe(mode, length: 200)
            packets.append(Self.segment(probe, options: [1, 1, 4, 2] + mss(1300)))
            let isIPv4 = mode.outerIsIPv4
            packets.append(
                errorPacket(
                    from: probe.flow.outerDestination, to: probe.flow.outerSource, type: isIPv4 ? 3 : 2,
                    code: 4, quoting: probe.bytes))
            var header = probe.flow.header(back: true)
            header.extensions = [
                .options(Extension.hopByHop, [5, 2, 0, 0]), .fragment(offset: 0, more: true),
            ]
            packets.append(header.packet([UInt8](repeating: 1, count: 40)))
        }
        for packet in packets {
            for count in 0...packet.count { _ = read(Array(packet.prefix(count))) }
            for _ in 0..<2000 where !packet.isEmpty {
                var changed = packet
                for _ in 0..<3 { changed[random.below(changed.count)] = UInt8(random.below(256)) }
                _ = read(changed)
            }
        }
    }
}
