// M1 to M5: what a pod's device cannot take, who is told, how much, and how often.

import Glibc
import SlowJudge
import TestPackets
import Testing

@testable import Forwarding

@Suite("Packets that are too big for a pod's device")
struct TooBigTests {
    private static func world(mtu: Int = 1460, isElsewhere: Bool = true) -> ForwardingTables {
        ForwardingTests.world {
            $0.devices = [Policy.Device(name: "pod0", mtu: mtu, isElsewhere: isElsewhere)]
        }
    }

    /// UDP with an inner packet of so many bytes.
    private static func packet(_ mode: Mode, _ length: Int) -> Encapsulated {
        Encapsulated(mode).with {
            $0.inner.protocolNumber = 17
            let payload = length - ($0.inner.isIPv4 ? 28 : 48)
            $0.payload = udp($0.inner, to: 53, [UInt8](repeating: 7, count: payload))
        }
    }

    /// The ICMP message that is due, and the whole packet with it.
    private struct Answer {
        var message: [UInt8]
        var packet: [UInt8]
    }

    private static func answer(
        _ packet: Encapsulated, _ world: ForwardingTables, vnet: VirtioHeader = VirtioHeader()
    ) -> Answer? {
        let bytes = packet.packet
        return bytes.withUnsafeBytes { memory -> Answer? in
            let head = UnsafeMutableRawPointer.allocate(byteCount: 1280, alignment: 8)
            let headers = UnsafeMutableRawPointer.allocate(
                byteCount: ICMPErrorMessage.headersMax, alignment: 8)
            defer {
                head.deallocate()
                headers.deallocate()
            }
            var frame = Frame(
                network: memory.baseAddress!, head: head, length: bytes.count,
                wireLength: bytes.count, linkLength: 14,
                etherType: packet.mode.outerIsIPv4 ? 0x0800 : 0x86dd, interface: 0,
                isForUs: true, vnet: vnet)
            var verdict = Verdict(kind: .pass)
            Judge.judge(&frame, into: &verdict, count: 1, tables: world.view)
            guard verdict.kind == .reply else { return nil }
            #expect(verdict.reason == .packetTooBig)
            let mtu = world.policy.policy.devices[Int(verdict.device)].mtu
            let quoted = UnsafeRawBufferPointer(
                start: frame.network + Int(verdict.offset),
                count: ICMPErrorMessage.write(to: head, frame, verdict, mtu: mtu))
            let source = packet.inner.isIPv4 ? ip("192.0.2.2") : ip("2001:db8::2")
            let target = packet.inner.source.bytes
            let count = target.withUnsafeBytes {
                ICMPErrorMessage.writePacket(
                    to: headers, head, quoted: quoted, source: source, target: $0)
            }
            return Answer(
                message: Array(UnsafeRawBufferPointer(start: head, count: 8)) + quoted,
                packet: Array(UnsafeRawBufferPointer(start: headers, count: count)) + quoted)
        }
    }

    @Test(
        "M1 M2 as large as the device takes goes in, one byte more is answered",
        arguments: Mode.allCases)
    func border(mode: Mode) throws {
        let fits = Self.packet(mode, 1460)
        #expect(outcome(fits, in: Self.world()) == .inject(fits.innerPacket))
        let large = Self.packet(mode, 1461)
        let message = try #require(Self.answer(large, Self.world())).message
        #expect(Array(message[..<2]) == (mode.innerIsIPv4 ? [3, 4] : [2, 0]))
        #expect(Array(message[4..<8]) == [0, 0] + word(1460))
        #expect(Array(message[8...]) == Array(large.innerPacket.prefix(message.count - 8)))
        #expect(message.count == (mode.innerIsIPv4 ? 556 : 1240))
        if mode.innerIsIPv4 { #expect(sum(message) == 0xffff) }
    }

    @Test("M1 a device in the host's namespace is the kernel's to judge", arguments: Mode.allCases)
    func host(mode: Mode) {
        let large = Self.packet(mode, 1461)
        #expect(
            outcome(large, in: Self.world(isElsewhere: false)) == .inject(large.innerPacket))
    }

    @Test("M1 IPv4 that may be cut is dropped, not answered", arguments: [.ipip, .ipip6] as [Mode])
    func withoutDontFragment(mode: Mode) {
        let large = Self.packet(mode, 1461).with { $0.inner.fragment = 0 }
        #expect(Self.answer(large, Self.world()) == nil)
        #expect(outcome(large, in: Self.world()) == .drop(.packetTooBig))
        let first = Self.packet(mode, 1464).with { $0.inner.fragment = 0x6000 }
        #expect(Self.answer(first, Self.world()) != nil)
    }

    @Test("M2 an IPv6 sender is told of no MTU below 1280", arguments: Mode.allCases)
    func smallestMTU(mode: Mode) {
        let large = Self.packet(mode, 1281)
        #expect(Self.answer(large, Self.world(mtu: 1280)) != nil)
        for mtu in [576, 1279] {
            let world = Self.world(mtu: mtu)
            // RFC 791's smallest is IPv4's, so any device's is told.
            #expect((Self.answer(large, world) != nil) == mode.innerIsIPv4)
            if !mode.innerIsIPv4 { #expect(outcome(large, in: world) == .drop(.packetTooBig)) }
        }
    }

    @Test(
        "M3 never about an error, a later fragment, or what comes from no host",
        arguments: Mode.allCases)
    func silent(mode: Mode) {
        var packets: [Encapsulated] = []
        let large = Self.packet(mode, 1461)
        let isIPv4 = mode.innerIsIPv4
        let silentTypes: [UInt8] = isIPv4 ? [3, 4, 5, 11, 12, 1, 40] : [1, 2, 3, 4, 100, 127, 137]
        for type in silentTypes {
            packets.append(
                large.with {
                    $0.inner.protocolNumber = isIPv4 ? 1 : 58
                    $0.payload = icmp($0.inner, type: type, Array($0.payload.dropFirst(8)))
                })
        }
        packets.append(
            large.with {
                if isIPv4 {
                    $0.inner.fragment = 0x4001
                } else {
                    $0.inner.extensions = [.fragment(offset: 1, more: false)]
                }
            })
        for packet in packets {
            #expect(Self.answer(packet, Self.world()) == nil)
            #expect(outcome(packet, in: Self.world()) == .drop(.packetTooBig))
        }
        // Where martians pass, they are still not answered.
        let lenient = ForwardingTests.world {
            $0.devices = [Policy.Device(name: "pod0", mtu: 1460, isElsewhere: true)]
            $0.dropMartians = false
        }
        let sources =
            isIPv4
            ? ["0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
            : ["::", "::1", "ff02::1"]
        for source in sources {
            let martian = large.with { $0.inner.source = ip(source) }
            #expect(Self.answer(martian, lenient) == nil)
        }
        let group = large.with { $0.inner.destination = ip(isIPv4 ? "224.0.0.9" : "ff05::9") }
        #expect(Self.answer(group, lenient) == nil)
        // A query is answered.
        let query = large.with {
            $0.inner.protocolNumber = isIPv4 ? 1 : 58
            $0.payload = icmp(
                $0.inner, type: isIPv4 ? 8 : 128, Array($0.payload.dropFirst(8)))
        }
        #expect(Self.answer(query, Self.world()) != nil)
    }

    @Test("M1 a super-frame is as big as its segments", arguments: Mode.allCases)
    func superFrames(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.carry(
                TCPSegment(
                    options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
                    payload: [UInt8](repeating: 3, count: 9000)))
        }
        let headers = (mode.innerIsIPv4 ? 20 : 40) + 32
        let type = mode.innerIsIPv4 ? VirtioHeader.gsoTCPv4 : VirtioHeader.gsoTCPv6
        let start = UInt16(14 + packet.outerLength + (mode.innerIsIPv4 ? 20 : 40))
        func vnet(_ size: Int) -> VirtioHeader {
            VirtioHeader(
                flags: 1, gsoType: type, headerLength: start + 32, gsoSize: UInt16(size),
                checksumStart: start, checksumOffset: 16)
        }
        let fits = Arrival(vnet: vnet(1460 - headers))
        #expect(outcome(packet, in: Self.world(), fits) == .inject(packet.innerPacket))
        #expect(Self.answer(packet, Self.world(), vnet: vnet(1461 - headers)) != nil)
    }

    @Test("M4 no answer is longer than what it answers", arguments: Mode.allCases, [68, 300, 600, 1300])
    func amplification(mode: Mode, mtu: Int) throws {
        for length in stride(from: mtu + 1, to: mtu + 900, by: 97) {
            let packet = Self.packet(mode, max(length, 60))
            guard length > 60, let answer = Self.answer(packet, Self.world(mtu: mtu)) else { continue }
            #expect(answer.packet.count <= packet.packet.count)
            #expect(answer.packet.count <= (mode.innerIsIPv4 ? 576 : 1280))
            // RFC 792: at least the header and eight bytes.
            #expect(answer.message.count >= 8 + (mode.innerIsIPv4 ? 28 : 48))
        }
    }

    @Test("M1 M2 the whole answer is a packet that its receiver takes", arguments: Mode.allCases)
    func whole(mode: Mode) throws {
        let large = Self.packet(mode, 1461)
        let packet = try #require(Self.answer(large, Self.world())).packet
        var header =
            mode.innerIsIPv4
            ? IPHeader("192.0.2.2", "203.0.113.7", protocolNumber: 1, isIPv4: true)
            : IPHeader("2001:db8::2", "2001:db8:c::7", protocolNumber: 58, isIPv4: false)
        header.trafficClass = mode.innerIsIPv4 ? 0xc0 : 0
        header.identification = 0
        header.fragment = 0
        let upper = Array(packet.dropFirst(mode.innerIsIPv4 ? 20 : 40))
        #expect(packet == header.packet(upper))
        if !mode.innerIsIPv4 { #expect(header.isChecksumGood(upper)) }
    }

    @Test("M4 the rate is kept over any second, with a burst at its begin")
    func rate() {
        let tokens = ICMPErrorTokens(perSecond: 100, burst: 50)
        defer { tokens.deallocate() }
        var sent: [UInt64] = []
        var random = Random(5)
        var now: UInt64 = 7_000_000_000
        while now < 17_000_000_000 {
            if tokens.take(now: now) { sent.append(now) }
            now += UInt64(random.below(2_000_000))
        }
        for (index, start) in sent.enumerated() {
            let within = sent[index...].prefix { $0 < start + 1_000_000_000 }
            #expect(within.count <= 150)
        }
        #expect(sent.prefix { $0 < 7_100_000_000 }.count >= 55)
        #expect((1000...1060).contains(sent.count))
        // A bucket of one token.
        let one = ICMPErrorTokens(perSecond: 1, burst: 1)
        defer { one.deallocate() }
        #expect(one.take(now: 5_000_000_000))
        #expect(!one.take(now: 5_999_999_999))
        #expect(one.take(now: 6_000_000_000))
    }
}
