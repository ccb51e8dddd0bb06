// Which IPv6 extension headers are gone behind.

import IP

extension ExtensionHeaderWalk {
    /// Whether the header that comes next may be gone behind.
    var isWithinLimits: Bool {
        count < Limits.extensionHeaders && offset &- IPv6Header.byteCount < Limits.extensionBytes
    }
}

extension ExtensionHeader {
    /// Whether an end node may skip this header of an outer packet, of which all is there.
    static func isAcceptable(
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
