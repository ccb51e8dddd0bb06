// The last refused frame of each reason: what is kept of it, how often, and how a line says it.

import Forwarding
import TestPackets
import Testing

@testable import Daemon

@Suite("Drop examples")
struct DropExampleTests {
    private static func ipv4(
        _ source: [UInt8], _ destination: [UInt8], _ next: UInt8, _ payload: [UInt8],
        fragment: UInt16 = 0, options: [UInt8] = []
    ) -> [UInt8] {
        let words = UInt8(5 + options.count / 4)
        return [0x40 | words, 0, 0, 0, 0, 0, UInt8(fragment >> 8), UInt8(fragment & 0xff), 64, next, 0, 0]
            + source + destination + options + payload
    }

    private static func ipv6(_ next: UInt8, _ payload: [UInt8]) -> [UInt8] {
        let prefix: [UInt8] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        return [0x60, 0, 0, 0, 0, 0, next, 64] + prefix + [1] + prefix + [2] + payload
    }

    private static let outer: ([UInt8], [UInt8]) = ([192, 0, 2, 1], [192, 0, 2, 2])
    private static let inner = ipv4([198, 51, 100, 2], [203, 0, 113, 4], 6, [0x9c, 0x40, 0, 80])

    @Test(
        "outer and inner addresses, mode, protocol and ports in one line",
        arguments: [
            (
                ipv4(outer.0, outer.1, 4, inner),
                "192.0.2.1 > 192.0.2.2 ipip 198.51.100.2:40000 > 203.0.113.4:80 tcp"
            ),
            (
                ipv4(outer.0, outer.1, 4, inner, options: [1, 1, 1, 1]),
                "192.0.2.1 > 192.0.2.2 ipip 198.51.100.2:40000 > 203.0.113.4:80 tcp"
            ),
            (
                ipv4(outer.0, outer.1, 41, ipv6(58, [128, 0, 0, 0])),
                "192.0.2.1 > 192.0.2.2 ip6ip 2001:db8::1 > 2001:db8::2 icmpv6"
            ),
            (
                ipv6(60, [41, 0, 1, 4, 0, 0, 0, 0] + ipv6(17, [0, 53, 0, 54])),
                "2001:db8::1 > 2001:db8::2 ip6ip6 [2001:db8::1]:53 > [2001:db8::2]:54 udp"
            ),
            (
                ipv6(44, [4, 0, 0, 0x48, 0, 0, 0, 1] + inner),
                "2001:db8::1 > 2001:db8::2 protocol 4 fragment"
            ),
            (
                ipv4(outer.0, outer.1, 4, inner, fragment: 185),
                "192.0.2.1 > 192.0.2.2 protocol 4 fragment"
            ),
            (ipv4(outer.0, outer.1, 4, [0x45, 0]), "192.0.2.1 > 192.0.2.2 ipip no IP header"),
            ([0x45, 0, 0], "3 bytes that are no IP header"),
            ([], "0 bytes that are no IP header"),
        ])
    func line(head: [UInt8], expected: String) { #expect(PacketLine.text(head) == expected) }

    @Test("what is shown of a frame ends with its headers")
    func headers() {
        let payload = [UInt8](repeating: 0x55, count: 40)
        func shown(_ next: UInt8, fragment: UInt16 = 0) -> Int {
            let inner = Self.ipv4([198, 51, 100, 2], [203, 0, 113, 4], next, payload, fragment: fragment)
            return PacketLine.headerBytes(Self.ipv4(Self.outer.0, Self.outer.1, 4, inner))
        }
        #expect(shown(6) == 60 && shown(17) == 48 && shown(17, fragment: 1) == 40)
        #expect(PacketLine.headerBytes(Self.ipv4(Self.outer.0, Self.outer.1, 4, payload)) == 20)
        #expect(PacketLine.headerBytes(payload) == 0 && PacketLine.headerBytes([]) == 0)
    }

    @Test("any bytes, cut anywhere, give a line")
    func anyBytes() throws {
        var random = Random(try Random.seed(usually: 1))
        for _ in 0..<20_000 {
            var bytes = (0..<Int.random(in: 0...112, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if !bytes.isEmpty && random.chance(2) { bytes[0] = random.chance(2) ? 0x45 : 0x60 }
            if bytes.count > 9, random.chance(2) {
                bytes[random.chance(2) ? 6 : 9] = random.pick([0, 4, 41, 44, 60])
            }
            #expect(!PacketLine.text(bytes).isEmpty)
            #expect((0...bytes.count).contains(PacketLine.headerBytes(bytes)))
        }
    }

    @Test("the first of a tenth of a second is kept, for each reason")
    func interval() throws {
        let examples = try DropExamples(cpu: 0)
        let writer = examples.writer
        #expect(examples.read(.reversePath) == nil)
        func note(_ reason: DropReason, _ bytes: [UInt8], at now: UInt64, interface: UInt16) {
            bytes.withUnsafeBytes { bytes in
                withUnsafeTemporaryAllocation(byteCount: 8, alignment: 8) { head in
                    guard let start = bytes.baseAddress, let head = head.baseAddress else { return }
                    var frame = Frame(
                        network: start, head: head, length: bytes.count, wireLength: bytes.count,
                        linkLength: 14, etherType: 0x0800, interface: interface, isForUs: true)
                    writer.begin(now: now)
                    writer.note(reason, &frame, now: now)
                }
            }
        }
        let second: UInt64 = 1_000_000_000
        note(.reversePath, [1, 2, 3], at: second, interface: 300)
        note(.reversePath, [9], at: second + 99_999_999, interface: 1)
        note(.gsoInvalid, [7], at: second + 99_999_999, interface: 1)
        let first = try #require(examples.read(.reversePath))
        #expect(first.head == [1, 2, 3] && first.interface == 300 && first.stamp == second)
        #expect(examples.read(.gsoInvalid)?.head == [7])
        let long = (0..<200).map { UInt8($0) }
        note(.reversePath, long, at: second + 100_000_000, interface: 1)
        let next = try #require(examples.read(.reversePath))
        #expect(next.head == Array(long.prefix(112)) && next.interface == 1)
        #expect(examples.read(.sourceRoute) == nil)
        #expect(DropReason.allCases.count <= 64, "a bit for each")
    }
}
