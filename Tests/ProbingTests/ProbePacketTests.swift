// Probes byte by byte, against packets that other code builds.

import Forwarding
import IP
import TestPackets
import Testing

@testable import Probing

@Suite struct ProbePacketTests {
    /// The same packet by the tests' own builder.
    private static func expected(_ probe: ProbePacket, _ upper: [UInt8]) -> [UInt8] {
        var (outer, inner) = (probe.flow.outerHeader(), probe.flow.header())
        (outer.identification, inner.identification) = (probe.token, probe.token)
        return outer.packet(inner.packet(upper))
    }

    @Test(arguments: Mode.allCases, [0, 1401])
    func synsHaveTheMSSOfAClient(mode: Mode, length: Int) {
        let probe = probe(mode, length: length)
        let header = probe.flow.header()
        let padding = max(length - probe.flow.smallestPacket, 0)
        let segment = TCPSegment(
            sourcePort: 50_000, destinationPort: 80, flags: TCPSegment.syn,
            options: mss(mode.innerIsIPv4 ? 1460 : 1440), payload: [UInt8](repeating: 0, count: padding),
            sequence: 0xfedc_ba98, acknowledgement: 0)
        #expect(probe.bytes == Self.expected(probe, segment.segment(header)))
    }

    @Test(arguments: Mode.allCases)
    func aResetContinuesWhatTheAnswerAcknowledged(mode: Mode) {
        let probe = probe(mode)
        let segment = TCPSegment(
            sourcePort: 50_000, destinationPort: 80, flags: 4, sequence: 0xfedc_ba99, acknowledgement: 0)
        #expect(
            probe.reset(acknowledged: 0xfedc_ba99)
                == Self.expected(probe, segment.segment(probe.flow.header())))
    }

    private static func text(_ probe: ProbePacket, headerBytes: Int) -> [UInt8] {
        let text = Array("shuck probe".utf8)
        let count = probe.length - probe.flow.innerHeaderBytes - headerBytes
        return text + [UInt8](repeating: 0, count: count - text.count)
    }

    @Test(arguments: Mode.allCases, [0, 1000])
    func datagrams(mode: Mode, length: Int) {
        let probe = probe(mode, .udp, length: length)
        let datagram = udp(probe.flow.header(), from: 50_000, to: 80, Self.text(probe, headerBytes: 8))
        #expect(probe.bytes == Self.expected(probe, datagram))
    }

    @Test(arguments: Mode.allCases, [0, 777])
    func echoRequests(mode: Mode, length: Int) {
        let probe = probe(mode, .icmp, length: length)
        let header = probe.flow.header()
        var message = [mode.innerIsIPv4 ? 8 : 128, 0, 0, 0] + word(0xfedc) + word(50_000)
        message += Self.text(probe, headerBytes: 8)
        message.replaceSubrange(
            2..<4, with: word(mode.innerIsIPv4 ? ~sum(message) : header.checksum(message)))
        #expect(probe.bytes == Self.expected(probe, message))
    }

    /// RFC 768: a checksum that comes to 0 is sent as 0xffff. One of 65536 tokens does so.
    @Test(arguments: Mode.allCases)
    func aDatagramNeverSaysThatItHasNoChecksum(mode: Mode) {
        let place = flow(mode).outerHeaderBytes + flow(mode).innerHeaderBytes + 6
        var full = 0
        for token in UInt16(1)...UInt16.max {
            let bytes = probe(mode, .udp, token: token).bytes
            #expect(bytes[place] != 0 || bytes[place + 1] != 0)
            if bytes[place] == 255 && bytes[place + 1] == 255 { full += 1 }
        }
        #expect(full == 1)
    }

    @Test func theLargestMSSIsWhatTheLinkLeaves() {
        let fitting = Mode.allCases.map { flow($0).fittingMSS(linkMTU: 1500) }
        #expect(fitting == [1440, 1420, 1420, 1400])
    }

    @Test func theModeFollowsFromTheAddresses() {
        for mode in Mode.allCases { #expect(flow(mode).mode == mode) }
    }
}
