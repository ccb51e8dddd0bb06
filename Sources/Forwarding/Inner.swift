// The inner packet: proven whole before any field is used, and located down to its transport header.

import Routing

struct Inner {
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
    mutating func note(_ reason: DropReason) {
        if failure == .none || reason < failure { failure = reason }
    }

    /// RFC 1812 §5.2.2. `packet` is what the outer header's length leaves.
    @inline(__always)
    static func parseIPv4(_ packet: Bytes) -> Inner {
        var inner = Inner()
        guard packet.count >= 20 else {
            inner.failure = .packetTooSmall
            return inner
        }
        let first = packet.u8(0)
        inner.trafficClass = packet.u8(1)
        inner.length = Int(packet.u16(2))
        inner.ttl = packet.u8(8)
        inner.protocolNumber = packet.u8(9)
        let headerLength = Int(first & 15) << 2
        // The lengths of a header of another version are not lengths.
        if first >> 4 == 4 && inner.length > packet.count { inner.note(.packetTooSmall) }
        if first >> 4 != 4 || headerLength < 20 || inner.length < headerLength {
            inner.note(.invalidHeader)
        }
        if inner.failure != .none { return inner }
        if packet.onesComplementSum(length: headerLength) != 0xffff {
            inner.note(.invalidChecksum)
        }
        if headerLength > 20 {
            let reason = IPv4Options.check(
                packet.dropFirst(20, count: headerLength &- 20), isOuter: false)
            if reason != .none { inner.note(reason) }
        }
        let fragment = packet.u16(6)
        inner.isFragment = fragment & 0x3fff != 0
        inner.isLaterFragment = fragment & 0x1fff != 0
        inner.transportOffset = headerLength
        inner.transportLength = inner.isLaterFragment ? 0 : inner.length &- headerLength
        return inner
    }

    /// RFC 8200 §3. Jumbograms (RFC 2675) are refused.
    @inline(__always)
    static func parseIPv6(_ packet: Bytes) -> Inner {
        var inner = Inner()
        guard packet.count >= 40 else {
            inner.failure = .packetTooSmall
            return inner
        }
        let first = packet.u32(0)
        inner.trafficClass = UInt8(truncatingIfNeeded: first >> 20)
        inner.ttl = packet.u8(7)
        inner.protocolNumber = packet.u8(6)
        let payload = Int(packet.u16(4))
        inner.length = 40 &+ payload
        if first >> 28 == 6 && inner.length > packet.count { inner.note(.packetTooSmall) }
        if first >> 28 != 6 || (payload == 0 && inner.protocolNumber == ProtocolNumber.hopByHop) {
            inner.note(.invalidHeader)
        }
        if inner.failure != .none { return inner }
        inner.transportOffset = 40
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
            transportLength < 20
                ? 20 : max(20, Int(packet.u8(transportOffset &+ 12) >> 4) << 2)
        case ProtocolNumber.udp: 8
        // "The first 32 bits of the ICMPv6 message" (RFC 7112 §3).
        case ProtocolNumber.icmpv6: 4
        case ProtocolNumber.noNextHeader: 0
        default: 1
        }
    }

    private mutating func walk(_ packet: Bytes) {
        var count = 0
        while true {
            let header = protocolNumber
            let isAuthentication = header == ProtocolNumber.authentication
            guard ExtensionHeader.isWalked(header) || isAuthentication else { return }
            count &+= 1
            guard count <= Limits.extensionHeaders,
                transportOffset &- 40 < Limits.extensionBytes
            else { return note(.badExtensionHeader) }
            guard transportLength >= 8 else {
                transportLength = 0
                return
            }
            // RFC 4302 §2.2: an authentication header counts 4-byte words, minus 2.
            let step =
                isAuthentication
                ? (Int(packet.u8(transportOffset &+ 1)) &+ 2) << 2
                : ExtensionHeader.length(packet, at: transportOffset, header)
            guard step <= transportLength else {
                transportLength = 0
                return
            }
            protocolNumber = packet.u8(transportOffset)
            if header == ProtocolNumber.fragment {
                let fragment = packet.u16(transportOffset &+ 2)
                isFragment = isFragment || fragment & 0xfff9 != 0
                if fragment & 0xfff8 != 0 {
                    isLaterFragment = true
                    transportLength = 0
                    return
                }
            }
            transportOffset &+= step
            transportLength &-= step
        }
    }
}
