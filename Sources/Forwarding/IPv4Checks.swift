// Whether an IPv4 header, outer or inner, is sound.

import IP

enum IPv4Checks {
    private static let recordRoute: UInt8 = 7
    private static let timestamp: UInt8 = 68
    private static let looseSourceRoute: UInt8 = 131
    private static let cipso: UInt8 = 134
    private static let strictSourceRoute: UInt8 = 137
    private static let routerAlert: UInt8 = 148

    /// RFC 1812 §5.2.2 as net/ipv4/ip_input.c `ip_rcv_core` has it.
    /// - Parameter packet: at least 20 bytes.
    @inline(__always)
    static func lengths(_ packet: Bytes) -> DropReason {
        let header = packet.ipv4
        let total = Int(header.totalLength)
        // The lengths of a header of another version are not lengths.
        if header.version == 4 && total > packet.count { return .packetTooSmall }
        return header.version != 4 || header.headerLength < IPv4Header.byteCount
            || total < header.headerLength ? .invalidHeader : .none
    }

    /// RFC 791 §3.1. Source routes are refused (RFC 6274 §3.13.2.3 and .4), and what does not
    /// parse, as net/ipv4/ip_options.c does; all else is skipped.
    /// - Parameter isOuter: the packet ends here, and its options are not another router's.
    @inline(__always)
    static func options(_ packet: Bytes, headerLength: Int, isOuter: Bool) -> DropReason {
        headerLength == IPv4Header.byteCount
            ? .none : walk(packet, headerLength: headerLength, isOuter: isOuter)
    }

    private static func walk(_ packet: Bytes, headerLength: Int, isOuter: Bool) -> DropReason {
        var found = DropReason.none
        var recordsRoute = false
        var recordsTime = false
        let isSound = packet.walkOptions(from: IPv4Header.byteCount, to: headerLength) {
            type, offset, length in
            let option = packet.dropFirst(offset, count: length)
            switch type {
            case looseSourceRoute, strictSourceRoute: found = .sourceRoute
            case recordRoute:
                if recordsRoute || !hasRoom(option, head: 3, entry: 4) { return false }
                recordsRoute = true
            case timestamp:
                if recordsTime || !timestampIsSound(option) { return false }
                recordsTime = true
            case routerAlert: return length >= 4
            // A label of a domain that an end node must know; a router passes it on.
            case cipso: return !isOuter
            default: break
            }
            return true
        }
        return isSound ? found : .invalidHeader
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
