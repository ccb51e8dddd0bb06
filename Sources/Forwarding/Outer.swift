// The outer header: is it whole, what does it carry, and where does the inner packet begin?

import IP

/// What the outer header says. `failure` is the first reason in precedence among those found.
struct Outer {
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
    mutating func note(_ reason: DropReason) {
        if failure == .none || reason < failure { failure = reason }
    }
}

extension Outer {
    /// RFC 1812 §5.2.2 as net/ipv4/ip_input.c `ip_rcv_core` has it. `packet` holds 20 bytes.
    @inline(__always)
    static func parseIPv4(_ packet: Bytes) -> Outer {
        var outer = Outer()
        let header = packet.ipv4
        outer.trafficClass = header.typeOfService
        outer.ttl = header.timeToLive
        outer.protocolNumber = header.protocolNumber
        let headerLength = header.headerLength
        let totalLength = Int(header.totalLength)
        // The lengths of a header of another version are not lengths.
        if header.version == 4 && totalLength > packet.count { outer.note(.packetTooSmall) }
        if header.version != 4 || headerLength < IPv4Header.byteCount || totalLength < headerLength {
            outer.note(.invalidHeader)
        }
        if outer.failure != .none { return outer }
        if packet.headerSum(length: headerLength) != 0xffff {
            outer.note(.invalidChecksum)
            outer.isDamaged = true
        }
        if headerLength > IPv4Header.byteCount {
            let reason = IPv4Options.check(packet, headerLength: headerLength, isOuter: true)
            if reason != .none { outer.note(reason) }
        }
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
    static func parseIPv6(_ packet: Bytes) -> Outer {
        var outer = Outer()
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

extension ExtensionHeaderWalk {
    /// Whether the header that comes next may be gone behind.
    var isWithinLimits: Bool {
        count < Limits.extensionHeaders && offset &- IPv6Header.byteCount < Limits.extensionBytes
    }
}

extension ExtensionHeader {
    /// Whether an end node may skip this header of an outer packet, of which all is there.
    fileprivate static func isAcceptable(
        _ packet: Bytes, from start: Int, to end: Int, _ header: UInt8, isFirst: Bool
    ) -> Bool {
        let bytes = packet.dropFirst(start, count: end &- start)
        switch header {
        case ProtocolNumber.routing:
            // Segments left: the packet is not yet where it is going. Types 2 (RFC 6275), 3
            // (RFC 6554) and 4 (RFC 8754) are for nodes that take part in them, which we do not.
            let routing = bytes.routingHeader(at: 0)
            return routing.segmentsLeft == 0 && !(2...4 ~= routing.routingType)
        case ProtocolNumber.hopByHop:
            return isFirst && optionsAreAcceptable(bytes, isAcceptable: hopByHopIsAcceptable)
        default:
            return optionsAreAcceptable(bytes) { _, _ in true }
        }
    }

    /// Options that net/ipv6/exthdrs.c `ip6_parse_tlv` knows: router alert (RFC 2711), the label of
    /// CALIPSO (RFC 5570), which only a node of its domain can check, and IOAM (RFC 9486).
    private static func hopByHopIsAcceptable(_ option: Bytes, offset: Int) -> Bool {
        switch option.option.type {
        case 5: option.option.length == 2
        case 7: false
        case 0x31: offset & 3 == 0
        default: true
        }
    }

    /// RFC 8200 §4.2 with the bounds of net/ipv6/exthdrs.c `ip6_parse_tlv`: at most 7 bytes of
    /// padding in a row and all zero, at most 8 options, and none that we do not know whose
    /// type says that the packet must then be discarded.
    @inline(__always)
    private static func optionsAreAcceptable(
        _ bytes: Bytes, isAcceptable: (_ option: Bytes, _ offset: Int) -> Bool
    ) -> Bool {
        var offset = optionsOffset
        var padding = 0
        var options = 0
        while offset < bytes.count {
            let type = bytes.u8(offset)
            if type == 0 {
                padding &+= 1
                offset &+= 1
                if padding > 7 { return false }
                continue
            }
            guard offset &+ HeaderOption.byteCount <= bytes.count else { return false }
            let length = HeaderOption.byteCount &+ Int(bytes.dropFirst(offset).option.length)
            guard offset &+ length <= bytes.count else { return false }
            if type == 1 {
                padding &+= length
                if padding > 7 { return false }
                for index in HeaderOption.byteCount..<length where bytes.u8(offset &+ index) != 0 {
                    return false
                }
            } else {
                padding = 0
                options &+= 1
                // The encapsulation limit (4) is of interest only to entry points (RFC 2473
                // §4.1.1); like every other option of action 00 it is skipped.
                if options > Limits.extensionOptions || type >> 6 != 0 { return false }
                if !isAcceptable(bytes.dropFirst(offset, count: length), offset) { return false }
            }
            offset &+= length
        }
        return true
    }
}

enum IPv4Options {
    private static let recordRoute: UInt8 = 7
    private static let timestamp: UInt8 = 68
    private static let looseSourceRoute: UInt8 = 131
    private static let cipso: UInt8 = 134
    private static let strictSourceRoute: UInt8 = 137
    private static let routerAlert: UInt8 = 148

    /// RFC 791 §3.1. Source routes are refused (RFC 6274 §3.13.2.3 and .4), and what does not
    /// parse, as net/ipv4/ip_options.c does; all else is skipped.
    /// - Parameter isOuter: the packet ends here, and its options are not another router's.
    static func check(_ packet: Bytes, headerLength: Int, isOuter: Bool) -> DropReason {
        let options = packet.dropFirst(IPv4Header.byteCount, count: headerLength &- IPv4Header.byteCount)
        var found = DropReason.none
        var recordsRoute = false
        var recordsTime = false
        var offset = 0
        while offset < options.count {
            let type = options.u8(offset)
            if type == 0 { break }
            if type == 1 {
                offset &+= 1
                continue
            }
            guard offset &+ HeaderOption.byteCount <= options.count else { return .invalidHeader }
            let length = Int(options.dropFirst(offset).option.length)
            guard length >= HeaderOption.byteCount, offset &+ length <= options.count else {
                return .invalidHeader
            }
            let option = options.dropFirst(offset, count: length)
            var isSound = true
            switch type {
            case looseSourceRoute, strictSourceRoute:
                found = .sourceRoute
            case recordRoute:
                isSound = !recordsRoute && hasRoom(option, head: 3, entry: 4)
                recordsRoute = true
            case timestamp:
                isSound = !recordsTime && timestampIsSound(option)
                recordsTime = true
            case routerAlert:
                isSound = length >= 4
            case cipso:
                // A label of a domain that an end node must know; a router passes it on.
                isSound = !isOuter
            default: break
            }
            if !isSound { return .invalidHeader }
            offset &+= length
        }
        return found
    }

    /// A list that routers fill: `head` bytes, the third of them the place of the next entry, which
    /// is whole, or behind the end when the list is full.
    private static func hasRoom(_ option: Bytes, head: Int, entry: Int) -> Bool {
        guard option.count >= head else { return false }
        let pointer = Int(option.option.pointer)
        return pointer > head && (pointer > option.count || pointer &+ entry &- 1 <= option.count)
    }

    /// RFC 791 §3.1. Flags 1 and 3: an address with each time. Where the list is full, the upper
    /// half of the fourth byte counts the routers that found it so.
    private static func timestampIsSound(_ option: Bytes) -> Bool {
        guard option.count >= 4 else { return false }
        let flags = option.option.overflowAndFlags & 15
        guard hasRoom(option, head: 4, entry: flags == 1 || flags == 3 ? 8 : 4) else {
            return false
        }
        return Int(option.option.pointer) <= option.count || flags == 3
            || option.option.overflowAndFlags >> 4 != 15
    }
}
