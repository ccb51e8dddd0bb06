// The walk over IPv6 extension headers, step by step, and at the end of a packet.

import IP
import TestPackets
import Testing

@Suite("Extension header walk")
struct ExtensionHeaderWalkTests {
    private static func packet(_ extensions: [Extension], _ payload: [UInt8] = [1]) -> [UInt8] {
        var header = IPHeader("2001:db8::1", "2001:db8::2", protocolNumber: 17, isIPv4: false)
        header.extensions = extensions
        return header.packet(payload)
    }

    @Test("each kind has its own length")
    func lengths() {
        let chain: [Extension] = [
            .options(Extension.hopByHop, []),
            .options(Extension.destination, [UInt8](repeating: 0, count: 9)),
            .routing(segmentsLeft: 2), .fragment(offset: 0, more: false), .authentication,
        ]
        withBytes(Self.packet(chain)) { packet in
            var walk = ExtensionHeaderWalk(packet)
            var (offset, named) = (40, 6)
            #expect(walk.namedAt == named && walk.count == 0)
            for (index, header) in chain.enumerated() {
                let step = walk.next(in: packet, end: packet.count)
                #expect(step?.number == header.number && step?.offset == offset)
                named = offset
                offset += header.bytes.count
                #expect(walk.offset == offset && walk.namedAt == named && walk.count == index + 1)
                #expect(walk.number == (index + 1 < chain.count ? chain[index + 1].number : 17))
            }
        }
    }

    @Test("less than eight bytes before the end: nothing, and nothing changed", arguments: 0...8)
    func end(left: Int) {
        let whole = Self.packet([.options(Extension.hopByHop, [])], [])
        withBytes(Array(whole.prefix(40 + left))) { packet in
            var walk = ExtensionHeaderWalk(packet)
            let step = walk.next(in: packet, end: packet.count)
            #expect((step != nil) == (left == 8))
            #expect(walk.offset == (left == 8 ? 48 : 40) && walk.count == (left == 8 ? 1 : 0))
            #expect(walk.number == (left == 8 ? 17 : Extension.hopByHop))
        }
    }

    /// Its caller has to see that.
    @Test("a length that leads beyond the end is told and not followed")
    func beyond() {
        for (number, units, length) in [
            (0, 255, 2048), (60, 1, 16), (43, 255, 2048), (44, 255, 8), (51, 255, 1028), (51, 0, 8),
        ] as [(UInt8, UInt8, Int)] {
            let header = Extension(number: number, bytes: [0, units, 0, 0, 0, 0, 0, 0])
            withBytes(Self.packet([header], [])) { packet in
                var walk = ExtensionHeaderWalk(packet)
                #expect(walk.next(in: packet, end: packet.count)?.number == number)
                #expect(walk.offset == 40 + length)
            }
        }
    }

    @Test("only headers that an end node goes behind are walked")
    func walked() {
        let numbers = (0...255).map { UInt8($0) }
        #expect(numbers.filter(ExtensionHeader.isWalked) == [0, 43, 44, 60])
        #expect(Set(numbers.filter(ExtensionHeader.isWalked)) == Set(ExtensionHeader.walked))
    }

    @Test("fields of fragment and routing headers")
    func fields() {
        for (offset, more) in [(0, false), (0, true), (1, false), (0x1fff, true)] as [(UInt16, Bool)] {
            let header = Extension.fragment(offset: offset, more: more, reserved: 3)
            withBytes(Self.packet([header])) {
                let fragment = $0.fragmentHeader(at: 40)
                #expect(fragment.nextHeader == 17 && fragment.identification == 7)
                #expect(fragment.fragmentOffset == Int(offset) * 8 && fragment.moreFragments == more)
                #expect(fragment.isAtomic == (offset == 0 && !more))
            }
        }
        withBytes(Self.packet([.routing(type: 4, segmentsLeft: 255)])) {
            #expect($0.routingHeader(at: 40).routingType == 4)
            #expect($0.routingHeader(at: 40).segmentsLeft == 255)
        }
    }
}
