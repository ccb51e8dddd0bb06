// The link layers that captures come in.

import IP
import TestPackets
import Testing

@Suite("Link types")
struct LinkTypeTests {
    private func parse(_ type: LinkType, _ bytes: [UInt8]) -> [Int]? {
        bytes.withUnsafeBytes { buffer in
            type.parse(buffer).map { [$0.length, Int($0.etherType), $0.isForUs ? 1 : 0] }
        }
    }

    @Test("Ethernet: always for us, a VLAN tag is its own ethertype")
    func ethernet() {
        let header: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        #expect(parse(.ethernet, header + [0x08, 0x00, 0x45]) == [14, 0x0800, 1])
        #expect(parse(.ethernet, header + [0x86, 0xdd]) == [14, 0x86dd, 1])
        #expect(parse(.ethernet, header + [0x81, 0x00, 0, 5, 8, 0]) == [14, 0x8100, 1])
        for length in 0..<14 {
            #expect(parse(.ethernet, [UInt8](repeating: 8, count: length)) == nil)
        }
    }

    @Test("raw: the version says what it is", arguments: UInt8.min...UInt8.max)
    func raw(first: UInt8) {
        let etherType = first >> 4 == 4 ? 0x0800 : first >> 4 == 6 ? 0x86dd : 0
        #expect(parse(.raw, [first, 0, 0]) == [0, etherType, 1])
    }

    @Test("raw: nothing at all")
    func rawEmpty() {
        #expect(parse(.raw, []) == nil)
    }

    @Test("cooked: only packet type 0 is for this host", arguments: 0..<5)
    func cooked(packetType: Int) {
        let isForUs = packetType == 0 ? 1 : 0
        let first: [UInt8] = [0, UInt8(packetType), 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x08, 0x00]
        #expect(parse(.linuxCooked, first) == [16, 0x0800, isForUs])
        #expect(parse(.linuxCooked, first.dropLast()) == nil)
        let second: [UInt8] =
            [0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, 1, UInt8(packetType), 6] + [1, 2, 3, 4, 5, 6, 0, 0]
        #expect(parse(.linuxCooked2, second) == [20, 0x86dd, isForUs])
        #expect(parse(.linuxCooked2, second.dropLast()) == nil)
        // The packet type has two bytes in the first format.
        #expect(parse(.linuxCooked, [1] + first.dropFirst()) == [16, 0x0800, 0])
    }

    @Test("numbers are pcap's")
    func numbers() {
        #expect(LinkType(rawValue: 1) == .ethernet && LinkType(rawValue: 101) == .raw)
        #expect(LinkType(rawValue: 113) == .linuxCooked && LinkType(rawValue: 276) == .linuxCooked2)
    }
}
