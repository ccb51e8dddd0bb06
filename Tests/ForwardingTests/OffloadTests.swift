// What becomes of a virtio_net_hdr: checksums to be finished and super-packets, one header shorter.

import SlowJudge
import TestPackets
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

    @Test(
        "a checksum to be finished: offsets count from the inner packet",
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
        // Within the inner IP header, behind the transport header's first byte, at the end of
        // the fixed header.
        for wrong in [length - 1, length + 1, mode.innerIsIPv4 ? 20 : 40] {
            let bad = judged(packet) { $0.checksumStart = UInt16(14 + packet.outerLength + wrong) }
            #expect(bad.outcome == .drop(.gsoInvalid), "\(wrong)")
        }
    }

    /// A protocol, and where its checksum stands in its header; nil: it has none that may be open.
    struct Kind: Sendable, CustomStringConvertible {
        var number: UInt8
        var field: Int?
        var description: String { "protocol \(number)" }

        static func all(_ mode: Mode) -> [Kind] {
            let icmp: UInt8 = mode.innerIsIPv4 ? 1 : 58
            // Of the other family's ICMP, SCTP, DCCP, UDP-Lite, ESP and nothing none.
            return [Kind(number: 6, field: 16), Kind(number: 17, field: 6), Kind(number: icmp, field: 2)]
                + [59 - icmp, 132, 33, 136, 50, 59].map { Kind(number: $0, field: nil) }
        }

        func packet(_ mode: Mode) -> Encapsulated {
            Encapsulated(mode).with {
                if number == 17 { $0.payload = udp($0.inner, to: 80, [1, 2, 3, 4, 5, 6, 7, 8]) }
                $0.inner.protocolNumber = number
            }
        }
    }

    /// The offload fields of every call that injects, or is not refused as `gso_invalid`.
    private func accepted(
        _ packet: Encapsulated, _ world: ForwardingTables, _ fields: some Sequence<(UInt16, UInt16)>
    ) -> [VirtioHeader] {
        var accepted: [VirtioHeader] = []
        let head = UnsafeMutableRawPointer.allocate(byteCount: Limits.headBytes, alignment: 16)
        defer { head.deallocate() }
        packet.packet.withUnsafeBytes { bytes in
            var frame = Frame(
                network: bytes.baseAddress!, head: head, length: bytes.count,
                wireLength: bytes.count, linkLength: 14,
                etherType: packet.mode.outerIsIPv4 ? 0x0800 : 0x86dd, interface: 0, isForUs: true)
            var verdict = Verdict(kind: .hold)
            for (start, offset) in fields {
                frame.vnet = VirtioHeader(flags: 1, checksumStart: start, checksumOffset: offset)
                Judge.judge(&frame, into: &verdict, count: 1, tables: world.view)
                if verdict.kind != .drop || verdict.reason != .gsoInvalid {
                    accepted.append(frame.vnet)
                }
            }
        }
        return accepted
    }

    @Test(
        "of all places for a checksum to be finished one is right, by protocol",
        arguments: Mode.allCases)
    func everyPlace(mode: Mode) {
        for kind in Kind.all(mode) {
            let packet = kind.packet(mode)
            let transport = 14 + packet.outerLength + (mode.innerIsIPv4 ? 20 : 40)
            let right = kind.field.map {
                VirtioHeader(
                    flags: 1, checksumStart: UInt16(transport), checksumOffset: UInt16($0))
            }
            let end = UInt16(14 + packet.packet.count + 4)
            for start in UInt16(0)...end {
                let found = accepted(packet, world, (UInt16(0)...60).lazy.map { (start, $0) })
                #expect(
                    found == (start == UInt16(transport) ? [right].compactMap { $0 } : []),
                    "\(kind), start \(start)")
            }
            // The right place by another sum, also by one that overflows; and offsets far away.
            let field = UInt16(transport + (kind.field ?? 16))
            let starts = (0...end).map { $0 } + ((.max - end)...UInt16.max).map { $0 }
            let same = accepted(packet, world, starts.map { ($0, field &- $0) })
            #expect(same == [right].compactMap { $0 }, "\(kind)")
            let far = stride(from: UInt16(61), to: .max, by: 61).map { (UInt16(transport), $0) }
            #expect(accepted(packet, world, far) == [], "\(kind)")
        }
    }

    @Test("a sum over a port is refused, though its place is in the packet", arguments: Mode.allCases)
    func port(mode: Mode) {
        let datagram = Encapsulated(mode).with {
            $0.inner.protocolNumber = 17
            $0.payload = udp($0.inner, to: 80, [1, 2, 3, 4])
        }
        #expect(judged(datagram) { $0.checksumOffset = 6 }.outcome.isInject)
        #expect(judged(datagram) { $0.checksumOffset = 2 }.outcome == .drop(.gsoInvalid))
    }

    @Test("a header too short for its checksum, and padding behind it", arguments: Mode.allCases)
    func short(mode: Mode) {
        for kind in Kind.all(mode) {
            guard let field = kind.field else { continue }
            var packet = kind.packet(mode).with { $0.padding = [UInt8](repeating: 0, count: 40) }
            let start = UInt16(14 + packet.outerLength + (mode.innerIsIPv4 ? 20 : 40))
            for length in [field + 1, field + 2] {
                packet.payload = Array(kind.packet(mode).payload[..<length])
                let found = accepted(packet, world, [(start, UInt16(field))])
                #expect(found.isEmpty == (length < field + 2), "\(kind)")
            }
        }
    }

    @Test("a fragment's checksum is finished before it is cut", arguments: Mode.allCases)
    func fragments(mode: Mode) {
        for (offset, more) in [(0, true), (1, true), (9, false)] as [(UInt16, Bool)] {
            let packet = Encapsulated(mode).with {
                $0.payload += [UInt8](repeating: 1, count: 8)
                if mode.innerIsIPv4 {
                    $0.inner.fragment = offset | (more ? 0x2000 : 0)
                } else {
                    $0.inner.extensions = [.fragment(offset: offset, more: more)]
                }
            }
            #expect(outcome(packet, in: world).isInject)
            let start = UInt16(14 + packet.outerLength + (mode.innerIsIPv4 ? 20 : 48))
            #expect(judged(packet) { $0.checksumStart = start }.outcome == .drop(.gsoInvalid))
            let segments = judged(packet) {
                $0 = VirtioHeader(gsoType: mode.innerIsIPv4 ? 1 : 4, gsoSize: 4)
            }
            #expect(segments.outcome == .drop(.gsoInvalid))
        }
        // An atomic fragment is a whole packet (RFC 6946).
        let atomic = Encapsulated(mode).with {
            if !mode.innerIsIPv4 { $0.inner.extensions = [.fragment(offset: 0, more: false)] }
        }
        let start = UInt16(14 + atomic.outerLength + (mode.innerIsIPv4 ? 20 : 48))
        #expect(judged(atomic) { $0.checksumStart = start }.outcome.isInject)
    }

    @Test(
        "without a checksum or segments to be made nothing is handed on",
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
                $0.gsoSize = 4
                $0.headerLength = UInt16(14 + packet.outerLength) + inner + 20
            }
            let isGood = type == 0 || Self.isTCP(type, mode)
            #expect(judged.outcome == (isGood ? .inject(packet.innerPacket) : .drop(.gsoInvalid)))
            if isGood && type != 0 {
                #expect(
                    judged.verdict.vnet
                        == VirtioHeader(
                            flags: VirtioHeader.needsChecksum, gsoType: type,
                            headerLength: inner + 20, gsoSize: 4, checksumStart: inner,
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
        for type: UInt8 in [1, 4, 5, 0x81, 0x84, 0x85] {
            let judged = judged(datagram) {
                $0.gsoType = type
                $0.gsoSize = 2
                $0.checksumOffset = 6
            }
            #expect(judged.outcome.isInject == (type == VirtioHeader.gsoUDP), "\(type)")
        }
        // The kernel cuts no datagram whose checksum is finished.
        let finished = judged(datagram) {
            $0 = VirtioHeader(gsoType: VirtioHeader.gsoUDP, gsoSize: 2)
        }
        #expect(finished.outcome == .drop(.gsoInvalid))
        let segment = judged(Encapsulated(mode)) {
            $0.gsoType = VirtioHeader.gsoUDP
            $0.gsoSize = 8
        }
        #expect(segment.outcome == .drop(.gsoInvalid))
    }

    @Test("a super-packet of UDP holds at most 128 datagrams", arguments: Mode.allCases)
    func datagrams(mode: Mode) {
        for length in [1280, 1281] {
            let packet = Encapsulated(mode).with {
                $0.inner.protocolNumber = 17
                $0.payload = udp($0.inner, to: 53, [UInt8](repeating: 1, count: length))
            }
            let judged = judged(packet) {
                $0.gsoType = VirtioHeader.gsoUDP
                $0.gsoSize = 10
                $0.checksumOffset = 6
            }
            #expect(judged.outcome.isInject == (length == 1280))
        }
    }

    @Test("segments of no bytes are refused, and a single one is not cut", arguments: Mode.allCases)
    func size(mode: Mode) {
        // Of nine bytes of payload.
        for size: UInt16 in [0, 1, 8, 9, 10, 65535] {
            let judged = judged(Encapsulated(mode)) {
                $0.gsoType = mode.innerIsIPv4 ? 1 : 4
                $0.gsoSize = size
            }
            #expect(judged.outcome.isInject == (size > 0))
            guard size > 0 else { continue }
            #expect((judged.verdict.vnet.gsoType != 0) == (size < 9), "\(size)")
            #expect(judged.verdict.vnet.gsoSize == (size < 9 ? size : 0))
            #expect(judged.verdict.vnet.flags == VirtioHeader.needsChecksum)
        }
    }

    @Test("the header length that is handed on is the packet's own", arguments: Mode.allCases)
    func headerLength(mode: Mode) {
        let inner = mode.innerIsIPv4 ? 20 : 40
        for options in [[], [1, 1, 1, 1]] as [[UInt8]] {
            let packet = Encapsulated(mode).with {
                $0.carry(TCPSegment(options: options, payload: [1, 2, 3, 4, 5, 6, 7, 8, 9]))
            }
            // The kernel's is how much lay in one piece, so any may come.
            for given in [0, 14, 30, 14 + packet.outerLength + inner + 20, 1000, 65535] {
                let judged = judged(packet) {
                    $0.flags = 0
                    $0.gsoType = mode.innerIsIPv4 ? 1 : 4
                    $0.gsoSize = 5
                    $0.headerLength = UInt16(given)
                }
                #expect(judged.outcome.isInject)
                #expect(Int(judged.verdict.vnet.headerLength) == inner + 20 + options.count, "\(given)")
                #expect(judged.verdict.vnet.flags == 0 && judged.verdict.vnet.checksumStart == 0)
            }
        }
    }

    @Test("a TCP header that lies about its length is not cut", arguments: Mode.allCases)
    func dataOffset(mode: Mode) {
        for words in UInt8(0)...15 {
            let packet = Encapsulated(mode).with {
                $0.carry(TCPSegment(headerWords: words, payload: [UInt8](repeating: 1, count: 16)))
            }
            let judged = judged(packet) {
                $0.gsoType = mode.innerIsIPv4 ? 1 : 4
                $0.gsoSize = 1
            }
            // 20 bytes of header and 16 of payload.
            let isGood = (5...9).contains(words)
            #expect(judged.outcome == (isGood ? .inject(packet.innerPacket) : .drop(.gsoInvalid)))
        }
    }
}
