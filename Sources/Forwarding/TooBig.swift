// A packet that its device cannot take: is its sender told?
// Only for devices in pods' namespaces; in the host's the kernel routes, refuses and answers itself.

import IP

enum TooBig {
    /// Bytes of the packet, or of the largest segment that the device would make of it.
    @inline(__always)
    static func size(_ packet: Bytes, _ inner: InnerHeader, _ frame: UnsafePointer<Frame>) -> Int {
        let vnet = frame.pointee.vnet
        guard vnet.gsoType != VirtioHeader.gsoNone else { return inner.length }
        var headers = inner.transportOffset &+ UDPHeader.byteCount
        if inner.protocolNumber == ProtocolNumber.tcp, inner.transportLength >= TCPHeader.byteCount {
            headers = inner.transportOffset &+ packet.tcp(at: inner.transportOffset).dataOffset
        }
        return min(headers &+ Int(vnet.gsoSize), inner.length)
    }

    /// Whether the sender may be told (RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)): never about an
    /// error, a later fragment, or from and to what is no single host's address.
    /// Nor about what is shorter than the shortest answer, nor with an MTU below IPv6's 1280,
    /// which its receiver must ignore (RFC 8201 §4).
    static func isAnswered(
        _ packet: Bytes, _ inner: InnerHeader, _ mode: Mode, _ frame: UnsafePointer<Frame>,
        _ policy: PolicyView, mtu: Int
    ) -> Bool {
        let own =
            mode.innerIsIPv4
            ? IPv4Header.byteCount &+ packet.ipv4.headerLength : 2 &* IPv6Header.byteCount
        if inner.isLaterFragment || frame.pointee.length < own &+ 16 { return false }
        let (source, destination): (UInt32, UInt32)
        if mode.innerIsIPv4 {
            // Without don't-fragment the packet should have been cut; shuck does not.
            guard packet.ipv4.fragment & IPv4Header.dontFragment != 0, !isErrorIPv4(packet, inner)
            else { return false }
            source = policy.addresses.lookup(ipv4: packet.ipv4.source)
            destination = policy.addresses.lookup(ipv4: packet.ipv4.destination)
        } else {
            guard mtu >= 1280, !isErrorIPv6(packet, inner) else { return false }
            source = policy.addresses.lookup(ipv6: packet.ipv6.source)
            destination = policy.addresses.lookup(ipv6: packet.ipv6.destination)
        }
        return source & AddressClass.noHost == 0 && destination & AddressClass.group == 0
    }

    private static func isErrorIPv4(_ packet: Bytes, _ inner: InnerHeader) -> Bool {
        guard inner.protocolNumber == ProtocolNumber.icmp else { return false }
        guard inner.transportLength > 0 else { return true }
        // As net/ipv4/icmp.c `icmp_pointers`: what is not known to be a query is an error.
        switch packet.icmp(at: inner.transportOffset).type {
        // Echo, router discovery, timestamp, information and address mask, with their replies.
        case 0, 8, 9, 10, 13...18: return false
        default: return true
        }
    }

    private static func isErrorIPv6(_ packet: Bytes, _ inner: InnerHeader) -> Bool {
        guard inner.protocolNumber == ProtocolNumber.icmpv6 else { return false }
        guard inner.transportLength > 0 else { return true }
        let type = packet.icmp(at: inner.transportOffset).type
        // Redirect (137) is named beside the errors.
        return type < 128 || type == 137
    }
}
