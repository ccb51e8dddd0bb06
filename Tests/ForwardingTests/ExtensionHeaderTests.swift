// Rows O9 and O10: extension headers of an outer IPv6 packet.

import TestPackets
import Testing

@testable import Forwarding

@Suite("Outer extension headers")
struct ExtensionHeaderTests {
    static let modes: [Mode] = [.ipip6, .ip6ip6]
    let world = ForwardingTests.world()

    private func outcome(_ mode: Mode, _ extensions: [Extension]) -> Outcome {
        ForwardingTests.outcome(
            Encapsulated(mode).with { $0.outer.extensions = extensions }, in: world)
    }

    private func accepted(_ mode: Mode) -> Outcome { .inject(Encapsulated(mode).innerPacket) }

    static let acceptable: [[Extension]] = [
        [.options(Extension.hopByHop, [])],
        [.options(Extension.hopByHop, [5, 2, 0, 0])],  // router alert
        [.options(Extension.destination, [])],
        [.options(Extension.destination, [4, 1, 4])],  // encapsulation limit
        [.options(Extension.destination, [4, 1, 0])],  // and a limit of zero: O10
        [.options(Extension.destination, [0, 0, 0, 0, 0, 0])],  // six times Pad1
        [.options(Extension.destination, [0, 0, 4, 1, 4, 0])],
        [.options(Extension.destination, [0x1e, 4, 1, 2, 3, 4])],  // unknown, action 00
        [.options(Extension.destination, [0x3e, 4, 1, 2, 3, 4])],  // the same, may change
        [.routing(segmentsLeft: 0)],
        [.routing(type: 1, segmentsLeft: 0)],
        [.routing(type: 5, segmentsLeft: 0)],
        [.options(Extension.hopByHop, [1, 0, 0x31, 2, 0, 0])],  // IOAM, on a multiple of 4
        [.options(Extension.destination, [5, 1, 0])],  // known of hop-by-hop headers only
        [.fragment(offset: 0, more: false)],
        [
            .options(Extension.hopByHop, []), .options(Extension.destination, []),
            .routing(segmentsLeft: 0), .fragment(offset: 0, more: false),
            .options(Extension.destination, [4, 1, 4]),
        ],
        [Extension](repeating: .options(Extension.destination, []), count: 8),
    ]

    @Test("O9 what is skipped", arguments: modes, acceptable)
    func skipped(mode: Mode, extensions: [Extension]) {
        #expect(outcome(mode, extensions) == accepted(mode))
    }

    static let unacceptable: [[Extension]] = [
        [.routing(segmentsLeft: 1)],
        [.routing(type: 4, segmentsLeft: 255)],
        // Of home addresses, RPL and segments: for nodes that take part.
        [.routing(type: 2, segmentsLeft: 0)],
        [.routing(type: 3, segmentsLeft: 0)],
        [.routing(type: 4, segmentsLeft: 0)],
        [.options(Extension.hopByHop, [5, 3, 0, 0, 0])],  // router alert of another length
        [.options(Extension.hopByHop, [7, 8] + [UInt8](repeating: 0, count: 8))],  // CALIPSO
        [.options(Extension.hopByHop, [0x31, 2, 0, 0])],  // IOAM, not on a multiple of 4
        // The options' action bits: 01, 10 and 11 say that the packet is to be discarded.
        [.options(Extension.destination, [0x41, 0])],
        [.options(Extension.destination, [0x81, 0])],
        [.options(Extension.destination, [0xc1, 0])],
        [.options(Extension.hopByHop, [0xc2, 4, 0, 1, 0, 0])],  // a jumbogram
        // Hop-by-hop options stand first or not at all (RFC 8200 §4.1).
        [.options(Extension.destination, []), .options(Extension.hopByHop, [])],
        [.options(Extension.hopByHop, []), .options(Extension.hopByHop, [])],
        // Options that reach beyond their header.
        [Extension(number: 60, bytes: [0, 0, 4, 5, 0, 0, 0, 0])],
        [Extension(number: 60, bytes: [0, 0, 1, 2, 0, 0, 1, 255])],
        [Extension(number: 60, bytes: [0, 0, 1, 3, 0, 0, 0, 1])],
        // Padding: more than seven bytes in a row, or not of zeros.
        [Extension(number: 60, bytes: [0, 1, 1, 6, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0])],
        [Extension(number: 60, bytes: [0, 1] + [UInt8](repeating: 0, count: 14))],
        [Extension(number: 60, bytes: [0, 0, 1, 4, 0, 0, 0, 9])],
        // Nine options.
        [.options(Extension.destination, (0..<9).flatMap { _ in [0x1e, 0] as [UInt8] })],
        // Nine headers.
        [Extension](repeating: .options(Extension.destination, []), count: 9),
        // Two fragment headers.
        [.fragment(offset: 0, more: false), .fragment(offset: 0, more: false)],
        [
            .fragment(offset: 0, more: false), .options(Extension.destination, []),
            .fragment(offset: 0, more: false),
        ],
        // A bad header is remembered behind a good one.
        [.routing(segmentsLeft: 1), .options(Extension.destination, [])],
    ]

    @Test("O9 what is refused", arguments: modes, unacceptable)
    func refused(mode: Mode, extensions: [Extension]) {
        #expect(outcome(mode, extensions) == .drop(.badExtensionHeader))
    }

    @Test("O10 an encapsulation limit is of interest to entry points only", arguments: modes)
    func limit(mode: Mode) {
        for limit in UInt8.min...UInt8.max {
            let option = Extension.options(Extension.destination, [4, 1, limit])
            #expect(outcome(mode, [option]) == accepted(mode), "\(limit)")
        }
    }

    @Test("O10 a limit that reaches beyond its header is refused", arguments: modes)
    func cutLimit(mode: Mode) {
        for length: UInt8 in [5, 6, 255] {
            let header = Extension(number: 60, bytes: [0, 0, 4, length, 0, 0, 0, 0])
            #expect(outcome(mode, [header]) == .drop(.badExtensionHeader), "\(length)")
        }
    }

    @Test("O9 eight options are borne", arguments: modes)
    func eightOptions(mode: Mode) {
        let options = (0..<8).flatMap { _ in [0x1e, 0] as [UInt8] }
        #expect(outcome(mode, [.options(Extension.destination, options)]) == accepted(mode))
    }

    /// A destination header of `count` bytes, all of it options that may be skipped.
    private static func destination(bytes count: Int) -> Extension {
        var options: [UInt8] = []
        var left = count - 2
        while left > 0 {
            // Never leaves one byte, which would be no option.
            let length = left <= 200 ? left : min(150, left - 2)
            options += [0x1e, UInt8(length - 2)] + [UInt8](repeating: 7, count: length - 2)
            left -= length
        }
        return .options(Extension.destination, options)
    }

    @Test("O9 at most 256 bytes of extension headers", arguments: modes)
    func byteLimit(mode: Mode) {
        for sizes in [[256], [128, 128], [248, 8], [64, 64, 64, 64]] {
            #expect(outcome(mode, sizes.map(Self.destination)) == accepted(mode), "\(sizes)")
        }
        for sizes in [[264], [512], [128, 136], [256, 8], [248, 16], [8, 1024]] {
            #expect(
                outcome(mode, sizes.map(Self.destination)) == .drop(.badExtensionHeader),
                "\(sizes)")
        }
    }

    @Test("O9 a chain that ends elsewhere is not ours, however bad", arguments: modes)
    func others(mode: Mode) {
        for extensions in Self.acceptable + Self.unacceptable where extensions.count < 9 {
            for number: UInt8 in [6, 17, 50, 51, 58, 59, 253] {
                let packet = Encapsulated(mode).with {
                    $0.outer.extensions = extensions
                    $0.outer.protocolNumber = number
                }
                #expect(ForwardingTests.outcome(packet, in: world) == .pass)
            }
        }
    }

    @Test("O9 a chain too long to walk may lead to a tunnel", arguments: modes)
    func tooLong(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.outer.extensions = Array(
                repeating: .options(Extension.destination, []), count: 9)
            $0.outer.protocolNumber = 17
        }
        #expect(ForwardingTests.outcome(packet, in: world) == .drop(.badExtensionHeader))
        // Cut short as well: the reason that stands first counts.
        #expect(
            ForwardingTests.outcome(packet, in: world, Arrival(cut: 1)) == .drop(.packetTooSmall))
        let elsewhere = packet.with { $0.outer.destination = ip("2001:db8::3") }
        #expect(ForwardingTests.outcome(elsewhere, in: world) == .pass)
        let stranger = packet.with { $0.outer.source = ip("2001:db8:6::1") }
        #expect(ForwardingTests.outcome(stranger, in: world) == .drop(.badExtensionHeader))
    }

    @Test("O9 a first fragment's chain too long to walk may lead to a tunnel", arguments: modes)
    func tooLongFragment(mode: Mode) {
        let headers = [Extension](repeating: .options(Extension.destination, []), count: 8)
        let packet = Encapsulated.even(mode).with {
            $0.outer.extensions = [.fragment(offset: 0, more: true)] + headers
        }
        #expect(ForwardingTests.outcome(packet, in: world) == .drop(.badExtensionHeader))
    }

    @Test("O9 a chain cut within a header", arguments: modes, 41...71)
    func cut(mode: Mode, length: Int) {
        let packet = Encapsulated(mode).with {
            $0.outer.extensions = [
                .options(Extension.hopByHop, []), .routing(segmentsLeft: 0),
            ]
            $0.outer.lengthField = UInt16(length - 40)
        }
        let bytes = Array(packet.packet[..<length])
        #expect(judge(bytes, etherType: 0x86dd, in: world).outcome == .drop(.packetTooSmall))
    }

    @Test("other headers lead to no tunnel: the kernel's", arguments: modes)
    func authentication(mode: Mode) {
        #expect(outcome(mode, [.authentication]) == .pass)
        #expect(outcome(mode, [.options(Extension.destination, []), .authentication]) == .pass)
    }
}
