// ICMP errors pass when they quote a packet of an allowed destination, or path MTU discovery dies.

import TestPackets
import Testing

@testable import Forwarding

@Suite("ICMP errors")
struct QuoteTests {
    static let world = ForwardingTests.world { policy in
        policy.devices = [.init(name: "shuck0"), .init(name: "shuck1")]
        policy.tunnels[0].destinations = ["10.2.1.9", "2001:db8:2::9"].flatMap {
            [
                Policy.Destination(
                    prefix: prefix($0), protocolNumber: 6, ports: [443...443], device: 1),
                Policy.Destination(prefix: prefix($0), protocolNumber: 17, device: 0),
            ]
        }
    }

    /// What the pod sent to the client, and some router could not deliver.
    static func sent(_ mode: Mode, number: UInt8 = 6) -> IPHeader {
        mode.innerIsIPv4
            ? IPHeader("10.2.1.9", "203.0.113.7", protocolNumber: number, isIPv4: true)
            : IPHeader("2001:db8:2::9", "2001:db8:c::7", protocolNumber: number, isIPv4: false)
    }

    /// An error about `quoted`, from a router.
    static func error(_ mode: Mode, type: UInt8? = nil, quoting quoted: [UInt8]) -> Encapsulated {
        Encapsulated(mode).with {
            $0.inner.source = ip(mode.innerIsIPv4 ? "203.0.113.1" : "2001:db8:c::1")
            $0.inner.protocolNumber = mode.innerIsIPv4 ? 1 : 58
            $0.payload = icmp($0.inner, type: type ?? (mode.innerIsIPv4 ? 3 : 2), code: 4, quoted)
        }
    }

    static func segment(_ header: IPHeader, from port: UInt16 = 443) -> [UInt8] {
        header.packet(TCPSegment(sourcePort: port, destinationPort: 40000).segment(header))
    }

    @Test("an error about an allowed destination's packet", arguments: Mode.allCases)
    func allowed(mode: Mode) {
        let header = Self.sent(mode)
        let packet = Self.error(mode, quoting: Self.segment(header))
        let judged = judge(packet, in: Self.world)
        #expect(judged.outcome == .inject(packet.innerPacket))
        #expect(judged.verdict.device == 1)
        let datagram = Self.sent(mode, number: 17)
        let other = Self.error(
            mode, quoting: datagram.packet(udp(datagram, from: 53, to: 9, [])))
        #expect(judge(other, in: Self.world).verdict.device == 0)
        #expect(outcome(other, in: Self.world).isInject)
    }

    @Test("every type", arguments: Mode.allCases)
    func types(mode: Mode) {
        let quoted = Self.segment(Self.sent(mode))
        for type in UInt8.min...UInt8.max {
            let isError = mode.innerIsIPv4 ? [3, 4, 5, 11, 12].contains(type) : type < 128
            let result = outcome(Self.error(mode, type: type, quoting: quoted), in: Self.world)
            if result.isInject != isError { Issue.record("type \(type): \(result)") }
            if !isError { #expect(result == .drop(.destinationNotAllowed)) }
        }
    }

    @Test("a forged quote: another source, port, protocol, family", arguments: Mode.allCases)
    func forged(mode: Mode) {
        var header = Self.sent(mode)
        header.source = ip(mode.innerIsIPv4 ? "10.2.1.8" : "2001:db8:2::8")
        var quotes = [Self.segment(header), Self.segment(Self.sent(mode), from: 444)]
        // The source differs in the other half of its address.
        header.source = ip(mode.innerIsIPv4 ? "11.2.1.9" : "2001:db8:3::9")
        quotes.append(Self.segment(header))
        let sctp = Self.sent(mode, number: 132)
        quotes.append(sctp.packet(udp(sctp, from: 443, to: 1, [])))
        var version = Self.sent(mode)
        version.version = mode.innerIsIPv4 ? 6 : 4
        quotes.append(Self.segment(version))
        // The packet that provoked the error went the other way.
        var reversed = Self.sent(mode)
        swap(&reversed.source, &reversed.destination)
        quotes.append(Self.segment(reversed))
        for quote in quotes {
            let packet = Self.error(mode, quoting: quote)
            let result = outcome(packet, in: Self.world)
            #expect(result == .drop(.destinationNotAllowed), "\(hex(quote))")
        }
    }

    @Test("the other family's ICMP is no error", arguments: Mode.allCases)
    func otherFamily(mode: Mode) {
        let packet = Self.error(mode, quoting: Self.segment(Self.sent(mode))).with {
            $0.inner.protocolNumber = mode.innerIsIPv4 ? 58 : 1
        }
        #expect(outcome(packet, in: Self.world) == .drop(.destinationNotAllowed))
    }

    @Test("a quote cut at every byte", arguments: Mode.allCases)
    func truncated(mode: Mode) {
        let quoted = Self.segment(Self.sent(mode))
        let header = mode.innerIsIPv4 ? 20 : 40
        for length in 0...quoted.count {
            let packet = Self.error(mode, quoting: Array(quoted[..<length]))
            // Two bytes of the quoted TCP header say whose it was.
            let expected: Outcome =
                length >= header + 2
                ? .inject(packet.innerPacket) : .drop(.destinationNotAllowed)
            #expect(outcome(packet, in: Self.world) == expected, "\(length)")
            // A rule without ports needs the protocol alone.
            let datagram = Self.sent(mode, number: 17).packet([0, 0, 0, 0, 0, 0, 0, 0])
            if length <= datagram.count {
                let other = Self.error(mode, quoting: Array(datagram[..<length]))
                #expect(outcome(other, in: Self.world).isInject == (length >= header))
            }
        }
    }

    @Test("a quote with options or extension headers", arguments: Mode.allCases)
    func longHeaders(mode: Mode) {
        var header = Self.sent(mode)
        if mode.innerIsIPv4 {
            header.options = [7, 7, 4, 0, 0, 0, 0, 0]
        } else {
            header.extensions = [
                .options(Extension.hopByHop, []), .fragment(offset: 0, more: true),
                .options(Extension.destination, [4, 1, 4]),
            ]
        }
        #expect(outcome(Self.error(mode, quoting: Self.segment(header)), in: Self.world).isInject)
        let wrong = Self.error(mode, quoting: Self.segment(header, from: 444))
        #expect(outcome(wrong, in: Self.world) == .drop(.destinationNotAllowed))
        if mode.innerIsIPv4 {
            for words: UInt8 in [0, 4, 15] {
                var bad = Self.sent(mode)
                bad.headerWords = words
                let packet = Self.error(mode, quoting: Self.segment(bad))
                #expect(outcome(packet, in: Self.world) == .drop(.destinationNotAllowed))
            }
        }
    }

    @Test("a quoted later fragment has no ports", arguments: Mode.allCases)
    func laterFragment(mode: Mode) {
        var header = Self.sent(mode)
        header.fragment = 100
        if !mode.innerIsIPv4 { header.extensions = [.fragment(offset: 100, more: false)] }
        let packet = Self.error(mode, quoting: Self.segment(header, from: 1))
        #expect(outcome(packet, in: Self.world).isInject)
    }

    @Test("a fragment of an error is not believed", arguments: Mode.allCases)
    func fragmentedError(mode: Mode) {
        let packet = Self.error(mode, quoting: Self.segment(Self.sent(mode))).with {
            $0.inner.fragment = 0x2000
            if !mode.innerIsIPv4 { $0.inner.extensions = [.fragment(offset: 0, more: true)] }
        }
        #expect(outcome(packet, in: Self.world) == .drop(.destinationNotAllowed))
    }
}
