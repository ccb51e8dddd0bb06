// What a received virtio_net_hdr says of the inner packet. A virtual machine or container on the link
// writes it, so it is believed only where it is right.

import IP

enum Offload {
    /// Datagrams of a super-packet at most (include/linux/udp.h `UDP_MAX_SEGMENTS`).
    private static let udpSegments = 128

    /// Takes the stripped bytes off a `virtio_net_hdr`, so that the kernel finishes the inner
    /// packet's checksum and segments as it would have the outer's.
    /// - Parameter packet: the inner packet.
    /// - Parameter strip: bytes between where the received header counts from and the inner packet.
    @inline(__always)
    static func rebase(
        _ header: inout VirtioHeader, _ frame: UnsafePointer<Frame>, _ packet: Bytes, strip: Int,
        _ inner: InnerHeader, _ mode: Mode
    ) -> DropReason {
        let received = frame.pointee.vnet
        if received.flags & VirtioHeader.needsChecksum == 0
            && received.gsoType == VirtioHeader.gsoNone
        {
            return .none
        }
        return check(&header, received, packet, strip: strip, inner, mode) ? .none : .gsoInvalid
    }

    private static func check(
        _ header: inout VirtioHeader, _ received: VirtioHeader, _ packet: Bytes, strip: Int,
        _ inner: InnerHeader, _ mode: Mode
    ) -> Bool {
        // Checksums are finished before a packet is fragmented (net/ipv4/ip_output.c `ip_do_fragment`):
        // the sum over a fragment is not the datagram's.
        if inner.isFragment { return false }
        let isUnfinished = received.flags & VirtioHeader.needsChecksum != 0
        if isUnfinished {
            // Anywhere else the kernel would write the sum over bytes that were judged: a port, say.
            guard let offset = checksumOffset(inner.protocolNumber, mode),
                inner.transportLength >= offset &+ 2,
                Int(received.checksumStart) == strip &+ inner.transportOffset,
                Int(received.checksumOffset) == offset
            else { return false }
            header.flags = VirtioHeader.needsChecksum
            header.checksumStart = UInt16(truncatingIfNeeded: inner.transportOffset)
            header.checksumOffset = received.checksumOffset
        }
        guard received.gsoType != VirtioHeader.gsoNone else { return true }
        let size = Int(received.gsoSize)
        guard let headers = transportHeader(received.gsoType, packet, inner, mode), size > 0 else {
            return false
        }
        let payload = inner.transportLength &- headers
        // include/linux/virtio_net.h `__virtio_net_hdr_to_skb` asks the same of datagrams.
        if received.gsoType == VirtioHeader.gsoUDP {
            guard isUnfinished, payload <= size &* udpSegments else { return false }
        }
        // A single segment needs no cutting. That way no size reaches the kernel's own mark
        // `GSO_BY_FRAGS`, 65535.
        if payload <= size { return true }
        header.gsoType = received.gsoType
        header.gsoSize = received.gsoSize
        // The received one is only how much lay in one piece (`virtio_net_hdr_from_skb`).
        header.headerLength = UInt16(truncatingIfNeeded: inner.transportOffset &+ headers)
        return true
    }

    /// Where a checksum that is the Internet's (RFC 1071) stands in the transport header. SCTP's is
    /// none, and UDP-Lite's does not cover all.
    private static func checksumOffset(_ protocolNumber: UInt8, _ mode: Mode) -> Int? {
        switch protocolNumber {
        case ProtocolNumber.tcp: TCPHeader.Offset.checksum
        case ProtocolNumber.udp: UDPHeader.Offset.checksum
        case ProtocolNumber.icmp where mode.innerIsIPv4: ICMPHeader.Offset.checksum
        case ProtocolNumber.icmpv6 where !mode.innerIsIPv4: ICMPHeader.Offset.checksum
        default: nil
        }
    }

    /// Bytes of the transport header that each segment gets; nil when the packet is not of the type,
    /// or the header is not whole.
    private static func transportHeader(
        _ type: UInt8, _ packet: Bytes, _ inner: InnerHeader, _ mode: Mode
    ) -> Int? {
        if type == VirtioHeader.gsoUDP {
            return inner.protocolNumber == ProtocolNumber.udp
                && inner.transportLength >= UDPHeader.byteCount ? UDPHeader.byteCount : nil
        }
        let family = mode.innerIsIPv4 ? VirtioHeader.gsoTCPv4 : VirtioHeader.gsoTCPv6
        guard type & ~VirtioHeader.gsoECN == family, inner.protocolNumber == ProtocolNumber.tcp,
            inner.transportLength >= TCPHeader.byteCount
        else { return nil }
        let length = packet.tcp(at: inner.transportOffset).dataOffset
        return length >= TCPHeader.byteCount && length <= inner.transportLength ? length : nil
    }
}
