// Whether the inner packet may go where it wants to, and through which device.

import IP

enum DestinationCheck {
    /// Exactly one of the two is set.
    struct Finding {
        var rule: UnsafePointer<DestinationRule>?
        var refusal: DropReason
    }

    @inline(__always)
    static func find(
        _ packet: Bytes, _ inner: InnerHeader, _ mode: Mode, _ tables: UnsafePointer<ForwardingView>,
        _ tunnel: TunnelRecord
    ) -> Finding {
        let number =
            mode.innerIsIPv4
            ? tunnel.destinations.lookup(ipv4: packet.ipv4.destination)
            : tunnel.destinations.lookup(ipv6: packet.ipv6.destination)
        let list = tables.pointee.policy.lists + Int(number)
        if list.pointee.isMartian { return Finding(rule: nil, refusal: .invalidDestination) }
        let rules = tables.pointee.policy.rules + Int(list.pointee.first)
        var index = 0
        while index < Int(list.pointee.count) {
            let rule = rules + index
            index &+= 1
            if rule.pointee.protocolNumber == DestinationRule.anyProtocol
                || matches(rule, packet, inner, mode, tables)
            {
                return Finding(rule: rule, refusal: .none)
            }
        }
        return Finding(rule: nil, refusal: .destinationNotAllowed)
    }

    private static func matches(
        _ rule: UnsafePointer<DestinationRule>, _ packet: Bytes, _ inner: InnerHeader, _ mode: Mode,
        _ tables: UnsafePointer<ForwardingView>
    ) -> Bool {
        let ports = tables.pointee.policy.ports
        if rule.pointee.protocolNumber == UInt16(inner.protocolNumber) {
            // A later fragment has no ports: prefix and protocol decide (RFC 1858).
            if rule.pointee.portCount == 0 || inner.isLaterFragment { return true }
            if ProtocolNumber.hasPorts(inner.protocolNumber), inner.transportLength >= Ports.byteCount {
                return contains(rule, packet.ports(at: inner.transportOffset).destination, ports)
            }
            return false
        }
        // An error about an answer to a native probe quotes an address that no pod has sent to.
        guard mode != .native, let quote = Quote.of(packet, inner, mode) else { return false }
        guard rule.pointee.protocolNumber == UInt16(quote.protocolNumber) else { return false }
        if rule.pointee.portCount == 0 || quote.isLaterFragment { return true }
        guard let port = quote.sourcePort else { return false }
        return contains(rule, port, ports)
    }

    @inline(__always)
    static func contains(
        _ rule: UnsafePointer<DestinationRule>, _ port: UInt16, _ ports: UnsafePointer<UInt32>
    ) -> Bool {
        let first = Int(rule.pointee.firstPort)
        for index in first..<(first &+ Int(rule.pointee.portCount)) {
            let range = ports[index]
            if UInt32(port) >= range >> 16 && UInt32(port) <= range & 0xffff { return true }
        }
        return false
    }
}

/// The packet that an ICMP error quotes: one that the destination itself sent. Without it path
/// MTU discovery towards a destination with ports would die (RFC 1191, RFC 8201).
struct Quote {
    var protocolNumber: UInt8
    var isLaterFragment: Bool
    var sourcePort: UInt16?

    /// nil when `packet` is no ICMP error, or quotes a packet that its destination did not send.
    static func of(_ packet: Bytes, _ inner: InnerHeader, _ mode: Mode) -> Quote? {
        let minimum = mode.innerIsIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        guard !inner.isFragment, inner.transportLength >= ICMPHeader.byteCount &+ minimum,
            isError(packet.icmp(at: inner.transportOffset).type, inner.protocolNumber, mode)
        else { return nil }
        let quoted = packet.dropFirst(
            inner.transportOffset &+ ICMPHeader.byteCount,
            count: inner.transportLength &- ICMPHeader.byteCount)
        return mode.innerIsIPv4 ? quotedIPv4(quoted, packet) : quotedIPv6(quoted, packet)
    }

    /// RFC 792 types 3, 4, 5, 11 and 12; RFC 4443 §2.1: types below 128.
    private static func isError(_ type: UInt8, _ number: UInt8, _ mode: Mode) -> Bool {
        if mode.innerIsIPv4 {
            return number == ProtocolNumber.icmp
                && (3...5 ~= type || type == 11 || type == 12)
        }
        return number == ProtocolNumber.icmpv6 && type < 128
    }

    private static func quotedIPv4(_ quoted: Bytes, _ packet: Bytes) -> Quote? {
        let header = quoted.ipv4
        guard header.version == 4, header.headerLength >= IPv4Header.byteCount,
            header.source == packet.ipv4.destination
        else { return nil }
        return Quote(
            protocolNumber: header.protocolNumber, isLaterFragment: header.isLaterFragment,
            sourcePort: sourcePort(quoted, at: header.headerLength))
    }

    private static func quotedIPv6(_ quoted: Bytes, _ packet: Bytes) -> Quote? {
        guard quoted.ipv6.version == 6, quoted.ipv6.source == packet.ipv6.destination else { return nil }
        var walk = ExtensionHeaderWalk(quoted)
        var isLaterFragment = false
        while ExtensionHeader.isWalked(walk.number), walk.count < Limits.extensionHeaders,
            !isLaterFragment, let header = walk.next(in: quoted, end: quoted.count)
        {
            isLaterFragment =
                header.number == ProtocolNumber.fragment
                && quoted.fragmentHeader(at: header.offset).fragmentOffset != 0
        }
        return Quote(
            protocolNumber: walk.number, isLaterFragment: isLaterFragment,
            sourcePort: sourcePort(quoted, at: walk.offset))
    }

    /// The destination port, and what follows, may be cut off.
    private static func sourcePort(_ quoted: Bytes, at offset: Int) -> UInt16? {
        quoted.count >= offset &+ Ports.destinationOffset ? quoted.ports(at: offset).source : nil
    }
}
