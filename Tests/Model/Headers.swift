// The headers of a packet in a packet, read the slow way: every reason that each one gives.

import Forwarding

/// IANA's numbers.
enum Upper {
    static let icmp: UInt8 = 1
    static let tcp: UInt8 = 6
    static let icmpv6: UInt8 = 58
    static let hopByHop: UInt8 = 0
    static let routing: UInt8 = 43
    static let fragment: UInt8 = 44
    static let authentication: UInt8 = 51
    static let destination: UInt8 = 60
    /// I12: IPv4, IPv6, GRE, MPLS in IP.
    static let nested: [UInt8] = [4, 41, 47, 137]
    /// TCP, UDP, DCCP, SCTP, UDP-Lite.
    static let withPorts: [UInt8] = [6, 17, 33, 132, 136]

    static func isTunnel(_ number: UInt8) -> Bool { number == 4 || number == 41 }
    static func isExtension(_ number: UInt8) -> Bool {
        number == hopByHop || number == routing || number == fragment || number == destination
    }
}

struct OuterFragment {
    /// RFC 791 §3.2: source, destination, identification, protocol; RFC 8200 §4.5: no protocol.
    var key: [UInt8]
    var offset: Int
    var hasMore: Bool
    var payload: [UInt8]
    /// Of the packet that it is a part of, when it is the first.
    var header: [UInt8]
    var ecn: UInt8
    /// Cut short, or its checksum is wrong: nothing that it says counts.
    var isDamaged = false
    /// A tunnel takes its outer header.
    var isMatched = false

    var end: Int { offset + payload.count }
}

struct OuterHeader {
    var reasons: [DropReason] = []
    /// The inner packet can be found.
    var isWhole = false
    /// The chain of extension headers broke off before the tunnel's protocol.
    var isUnfinished = false
    /// Of a longer packet; an atomic one is a whole packet (RFC 6946).
    var fragment: OuterFragment?
    var protocolNumber: UInt8 = 0
    var trafficClass: UInt8 = 0
    var ttl: UInt8 = 0
    /// Where the inner packet lies.
    var payload = 0..<0

    /// O1, O2, O7. At least 20 bytes.
    static func ipv4(_ bytes: [UInt8]) -> OuterHeader {
        var outer = OuterHeader()
        outer.protocolNumber = bytes[9]
        outer.trafficClass = bytes[1]
        outer.ttl = bytes[8]
        let isVersion4 = bytes[0] >> 4 == 4
        let headerLength = Int(bytes[0] & 15) * 4
        let totalLength = word(bytes, 2)
        if isVersion4 && totalLength > bytes.count { outer.reasons.append(.packetTooSmall) }
        if !isVersion4 || headerLength < 20 || totalLength < headerLength {
            outer.reasons.append(.invalidHeader)
        }
        guard outer.reasons.isEmpty else { return outer }
        outer.reasons += reasonsOfHeader4(bytes, headerLength, isOuter: true)
        let field = word(bytes, 6)
        if field & 0x3fff != 0 {
            outer.take(
                OuterFragment(
                    key: Array(bytes[12..<20] + bytes[4..<6] + [bytes[9]]),
                    offset: field % 0x2000 * 8, hasMore: field & 0x2000 != 0,
                    payload: Array(bytes[headerLength..<totalLength]),
                    header: Array(bytes[..<headerLength]), ecn: bytes[1] & 3),
                counted: headerLength)
        }
        outer.fragment?.isDamaged = outer.reasons.contains(.invalidChecksum)
        outer.payload = headerLength..<totalLength
        outer.isWhole = true
        return outer
    }

    /// O2, O9. At least 40 bytes.
    static func ipv6(_ bytes: [UInt8]) -> OuterHeader {
        var outer = OuterHeader()
        outer.trafficClass = bytes[0] << 4 | bytes[1] >> 4
        outer.ttl = bytes[7]
        let isVersion6 = bytes[0] >> 4 == 6
        let end = 40 + word(bytes, 4)
        if !isVersion6 { outer.reasons.append(.invalidHeader) }
        if isVersion6 && end > bytes.count { outer.reasons.append(.packetTooSmall) }
        outer.walk(bytes, end: min(end, bytes.count))
        outer.fragment?.isDamaged = !isVersion6 || end > bytes.count
        outer.isWhole = !outer.isUnfinished && isVersion6 && end <= bytes.count
        return outer
    }

    /// At most 8 headers and 256 bytes, in order.
    private mutating func walk(_ bytes: [UInt8], end: Int) {
        var next = bytes[6]
        var namedAt = 6
        var offset = 40
        var count = 0
        var hasFragmentHeader = false
        while Upper.isExtension(next) {
            count += 1
            if count > 8 || offset - 40 >= 256 { return breakOff(next, .badExtensionHeader) }
            // RFC 7112: a first fragment holds the whole chain.
            let short: DropReason = fragment == nil ? .packetTooSmall : .badExtensionHeader
            if end - offset < 8 { return breakOff(next, short) }
            let length = next == Upper.fragment ? 8 : (Int(bytes[offset + 1]) + 1) * 8
            if end - offset < length { return breakOff(next, short) }
            if offset - 40 + length > 256 { reasons.append(.badExtensionHeader) }
            let header = Array(bytes[offset..<offset + length])
            switch next {
            case Upper.fragment:
                // One at most, atomic or not.
                if hasFragmentHeader { reasons.append(.badExtensionHeader) }
                hasFragmentHeader = true
                guard word(header, 2) & 0xfff9 != 0 else { break }
                var unfragmentable = Array(bytes[..<offset])
                unfragmentable[namedAt] = header[0]
                let part = OuterFragment(
                    key: Array(bytes[8..<40] + header[4..<8]), offset: word(header, 2) / 8 * 8,
                    hasMore: header[3] & 1 != 0, payload: Array(bytes[(offset + 8)..<end]),
                    header: unfragmentable, ecn: bytes[1] >> 4 & 3)
                take(part, counted: 0)
                if part.offset > 0 {
                    // Behind it lie bytes from the middle of a packet.
                    protocolNumber = header[0]
                    return
                }
            case Upper.routing:
                // Segments left, or a type that only nodes that take part in it know.
                if header[3] != 0 || [2, 3, 4].contains(header[2]) {
                    reasons.append(.badExtensionHeader)
                }
            default:
                let isHopByHop = next == Upper.hopByHop
                if (isHopByHop && count > 1) || !canBeSkipped(header, isHopByHop: isHopByHop) {
                    reasons.append(.badExtensionHeader)
                }
            }
            next = header[0]
            namedAt = offset
            offset += length
        }
        protocolNumber = next
        payload = offset..<max(end, offset)
    }

    /// RFC 791 §3.2, RFC 8200 §4.5: none is empty, all but the last have a multiple of 8 bytes,
    /// and none ends where no length field can say.
    private mutating func take(_ part: OuterFragment, counted header: Int) {
        fragment = part
        // What an empty one is, is told apart from its other faults.
        guard !part.payload.isEmpty else { return }
        if (part.hasMore && part.payload.count % 8 != 0) || header + part.end > 0xffff {
            reasons.append(.invalidHeader)
        }
    }

    private mutating func breakOff(_ next: UInt8, _ reason: DropReason) {
        protocolNumber = next
        isUnfinished = true
        reasons.append(reason)
    }
}

/// RFC 8200 §4.2 within Linux' bounds: at most 7 bytes of padding in a row, all zero; at most 8
/// options; none that is unknown and says (two top bits) that the packet must go then.
private func canBeSkipped(_ header: [UInt8], isHopByHop: Bool) -> Bool {
    var rest = header[2...]
    var padding = 0
    var options = 0
    while let type = rest.first {
        if type == 0 {
            padding += 1
            rest = rest.dropFirst()
        } else {
            guard rest.count >= 2 else { return false }
            let length = 2 + Int(rest[rest.startIndex + 1])
            guard length <= rest.count else { return false }
            let content = rest.prefix(length).dropFirst(2)
            if type == 1 {
                padding += length
                if content.contains(where: { $0 != 0 }) { return false }
            } else {
                padding = 0
                options += 1
                if options > 8 || type & 0xc0 != 0 { return false }
                // Router alert, the label CALIPSO, IOAM: what the kernel knows of them.
                let isRefused =
                    type == 5
                    ? length != 4
                    : type == 7 || (type == 0x31 && rest.startIndex % 4 != 0)
                if isHopByHop && isRefused { return false }
            }
            rest = rest.dropFirst(length)
        }
        if padding > 7 { return false }
    }
    return true
}

/// O1, O7, I3, I10: what is behind a header's lengths: its checksum and its options.
/// - Parameter isOuter: the packet ends here.
func reasonsOfHeader4(_ bytes: [UInt8], _ headerLength: Int, isOuter: Bool) -> [DropReason] {
    var reasons: [DropReason] = []
    if onesComplementSum(bytes[..<headerLength]) != 0xffff { reasons.append(.invalidChecksum) }
    var seen: [UInt8] = []
    var rest = Array(bytes[20..<headerLength])
    while let type = rest.first, type != 0 {
        if type == 1 {
            rest.removeFirst()
            continue
        }
        let length = rest.count >= 2 ? Int(rest[1]) : 0
        guard length >= 2, length <= rest.count,
            isSound(Array(rest[..<length]), after: seen, isOuter: isOuter)
        else {
            reasons.append(.invalidHeader)
            break
        }
        // Loose and strict source route.
        if type == 131 || type == 137 { reasons.append(.sourceRoute) }
        seen.append(type)
        rest.removeFirst(length)
    }
    return reasons
}

/// As net/ipv4/ip_options.c reads an option, its type and length included.
private func isSound(_ option: [UInt8], after seen: [UInt8], isOuter: Bool) -> Bool {
    switch option[0] {
    case 7:  // Record route: once, with room for an address, or full.
        guard !seen.contains(7), option.count >= 3, option[2] >= 4 else { return false }
        return option[2] > option.count || Int(option[2]) + 3 <= option.count
    case 68:  // Timestamp: once, with room, or full and its overflow counter not so.
        guard !seen.contains(68), option.count >= 4, option[2] >= 5 else { return false }
        let flags = option[3] % 16
        if option[2] > option.count { return flags == 3 || option[3] / 16 < 15 }
        return Int(option[2]) + (flags == 1 || flags == 3 ? 7 : 3) <= option.count
    case 148: return option.count >= 4  // Router alert.
    case 134: return !isOuter  // CIPSO: a label that an end node would have to know.
    default: return true
    }
}

struct InnerPacket {
    var reasons: [DropReason] = []
    /// Without what pads it.
    var bytes: [UInt8] = []
    var isIPv4: Bool
    var source: [UInt8] = []
    var destination: [UInt8] = []
    var trafficClass: UInt8 = 0
    var ttl: UInt8 = 0
    /// Behind any extension headers.
    var protocolNumber: UInt8 = 0
    var isFragment = false
    var isLaterFragment = false
    /// Where its transport header begins, and the bytes from there on; 0 when there is none.
    var transport = 0
    var transportLength = 0

    /// I3, I10, I13. `content` is what the outer lengths leave.
    static func ipv4(_ content: [UInt8]) -> InnerPacket {
        var inner = InnerPacket(isIPv4: true)
        guard content.count >= 20 else {
            inner.reasons = [.packetTooSmall]
            return inner
        }
        let isVersion4 = content[0] >> 4 == 4
        let headerLength = Int(content[0] & 15) * 4
        let totalLength = word(content, 2)
        if isVersion4 && totalLength > content.count { inner.reasons.append(.packetTooSmall) }
        if !isVersion4 || headerLength < 20 || totalLength < headerLength {
            inner.reasons.append(.invalidHeader)
        }
        guard inner.reasons.isEmpty else { return inner }
        inner.reasons = reasonsOfHeader4(content, headerLength, isOuter: false)
        inner.bytes = Array(content[..<totalLength])
        inner.source = Array(content[12..<16])
        inner.destination = Array(content[16..<20])
        inner.trafficClass = content[1]
        inner.ttl = content[8]
        inner.protocolNumber = content[9]
        let fragment = word(content, 6)
        inner.isLaterFragment = fragment & 0x1fff != 0
        inner.isFragment = fragment & 0x3fff != 0
        inner.transport = headerLength
        inner.transportLength = inner.isLaterFragment ? 0 : totalLength - headerLength
        return inner
    }

    static func ipv6(_ content: [UInt8]) -> InnerPacket {
        var inner = InnerPacket(isIPv4: false)
        guard content.count >= 40 else {
            inner.reasons = [.packetTooSmall]
            return inner
        }
        let isVersion6 = content[0] >> 4 == 6
        let length = 40 + word(content, 4)
        if isVersion6 && length > content.count { inner.reasons.append(.packetTooSmall) }
        // I13: a jumbogram has no length.
        if !isVersion6 || (length == 40 && content[6] == Upper.hopByHop) {
            inner.reasons.append(.invalidHeader)
        }
        guard inner.reasons.isEmpty else { return inner }
        inner.bytes = Array(content[..<length])
        inner.source = Array(content[8..<24])
        inner.destination = Array(content[24..<40])
        inner.trafficClass = content[0] << 4 | content[1] >> 4
        inner.ttl = content[7]
        inner.walk()
        if inner.isFragment && !inner.isLaterFragment && !inner.holdsUpperHeader {
            inner.reasons.append(.badExtensionHeader)
        }
        return inner
    }

    /// I11: whether it shows all of the header that its chain ends with (RFC 7112).
    private var holdsUpperHeader: Bool {
        let upper = bytes[min(transport, bytes.count)...].prefix(transportLength)
        switch protocolNumber {
        case Upper.tcp:
            return upper.count >= 20 && upper.count >= Int(upper[upper.startIndex + 12] / 16) * 4
        case 17: return upper.count >= 8
        case Upper.icmpv6: return upper.count >= 4
        case 59: return true
        default: return !upper.isEmpty
        }
    }

    /// A router does not judge these headers, it must only find what they lead to: a chain too
    /// long to be walked could hide a nest. One that breaks off leads nowhere.
    private mutating func walk() {
        var next = bytes[6]
        var offset = 40
        var count = 0
        defer {
            protocolNumber = next
            transport = offset
        }
        while Upper.isExtension(next) || next == Upper.authentication {
            count += 1
            if count > 8 || offset - 40 >= 256 { return reasons.append(.badExtensionHeader) }
            if bytes.count - offset < 8 { return }
            let units = Int(bytes[offset + 1])
            let length =
                next == Upper.fragment
                ? 8
                : next == Upper.authentication ? (units + 2) * 4 : (units + 1) * 8
            if bytes.count - offset < length { return }
            if next == Upper.fragment {
                let field = word(bytes, offset + 2)
                if field & 0xfff9 != 0 { isFragment = true }
                if field & 0xfff8 != 0 {
                    isLaterFragment = true
                    next = bytes[offset]
                    return
                }
            }
            next = bytes[offset]
            offset += length
        }
        transportLength = bytes.count - offset
    }
}
