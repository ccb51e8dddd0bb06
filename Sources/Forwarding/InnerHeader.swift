// The inner packet: proven whole before any field is used, and located down to its transport header.

import IP

struct InnerHeader {
    var failure = DropReason.none
    /// The inner packet's own length in bytes; padding behind it is not part of it.
    var length = 0
    var trafficClass: UInt8 = 0
    var ttl: UInt8 = 0
    /// Upper-layer protocol behind any extension headers.
    var protocolNumber: UInt8 = 0
    /// A fragment other than the first: it has no transport header.
    var isLaterFragment = false
    /// Whether it is a fragment at all.
    var isFragment = false
    /// Where the transport header begins; `transportLength` 0 when there is none to read.
    var transportOffset = 0
    var transportLength = 0

    @inline(__always)
    mutating func note(_ reason: DropReason) { failure = failure.first(reason) }

    /// RFC 1812 §5.2.2. `packet` is what the outer header's length leaves.
    @inline(__always)
    static func parseIPv4(_ packet: Bytes) -> InnerHeader {
        var inner = InnerHeader()
        guard packet.count >= IPv4Header.byteCount else {
            inner.failure = .packetTooSmall
            return inner
        }
        let header = packet.ipv4
        inner.trafficClass = header.typeOfService
        inner.length = Int(header.totalLength)
        inner.ttl = header.timeToLive
        inner.protocolNumber = header.protocolNumber
        let headerLength = header.headerLength
        inner.failure = IPv4Checks.lengths(packet)
        if inner.failure != .none { return inner }
        if packet.headerSum(length: headerLength) != 0xffff { inner.note(.invalidChecksum) }
        inner.note(IPv4Checks.options(packet, headerLength: headerLength, isOuter: false))
        inner.isFragment = header.isFragment
        inner.isLaterFragment = header.isLaterFragment
        inner.transportOffset = headerLength
        inner.transportLength = inner.isLaterFragment ? 0 : inner.length &- headerLength
        return inner
    }

    /// RFC 8200 §3. Jumbograms (RFC 2675) are refused.
    @inline(__always)
    static func parseIPv6(_ packet: Bytes) -> InnerHeader {
        var inner = InnerHeader()
        guard packet.count >= IPv6Header.byteCount else {
            inner.failure = .packetTooSmall
            return inner
        }
        let header = packet.ipv6
        inner.trafficClass = header.trafficClass
        inner.ttl = header.hopLimit
        inner.protocolNumber = header.nextHeader
        let payload = Int(header.payloadLength)
        inner.length = header.totalLength
        if header.version == 6 && inner.length > packet.count { inner.note(.packetTooSmall) }
        if header.version != 6 || (payload == 0 && inner.protocolNumber == ProtocolNumber.hopByHop) {
            inner.note(.invalidHeader)
        }
        if inner.failure != .none { return inner }
        inner.transportOffset = IPv6Header.byteCount
        inner.transportLength = payload
        if ExtensionHeader.isWalked(inner.protocolNumber)
            || inner.protocolNumber == ProtocolNumber.authentication
        {
            inner.walkExtensionHeaders(packet)
        }
        return inner
    }

    /// Finds the upper-layer protocol. A router does not judge these headers; what cannot be
    /// walked within the bounds could hide a nest, and is refused. So could a first fragment whose
    /// chain goes on in the next one. A whole packet whose chain breaks off leads nowhere.
    private mutating func walkExtensionHeaders(_ packet: Bytes) {
        walk(packet)
        // RFC 7112 §5. The kernel's end node asks for less (`ipv6frag_thdr_truncated`).
        if isFragment && !isLaterFragment && transportLength < upperHeaderLength(packet) {
            note(.badExtensionHeader)
        }
    }

    /// Bytes that the upper-layer header has at least; that of TCP says it itself.
    private func upperHeaderLength(_ packet: Bytes) -> Int {
        switch protocolNumber {
        case ProtocolNumber.tcp:
            transportLength < TCPHeader.byteCount
                ? TCPHeader.byteCount
                : max(TCPHeader.byteCount, packet.tcp(at: transportOffset).dataOffset)
        case ProtocolNumber.udp: UDPHeader.byteCount
        // "The first 32 bits of the ICMPv6 message" (RFC 7112 §3).
        case ProtocolNumber.icmpv6: 4
        case ProtocolNumber.noNextHeader: 0
        default: 1
        }
    }

    private mutating func walk(_ packet: Bytes) {
        let end = transportOffset &+ transportLength
        var walk = ExtensionHeaderWalk(packet)
        while ExtensionHeader.isWalked(walk.number) || walk.number == ProtocolNumber.authentication {
            guard walk.isWithinLimits else { return note(.badExtensionHeader) }
            guard let header = walk.next(in: packet, end: end), walk.offset <= end else {
                transportLength = 0
                return
            }
            protocolNumber = walk.number
            if header.number == ProtocolNumber.fragment {
                let fragment = packet.fragmentHeader(at: header.offset)
                isFragment = isFragment || !fragment.isAtomic
                if fragment.fragmentOffset != 0 {
                    isLaterFragment = true
                    transportLength = 0
                    return
                }
            }
            transportOffset = walk.offset
            transportLength = end &- walk.offset
        }
    }
}
