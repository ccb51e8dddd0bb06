// The outer header: is it whole, what does it carry, and where does the inner packet begin?

import IP

/// What the outer header says. `failure` is the first reason in precedence among those found.
struct OuterHeader {
    var failure = DropReason.none
    /// Whether the inner packet can be looked at: the header's structure holds.
    var isReadable = false
    var isFragment = false
    /// A fragment other than the first.
    var isLaterFragment = false
    var moreFragments = false
    /// Has no payload: refused, once it is known what else it is.
    var isEmptyFragment = false
    /// Cut short, or its checksum is wrong: what it says of itself may not be so.
    var isDamaged = false
    /// Of its payload in the datagram's, in bytes.
    var fragmentOffset = 0
    var identification: UInt32 = 0
    /// Where the fragment's payload begins: behind the IPv4 header or the fragment header.
    var fragmentPayload = 0
    /// IPv6: where the fragment header's number stands.
    var fragmentNamedAt = IPv6Header.Offset.nextHeader
    /// The walk gave up before an upper-layer header: the chain may lead to a tunnel.
    var isUnfinished = false
    var protocolNumber: UInt8 = 0
    var trafficClass: UInt8 = 0
    var ttl: UInt8 = 0
    /// Where the inner packet begins, and the bytes that the outer length gives it.
    var innerOffset = 0
    var innerLength = 0

    @inline(__always)
    mutating func note(_ reason: DropReason) { failure = failure.first(reason) }
}

extension OuterHeader {
    /// RFC 1812 §5.2.2 as net/ipv4/ip_input.c `ip_rcv_core` has it. `packet` holds 20 bytes.
    @inline(__always)
    static func parseIPv4(_ packet: Bytes) -> OuterHeader {
        var outer = OuterHeader()
        let header = packet.ipv4
        outer.trafficClass = header.typeOfService
        outer.ttl = header.timeToLive
        outer.protocolNumber = header.protocolNumber
        let headerLength = header.headerLength
        let totalLength = Int(header.totalLength)
        outer.failure = IPv4Checks.lengths(packet)
        if outer.failure != .none { return outer }
        if packet.headerSum(length: headerLength) != 0xffff {
            outer.note(.invalidChecksum)
            outer.isDamaged = true
        }
        outer.note(IPv4Checks.options(packet, headerLength: headerLength, isOuter: true))
        outer.innerOffset = headerLength
        outer.innerLength = totalLength &- headerLength
        if header.isFragment {
            outer.identification = UInt32(header.identification)
            outer.fragmentPayload = headerLength
            outer.noteFragment(
                offset: header.fragmentOffset,
                moreFragments: header.fragment & IPv4Header.moreFragments != 0, end: totalLength,
                header: headerLength)
        }
        outer.isReadable = true
        return outer
    }

    /// RFC 791 §3.2, RFC 8200 §4.5: all but the last carry a multiple of 8 bytes, none is empty,
    /// and none reaches beyond what a length field can say (the ping of death).
    private mutating func noteFragment(
        offset: Int, moreFragments more: Bool, end: Int, header: Int
    ) {
        isFragment = true
        isLaterFragment = offset != 0
        moreFragments = more
        fragmentOffset = offset
        let length = end &- fragmentPayload
        isEmptyFragment = length <= 0
        if isEmptyFragment { return }
        if (more && length & 7 != 0) || header &+ offset &+ length > 65_535 {
            note(.invalidHeader)
        }
    }

    /// RFC 8200 §4 as net/ipv6/ip6_input.c and exthdrs.c have it. `packet` holds 40 bytes.
    @inline(__always)
    static func parseIPv6(_ packet: Bytes) -> OuterHeader {
        var outer = OuterHeader()
        let header = packet.ipv6
        outer.trafficClass = header.trafficClass
        outer.ttl = header.hopLimit
        outer.protocolNumber = header.nextHeader
        let totalLength = header.totalLength
        if header.version != 6 {
            outer.note(.invalidHeader)
            outer.isDamaged = true
        } else if totalLength > packet.count {
            outer.note(.packetTooSmall)
            outer.isDamaged = true
        }
        outer.innerOffset = IPv6Header.byteCount
        outer.innerLength = max(min(totalLength, packet.count) &- IPv6Header.byteCount, 0)
        if !ProtocolNumber.isTunnel(outer.protocolNumber) {
            outer.walkExtensionHeaders(packet)
        }
        outer.isReadable =
            !outer.isUnfinished
            && (outer.failure > .invalidHeader || outer.failure == .none)
        return outer
    }

    /// RFC 2473 §3.3: extension headers are processed in order, then the tunnel's protocol.
    /// Goes on behind a bad header, for only the last one tells whether the frame is ours.
    private mutating func walkExtensionHeaders(_ packet: Bytes) {
        let end = innerOffset &+ innerLength
        var walk = ExtensionHeaderWalk(packet)
        var hasFragmentHeader = false
        while ExtensionHeader.isWalked(walk.number) {
            guard walk.isWithinLimits else { return giveUp(.badExtensionHeader) }
            let namedAt = walk.namedAt
            guard let header = walk.next(in: packet, end: end), walk.offset <= end else {
                // RFC 7112: a first fragment holds the whole chain.
                return giveUp(isFragment ? .badExtensionHeader : .packetTooSmall)
            }
            if walk.offset &- IPv6Header.byteCount > Limits.extensionBytes { note(.badExtensionHeader) }
            protocolNumber = walk.number
            if header.number == ProtocolNumber.fragment {
                // One at most, atomic or not (net/ipv6/reassembly.c `ipv6_frag_rcv`).
                if hasFragmentHeader { note(.badExtensionHeader) }
                hasFragmentHeader = true
                let fragment = packet.fragmentHeader(at: header.offset)
                if !fragment.isAtomic {
                    identification = fragment.identification
                    fragmentPayload = walk.offset
                    fragmentNamedAt = namedAt
                    noteFragment(
                        offset: fragment.fragmentOffset, moreFragments: fragment.moreFragments,
                        end: end, header: 0)
                    // Behind a later fragment's header lies no header that could be walked.
                    if isLaterFragment { return }
                }
            } else if !ExtensionHeader.isAcceptable(
                packet, from: header.offset, to: walk.offset, header.number, isFirst: walk.count == 1)
            {
                note(.badExtensionHeader)
            }
            innerOffset = walk.offset
            innerLength = end &- innerOffset
        }
    }

    private mutating func giveUp(_ reason: DropReason) {
        isUnfinished = true
        note(reason)
    }
}
