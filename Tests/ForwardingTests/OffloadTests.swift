// What becomes of a virtio_net_hdr: checksums to be finished and super-packets, one header shorter.

import Routing
import Testing

@testable import Forwarding

@Suite("Offload")
struct OffloadTests {
    let world = ForwardingTests.world {
        $0.mssIPv4 = .off
        $0.mssIPv6 = .off
    }

    private static func isTCP(_ type: UInt8, _ mode: Mode) -> Bool {
        type & 0x7f == (mode.innerIsIPv4 ? VirtioHeader.gsoTCPv4 : VirtioHeader.gsoTCPv6)
    }

    private func judged(
        _ packet: Encapsulated, link: Int = 14, _ change: (inout VirtioHeader) -> Void
    ) -> Judged {
        let inner = packet.mode.innerIsIPv4 ? 20 : 40
        var vnet = VirtioHeader(
            flags: VirtioHeader.needsChecksum,
            checksumStart: UInt16(link + packet.outerLength + inner), checksumOffset: 16)
        change(&vnet)
        return judge(packet, in: world, Arrival(linkLength: link, vnet: vnet))
    }

    @Test("a checksum to be finished: offsets count from the inner packet",
        arguments: Mode.allCases)
    func checksum(mode: Mode) {
        for link in [0, 14, 18] {
            let packet = Encapsulated(mode)
            let judged = judged(packet, link: link) { _ in }
            #expect(judged.outcome == .inject(packet.innerPacket))
            #expect(
                judged.verdict.vnet
                    == VirtioHeader(
                        flags: VirtioHeader.needsChecksum,
                        checksumStart: mode.innerIsIPv4 ? 20 : 40, checksumOffset: 16))
        }
    }

    @Test("behind outer and inner options and extension headers", arguments: Mode.allCases)
    func longHeaders(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.outer.options = mode.outerIsIPv4 ? [1, 1, 1, 1] : []
            $0.outer.extensions = mode.outerIsIPv4 ? [] : [.options(Extension.destination, [])]
            $0.inner.options = mode.innerIsIPv4 ? [1, 1, 1, 1] : []
            $0.inner.extensions = mode.innerIsIPv4 ? [] : [.options(Extension.destination, [])]
        }
        let length = mode.innerIsIPv4 ? 24 : 48
        let good = judged(packet) {
            $0.checksumStart = UInt16(14 + packet.outerLength + length)
        }
        #expect(good.outcome == .inject(packet.innerPacket))
        #expect(good.verdict.vnet.checksumStart == UInt16(length))
        // Within the inner IP header.
        let bad = judged(packet) { $0.checksumStart = UInt16(14 + packet.outerLength + length - 1) }
        #expect(bad.outcome == .drop(.gsoInvalid))
    }

    @Test("a checksum outside the inner packet's payload is refused", arguments: Mode.allCases)
    func checksumBounds(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.padding = [UInt8](repeating: 0, count: 40) }
        let start = 14 + packet.outerLength + (mode.innerIsIPv4 ? 20 : 40)
        let end = 14 + packet.outerLength + packet.innerPacket.count
        for value in [0, 14, start - 1, end, end - 1, 65535] {
            let bad = judged(packet) { $0.checksumStart = UInt16(value) }
            #expect(bad.outcome == .drop(.gsoInvalid), "\(value)")
        }
        let last = end - start - 2
        #expect(judged(packet) { $0.checksumOffset = UInt16(last) }.outcome.isInject)
        for offset in [last + 1, last + 2, 65535] {
            let bad = judged(packet) { $0.checksumOffset = UInt16(offset) }
            #expect(bad.outcome == .drop(.gsoInvalid), "\(offset)")
        }
    }

    @Test("without a checksum or segments to be made nothing is handed on",
        arguments: Mode.allCases)
    func nothing(mode: Mode) {
        let packet = Encapsulated(mode)
        // VIRTIO_NET_HDR_F_DATA_VALID, with remains in the other fields.
        let judged = judged(packet) {
            $0.flags = 2
            $0.headerLength = 54
            $0.gsoSize = 100
        }
        #expect(judged.outcome == .inject(packet.innerPacket))
        #expect(judged.verdict.vnet == VirtioHeader())
    }

    @Test("all 256 GSO types", arguments: Mode.allCases)
    func types(mode: Mode) {
        let packet = Encapsulated(mode)
        let inner: UInt16 = mode.innerIsIPv4 ? 20 : 40
        for type in UInt8.min...UInt8.max {
            let judged = judged(packet) {
                $0.gsoType = type
                $0.gsoSize = 1000
                $0.headerLength = UInt16(14 + packet.outerLength) + inner + 20
            }
            let isGood = type == 0 || Self.isTCP(type, mode)
            #expect(judged.outcome == (isGood ? .inject(packet.innerPacket) : .drop(.gsoInvalid)))
            if isGood && type != 0 {
                #expect(
                    judged.verdict.vnet
                        == VirtioHeader(
                            flags: VirtioHeader.needsChecksum, gsoType: type,
                            headerLength: inner + 20, gsoSize: 1000, checksumStart: inner,
                            checksumOffset: 16))
            }
        }
    }

    @Test("UDP segments, and types that are not the packet's", arguments: Mode.allCases)
    func protocols(mode: Mode) {
        let datagram = Encapsulated(mode).with {
            $0.inner.protocolNumber = 17
            $0.payload = udp($0.inner, to: 53, [1, 2, 3])
        }
        for type: UInt8 in [1, 4, 5, 0x81, 0x84] {
            let judged = judged(datagram) {
                $0.gsoType = type
                $0.gsoSize = 8
                $0.checksumOffset = 6
            }
            #expect(judged.outcome.isInject == (type == VirtioHeader.gsoUDP), "\(type)")
        }
        let segment = judged(Encapsulated(mode)) {
            $0.gsoType = VirtioHeader.gsoUDP
            $0.gsoSize = 8
        }
        #expect(segment.outcome == .drop(.gsoInvalid))
    }

    @Test("segments of no bytes are refused", arguments: Mode.allCases)
    func size(mode: Mode) {
        for size: UInt16 in [0, 1] {
            let judged = judged(Encapsulated(mode)) {
                $0.gsoType = mode.innerIsIPv4 ? 1 : 4
                $0.gsoSize = size
            }
            #expect(judged.outcome.isInject == (size > 0))
        }
    }

    @Test("the header length is a hint, kept within the packet", arguments: Mode.allCases)
    func headerLength(mode: Mode) {
        let packet = Encapsulated(mode)
        let inner = mode.innerIsIPv4 ? 20 : 40
        for given in [0, 14, 30, 14 + packet.outerLength + inner + 20, 1000, 65535] {
            let judged = judged(packet) {
                $0.flags = 0
                $0.gsoType = mode.innerIsIPv4 ? 1 : 4
                $0.gsoSize = 5
                $0.headerLength = UInt16(given)
            }
            let length = Int(judged.verdict.vnet.headerLength)
            #expect(judged.outcome.isInject)
            #expect(length >= inner + 8 && length <= packet.innerPacket.count, "\(given)")
            #expect(judged.verdict.vnet.flags == 0 && judged.verdict.vnet.checksumStart == 0)
        }
    }
}
