// The flow of a packet, by a hash.

import IP

/// Which packets belong together: a hash of addresses and ports, kept in `Verdict.flow`.
enum Flow {
    /// Not looked at yet.
    static let unknown: UInt32 = 0
    /// May belong to any flow: a fragment, or headers that hide the ports.
    static let any: UInt32 = 1
    /// Of a protocol that is not joined.
    static let none: UInt32 = 2

    /// `packet` has addresses and ports at their usual places.
    @inline(__always)
    static func ofIPv4(_ packet: Bytes) -> UInt32 {
        finish(packet.ipv4.rawAddresses &+ ports(packet, IPv4Header.byteCount))
    }

    @inline(__always)
    static func ofIPv6(_ packet: Bytes) -> UInt32 {
        // The lower halves; the upper ones are prefixes, mostly the same for many.
        finish(
            packet.ipv6.rawSourceLow &+ packet.ipv6.rawDestinationLow
                &+ ports(packet, IPv6Header.byteCount))
    }

    @inline(__always)
    private static func ports(_ packet: Bytes, _ offset: Int) -> UInt64 {
        UInt64(packet.ports(at: offset).raw) &<< 32
    }

    /// The upper half of a product depends on all bits; never one of the words above.
    @inline(__always)
    private static func finish(_ sum: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: (sum &* 0xff51_afd7_ed55_8ccd) &>> 32) | 4
    }

    /// Of a packet that took the long way to its verdict.
    @inline(never)
    static func of(_ frame: UnsafePointer<Frame>, _ verdict: UnsafePointer<Verdict>) -> UInt32 {
        let packet = Bytes(
            frame.pointee.network + Int(verdict.pointee.offset),
            count: Int(verdict.pointee.length))
        if verdict.pointee.mode.innerIsIPv4 {
            let number = packet.ipv4.protocolNumber
            guard number == ProtocolNumber.tcp || number == ProtocolNumber.udp else { return none }
            return packet.ipv4.isPlain && packet.count >= 28 ? ofIPv4(packet) : any
        }
        let number = packet.ipv6.nextHeader
        if number == ProtocolNumber.tcp || number == ProtocolNumber.udp {
            return packet.count >= 48 ? ofIPv6(packet) : any
        }
        return ExtensionHeader.isWalked(number) || number == ProtocolNumber.authentication
            ? any : none
    }
}

extension Verdict {
    /// Whether both packets may be of one flow, once a coalescer has looked at them.
    func mayShareFlow(with other: UnsafePointer<Verdict>) -> Bool {
        flow == other.pointee.flow || flow == Flow.any
    }
}
