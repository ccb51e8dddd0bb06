// Whether the inner packet may go where it wants to, and through which device.

import Routing

enum DestinationCheck {
    /// Exactly one of the two is set.
    struct Finding {
        var rule: UnsafePointer<DestinationRule>?
        var refusal: DropReason
    }

    @inline(__always)
    static func find(
        _ packet: Bytes, _ inner: Inner, _ mode: Mode, _ world: UnsafePointer<WorldView>,
        _ tunnel: TunnelRecord
    ) -> Finding {
        let number: UInt32
        if mode.innerIsIPv4 {
            number = tunnel.destinations.lookup(ipv4: packet.u32(16))
        } else {
            let destination = Address(high: packet.u64(24), low: packet.u64(32))
            if destination.isIPv4 && world.pointee.dropMartians {
                return Finding(rule: nil, refusal: .invalidDestination)
            }
            number = tunnel.destinations.lookup(ipv6: destination)
        }
        let list = world.pointee.policy.lists + Int(number)
        if list.pointee.isMartian { return Finding(rule: nil, refusal: .invalidDestination) }
        let rules = world.pointee.policy.rules + Int(list.pointee.first)
        var index = 0
        while index < Int(list.pointee.count) {
            let rule = rules + index
            index &+= 1
            if rule.pointee.protocolNumber == DestinationRule.anyProtocol
                || matches(rule, packet, inner, mode, world)
            {
                return Finding(rule: rule, refusal: .none)
            }
        }
        return Finding(rule: nil, refusal: .destinationNotAllowed)
    }

    private static func matches(
        _ rule: UnsafePointer<DestinationRule>, _ packet: Bytes, _ inner: Inner, _ mode: Mode,
        _ world: UnsafePointer<WorldView>
    ) -> Bool {
        let ports = world.pointee.policy.ports
        if rule.pointee.protocolNumber == UInt16(inner.protocolNumber) {
            // A later fragment has no ports: prefix and protocol decide (RFC 1858).
            if rule.pointee.portCount == 0 || inner.isLaterFragment { return true }
            if ProtocolNumber.hasPorts(inner.protocolNumber), inner.transportLength >= 4 {
                return contains(rule, packet.u16(inner.transportOffset &+ 2), ports)
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
    static func of(_ packet: Bytes, _ inner: Inner, _ mode: Mode) -> Quote? {
        let minimum = mode.innerIsIPv4 ? 20 : 40
        guard !inner.isFragment, inner.transportLength >= 8 &+ minimum,
            isError(packet.u8(inner.transportOffset), inner.protocolNumber, mode)
        else { return nil }
        let quoted = packet.dropFirst(
            inner.transportOffset &+ 8, count: inner.transportLength &- 8)
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
        let headerLength = Int(quoted.u8(0) & 15) << 2
        guard quoted.u8(0) >> 4 == 4, headerLength >= 20,
            quoted.u32(12) == packet.u32(16)
        else { return nil }
        return Quote(
            protocolNumber: quoted.u8(9), isLaterFragment: quoted.u16(6) & 0x1fff != 0,
            sourcePort: quoted.count >= headerLength &+ 2 ? quoted.u16(headerLength) : nil)
    }

    private static func quotedIPv6(_ quoted: Bytes, _ packet: Bytes) -> Quote? {
        guard quoted.u8(0) >> 4 == 6, quoted.u64(8) == packet.u64(24),
            quoted.u64(16) == packet.u64(32)
        else { return nil }
        var number = quoted.u8(6)
        var offset = 40
        var isLaterFragment = false
        var count = 0
        while ExtensionHeader.isWalked(number), count < Limits.extensionHeaders,
            quoted.count >= offset &+ 8, !isLaterFragment
        {
            if number == ProtocolNumber.fragment {
                isLaterFragment = quoted.u16(offset &+ 2) & 0xfff8 != 0
            }
            let step = ExtensionHeader.length(quoted, at: offset, number)
            number = quoted.u8(offset)
            offset &+= step
            count &+= 1
        }
        return Quote(
            protocolNumber: number, isLaterFragment: isLaterFragment,
            sourcePort: quoted.count >= offset &+ 2 ? quoted.u16(offset) : nil)
    }
}
