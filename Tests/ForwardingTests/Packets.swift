// A packet in a packet, in all four modes.

import TestPackets

@testable import Forwarding

/// A packet in a packet, as the tests' tunnel takes it.
struct Encapsulated {
    var mode: Mode
    var outer: IPHeader
    var inner: IPHeader
    /// Behind the inner header (and its extension headers).
    var payload: [UInt8]
    /// Behind the outer packet: what Ethernet fills a short frame up with.
    var padding: [UInt8] = []

    /// From an allowed remote to `local`; inside, an acknowledgement from a client to a pod.
    init(_ mode: Mode) {
        self.mode = mode
        let number: UInt8 = mode.innerIsIPv4 ? 4 : 41
        outer =
            mode.outerIsIPv4
            ? IPHeader("198.51.100.1", "192.0.2.2", protocolNumber: number, isIPv4: true)
            : IPHeader("2001:db8:5::1", "2001:db8::2", protocolNumber: number, isIPv4: false)
        inner =
            mode.innerIsIPv4
            ? IPHeader("203.0.113.7", "10.2.1.9", protocolNumber: 6, isIPv4: true)
            : IPHeader("2001:db8:c::7", "2001:db8:2::9", protocolNumber: 6, isIPv4: false)
        payload = []
        carry(TCPSegment(payload: [1, 2, 3, 4, 5, 6, 7, 8, 9]))
    }

    /// With an inner packet of a multiple of 8 bytes, as a fragment that is not the last carries.
    static func even(_ mode: Mode) -> Encapsulated {
        Encapsulated(mode).with {
            $0.carry(TCPSegment(payload: [UInt8](repeating: 1, count: $0.inner.isIPv4 ? 8 : 4)))
        }
    }

    mutating func carry(_ header: TCPSegment) {
        inner.protocolNumber = 6
        payload = header.segment(inner)
    }

    /// What the outer header carries.
    var innerPacket: [UInt8] { inner.packet(payload) }
    var packet: [UInt8] { outer.packet(innerPacket) + padding }
    /// Bytes before the inner packet.
    var outerLength: Int { packet.count - padding.count - innerPacket.count }

    /// The same, after a change.
    func with(_ change: (inout Encapsulated) -> Void) -> Encapsulated {
        var copy = self
        change(&copy)
        return copy
    }
}
