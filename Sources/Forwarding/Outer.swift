// The outer header: is it whole, what does it carry, and where does the inner packet begin?

import Routing

/// IANA protocol numbers that the walk knows.
enum ProtocolNumber {
    static let hopByHop: UInt8 = 0
    static let icmp: UInt8 = 1
    static let ipv4: UInt8 = 4
    static let tcp: UInt8 = 6
    static let udp: UInt8 = 17
    static let ipv6: UInt8 = 41
    static let routing: UInt8 = 43
    static let fragment: UInt8 = 44
    static let gre: UInt8 = 47
    static let authentication: UInt8 = 51
    static let icmpv6: UInt8 = 58
    static let noNextHeader: UInt8 = 59
    static let destinationOptions: UInt8 = 60
    static let dccp: UInt8 = 33
    static let sctp: UInt8 = 132
    static let udplite: UInt8 = 136
    static let mplsInIP: UInt8 = 137

    @inline(__always)
    static func isTunnel(_ number: UInt8) -> Bool { number == ipv4 || number == ipv6 }

    /// Whether the kernel takes the first four bytes for ports (include/linux/ip.h
    /// `proto_ports_offset`): of ESP it is the SPI.
    @inline(__always)
    static func startsWithPorts(_ number: UInt8) -> Bool {
        number == 50 || hasPorts(number)
    }

    @inline(__always)
    static func hasPorts(_ number: UInt8) -> Bool {
        number == tcp || number == udp || number == sctp || number == dccp || number == udplite
    }
}

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
    var fragmentNamedAt = 6
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
        let first = packet.u8(0)
        outer.trafficClass = packet.u8(1)
        outer.ttl = packet.u8(8)
        outer.protocolNumber = packet.u8(9)
        let headerLength = Int(first & 15) << 2
        let totalLength = Int(packet.u16(2))
        // The lengths of a header of another version are not lengths.
        if first >> 4 == 4 && totalLength > packet.count { outer.note(.packetTooSmall) }
        if first >> 4 != 4 || headerLength < 20 || totalLength < headerLength {
            outer.note(.invalidHeader)
        }
        if outer.failure != .none { return outer }
        if packet.onesComplementSum(length: headerLength) != 0xffff {
            outer.note(.invalidChecksum)
            outer.isDamaged = true
        }
        if headerLength > 20 {
            let reason = IPv4Options.check(
                packet.dropFirst(20, count: headerLength &- 20), isOuter: true)
            if reason != .none { outer.note(reason) }
        }
        outer.innerOffset = headerLength
        outer.innerLength = totalLength &- headerLength
        // More-fragments or an offset: bits 13 and 12…0.
        let field = packet.u16(6)
        if field & 0x3fff != 0 {
            outer.identification = UInt32(packet.u16(4))
            outer.fragmentPayload = headerLength
            outer.noteFragment(
                offset: Int(field & 0x1fff) << 3, moreFragments: field & 0x2000 != 0,
                end: totalLength, header: headerLength)
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
        let first = packet.u32(0)
        outer.trafficClass = UInt8(truncatingIfNeeded: first >> 20)
        outer.ttl = packet.u8(7)
        outer.protocolNumber = packet.u8(6)
        let totalLength = 40 &+ Int(packet.u16(4))
        if first >> 28 != 6 {
            outer.note(.invalidHeader)
            outer.isDamaged = true
        } else if totalLength > packet.count {
            outer.note(.packetTooSmall)
            outer.isDamaged = true
        }
        outer.innerOffset = 40
        outer.innerLength = max(min(totalLength, packet.count) &- 40, 0)
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
        var namedAt = 6
        var hasFragmentHeader = false
        var count = 0
        while true {
            let header = protocolNumber
            guard ExtensionHeader.isWalked(header) else { return }
            count &+= 1
            guard count <= Limits.extensionHeaders, innerOffset &- 40 < Limits.extensionBytes
            else { return giveUp(.badExtensionHeader) }
            // RFC 7112: a first fragment holds the whole chain.
            let short = isFragment ? DropReason.badExtensionHeader : .packetTooSmall
            guard innerLength >= 8 else { return giveUp(short) }
            let length = ExtensionHeader.length(packet, at: innerOffset, header)
            guard length <= innerLength else { return giveUp(short) }
            if innerOffset &- 40 &+ length > Limits.extensionBytes { note(.badExtensionHeader) }
            let bytes = packet.dropFirst(innerOffset, count: length)
            if header == ProtocolNumber.fragment {
                // One at most, atomic or not (net/ipv6/reassembly.c `ipv6_frag_rcv`).
                if hasFragmentHeader { note(.badExtensionHeader) }
                hasFragmentHeader = true
                // RFC 6946: an atomic fragment is a whole packet.
                if bytes.u16(2) & 0xfff9 != 0 {
                    protocolNumber = bytes.u8(0)
                    identification = bytes.u32(4)
                    fragmentPayload = innerOffset &+ 8
                    fragmentNamedAt = namedAt
                    let field = bytes.u16(2)
                    noteFragment(
                        offset: Int(field & 0xfff8), moreFragments: field & 1 != 0, end: end,
                        header: 0)
                    // Behind a later fragment's header lies no header that could be walked.
                    if isLaterFragment { return }
                }
            } else if !ExtensionHeader.isAcceptable(bytes, header, isFirst: count == 1) {
                note(.badExtensionHeader)
            }
            protocolNumber = bytes.u8(0)
            namedAt = innerOffset
            innerOffset &+= length
            innerLength = end &- innerOffset
        }
    }

    private mutating func giveUp(_ reason: DropReason) {
        isUnfinished = true
        note(reason)
    }
}

enum ExtensionHeader {
    @inline(__always)
    static func isWalked(_ number: UInt8) -> Bool {
        number == ProtocolNumber.hopByHop || number == ProtocolNumber.routing
            || number == ProtocolNumber.fragment || number == ProtocolNumber.destinationOptions
    }

    @inline(__always)
    static func length(_ packet: Bytes, at offset: Int, _ header: UInt8) -> Int {
        header == ProtocolNumber.fragment ? 8 : (Int(packet.u8(offset &+ 1)) &+ 1) << 3
    }

    /// Whether an end node may skip this header of an outer packet. `bytes` is all of it.
    static func isAcceptable(_ bytes: Bytes, _ header: UInt8, isFirst: Bool) -> Bool {
        switch header {
        case ProtocolNumber.routing:
            // Segments left: the packet is not yet where it is going. Types 2 (RFC 6275), 3
            // (RFC 6554) and 4 (RFC 8754) are for nodes that take part in them, which we do not.
            return bytes.u8(3) == 0 && !(2...4 ~= bytes.u8(2))
        case ProtocolNumber.hopByHop:
            return isFirst && optionsAreAcceptable(bytes, isAcceptable: hopByHopIsAcceptable)
        default:
            return optionsAreAcceptable(bytes) { _, _ in true }
        }
    }

    /// Options that net/ipv6/exthdrs.c `ip6_parse_tlv` knows: router alert (RFC 2711), the label of
    /// CALIPSO (RFC 5570), which only a node of its domain can check, and IOAM (RFC 9486).
    private static func hopByHopIsAcceptable(_ option: Bytes, offset: Int) -> Bool {
        switch option.u8(0) {
        case 5: option.u8(1) == 2
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
        var offset = 2
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
            guard offset &+ 2 <= bytes.count else { return false }
            let length = 2 &+ Int(bytes.u8(offset &+ 1))
            guard offset &+ length <= bytes.count else { return false }
            if type == 1 {
                padding &+= length
                if padding > 7 { return false }
                for index in 2..<length where bytes.u8(offset &+ index) != 0 { return false }
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
    static func check(_ options: Bytes, isOuter: Bool) -> DropReason {
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
            guard offset &+ 2 <= options.count else { return .invalidHeader }
            let length = Int(options.u8(offset &+ 1))
            guard length >= 2, offset &+ length <= options.count else { return .invalidHeader }
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
        let pointer = Int(option.u8(2))
        return pointer > head && (pointer > option.count || pointer &+ entry &- 1 <= option.count)
    }

    /// RFC 791 §3.1. Flags 1 and 3: an address with each time. Where the list is full, the upper
    /// half of the fourth byte counts the routers that found it so.
    private static func timestampIsSound(_ option: Bytes) -> Bool {
        guard option.count >= 4 else { return false }
        let flags = option.u8(3) & 15
        guard hasRoom(option, head: 4, entry: flags == 1 || flags == 3 ? 8 : 4) else {
            return false
        }
        return Int(option.u8(2)) <= option.count || flags == 3 || option.u8(3) >> 4 != 15
    }
}
