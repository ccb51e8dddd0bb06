// The common packet, accepted in few steps: plain headers, known tunnel, nothing to rewrite.
// It only ever says yes. Whatever it is not sure of goes to the judge, who decides; a test holds
// the two together on random frames.

import IP

struct FastPath {
    private let frame: UnsafePointer<Frame>
    private let tables: UnsafePointer<ForwardingView>
    private let cache: OuterCache
    private let verdict: UnsafeMutablePointer<Verdict>

    /// What a plain outer header of a known tunnel leaves.
    private struct OuterMatch {
        var entry: UnsafePointer<OuterCache.Entry>
        /// Bytes of the header.
        var length: Int
        /// Bytes that it gives the inner packet.
        var room: Int
        var ecn: UInt32
        /// `Bytes.checksumQuotient`; IPv6 has no checksum.
        var quotient: UInt64
    }

    /// What a plain inner packet between allowed addresses leaves.
    private struct InnerMatch {
        /// Where the transport header begins.
        var transport: Int
        /// Where the rules begin that decide, in bytes.
        var rule: UInt32
        var fate: UInt64
        var length: Int
        var protocolNumber: UInt8
        var flow: UInt32
    }

    // Each pair of families has a way of its own to the end, made by inlining: where two ways meet,
    // what they know has to go through memory.

    /// Writes the verdict and says true when the packet is plain and goes on as it is.
    @inline(__always)
    static func accepts(
        _ frame: UnsafePointer<Frame>, _ tables: UnsafePointer<ForwardingView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard frame.pointee.length == frame.pointee.wireLength else { return false }
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        let path = FastPath(frame: frame, tables: tables, cache: cache, verdict: verdict)
        // IPv4 or IPv6, told apart by the lower byte; a cached header has no other.
        return UInt8(truncatingIfNeeded: frame.arrivalWord) == 0
            ? path.openIPv4(packet) : path.openIPv6(packet)
    }

    @inline(__always)
    private func openIPv4(_ packet: Bytes) -> Bool {
        // Both headers and 8 bytes: what is read of them needs no other proof.
        guard packet.count >= 48 else { return false }
        let key = packet.ipv4.rawAddresses
        let entry = cache.entry(key)
        let total = Int(packet.ipv4.totalLength)
        guard packet.ipv4.isPlain, entry.pointee.addresses.first == key, total <= packet.count,
            entry.pointee.arrival == frame.arrival
        else { return false }
        let outer = OuterMatch(
            entry: UnsafePointer(entry), length: IPv4Header.byteCount,
            room: total &- IPv4Header.byteCount,
            ecn: UInt32(packet.ipv4.typeOfService & 3), quotient: packet.checksumQuotient)
        return acceptInner(packet, packet.ipv4.protocolNumber, outer)
    }

    @inline(__always)
    private func openIPv6(_ packet: Bytes) -> Bool {
        guard packet.count >= 68 else { return false }
        let payload = Int(packet.ipv6.payloadLength)
        guard packet.ipv6.version == 6, payload <= packet.count &- IPv6Header.byteCount else {
            return false
        }
        let addresses = OuterCache.Addresses(packet.ipv6)
        let entry = cache.entry(addresses.second)
        guard entry.pointee.addresses == addresses, entry.pointee.arrival == frame.arrival else {
            return false
        }
        let outer = OuterMatch(
            entry: UnsafePointer(entry), length: IPv6Header.byteCount, room: payload,
            ecn: packet.ipv6.congestion, quotient: 0)
        return acceptInner(packet, packet.ipv6.nextHeader, outer)
    }

    @inline(__always)
    private func acceptInner(_ packet: Bytes, _ number: UInt8, _ outer: OuterMatch) -> Bool {
        let inner = packet.dropFirst(outer.length)
        if number == ProtocolNumber.ipv4 { return acceptIPv4(inner, outer) }
        return number == ProtocolNumber.ipv6 && acceptIPv6(inner, outer)
    }

    @inline(__always)
    private func acceptIPv4(_ packet: Bytes, _ outer: OuterMatch) -> Bool {
        let length = Int(packet.ipv4.totalLength)
        let number = packet.ipv4.protocolNumber
        let cell = UInt32(packet.ipv4.typeOfService & 3) << 2 | outer.ecn
        guard packet.ipv4.isPlain, length <= outer.room, length >= 28, packet.ipv4.timeToLive != 0,
            cache.untouchedCells &>> cell & 1 != 0,
            isPlain(packet, number, transport: IPv4Header.byteCount, end: length),
            // One comparison for two values: OR never makes a number smaller.
            (outer.quotient | packet.checksumQuotient) <= Checksum.quotientMax
        else { return false }
        let key = packet.ipv4.rawAddresses
        let pair = cache.pair4(key)
        let scope = outer.entry.pointee.scope4
        var rule = pair.pointee.rule
        if pair.pointee.key != key || pair.pointee.scope != scope {
            rule = PairCheck(frame: frame, tables: tables).findIPv4(packet.base, pair, scope)
            if rule == PairCheck.refused { return false }
        }
        let inner = InnerMatch(
            transport: IPv4Header.byteCount, rule: rule,
            fate: outer.entry.pointee.fate4 | UInt64(cell) << Verdict.cellShift,
            length: length, protocolNumber: number, flow: Flow.ofIPv4(packet))
        return finish(packet, outer, inner)
    }

    @inline(__always)
    private func acceptIPv6(_ packet: Bytes, _ outer: OuterMatch) -> Bool {
        guard packet.count >= 48 else { return false }
        let length = packet.ipv6.totalLength
        let number = packet.ipv6.nextHeader
        let cell = packet.ipv6.congestion << 2 | outer.ecn
        guard packet.ipv6.version == 6, length <= outer.room, length >= 48,
            packet.ipv6.hopLimit != 0, cache.untouchedCells &>> cell & 1 != 0,
            isPlain(packet, number, transport: IPv6Header.byteCount, end: length),
            outer.quotient <= Checksum.quotientMax
        else { return false }
        let key = OuterCache.Addresses(packet.ipv6)
        let pair = cache.pair6(key.first ^ key.second ^ key.fourth)
        let scope = outer.entry.pointee.scope6
        var rule = pair.pointee.rule
        if pair.pointee.scope != scope || pair.pointee.key != key {
            rule = PairCheck(frame: frame, tables: tables).findIPv6(packet.base, pair, scope)
            if rule == PairCheck.refused { return false }
        }
        let inner = InnerMatch(
            transport: IPv6Header.byteCount, rule: rule,
            fate: outer.entry.pointee.fate6 | UInt64(cell) << Verdict.cellShift,
            length: length, protocolNumber: number, flow: Flow.ofIPv6(packet))
        return finish(packet, outer, inner)
    }

    /// UDP, or TCP without SYN: nothing to clamp.
    @inline(__always)
    private func isPlain(_ packet: Bytes, _ number: UInt8, transport: Int, end: Int) -> Bool {
        if number == ProtocolNumber.udp { return true }
        return number == ProtocolNumber.tcp && end >= transport &+ TCPHeader.byteCount
            && packet.tcp(at: transport).flags & TCPHeader.syn == 0
    }

    @inline(__always)
    private func finish(_ packet: Bytes, _ outer: OuterMatch, _ inner: InnerMatch) -> Bool {
        var rule = DestinationRule.at(cache.rules, inner.rule)
        if rule.pointee.protocolNumber != DestinationRule.anyProtocol {
            rule = Self.ruleOfPort(
                rule, inner.protocolNumber, packet.ports(at: inner.transport).destination,
                tables.pointee.policy.ports)
        }
        guard inner.length <= Int(rule.pointee.mtu) else { return false }
        verdict.accept(
            fate: inner.fate, way: rule.pointee.way, offset: outer.length, length: inner.length,
            flow: inner.flow)
        cache.note(flow: inner.flow)
        return frame.arrivalWord & Frame.offloadBits == 0
            || Self.rebases(inner.protocolNumber, transport: inner.transport, frame, verdict)
    }

    /// Ends at the latest with the rule that takes everything, in no size.
    @inline(never)
    private static func ruleOfPort(
        _ first: UnsafePointer<DestinationRule>, _ protocolNumber: UInt8, _ port: UInt16,
        _ ports: UnsafePointer<UInt32>
    ) -> UnsafePointer<DestinationRule> {
        var rule = first
        while rule.pointee.protocolNumber != DestinationRule.anyProtocol {
            if rule.pointee.protocolNumber == UInt16(protocolNumber),
                rule.pointee.portCount == 0 || DestinationCheck.contains(rule, port, ports)
            {
                break
            }
            rule += 1
        }
        return rule
    }

    /// What the kernel is still to finish of a packet whose verdict is written.
    @inline(never)
    private static func rebases(
        _ protocolNumber: UInt8, transport: Int, _ frame: UnsafePointer<Frame>,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        var inner = InnerHeader()
        inner.length = Int(verdict.pointee.length)
        inner.protocolNumber = protocolNumber
        inner.transportOffset = transport
        inner.transportLength = inner.length &- transport
        let offset = Int(verdict.pointee.offset)
        return Offload.rebase(
            &verdict.pointee.vnet, frame,
            Bytes(frame.pointee.network + offset, count: inner.length),
            strip: frame.pointee.linkLength &+ offset, inner, verdict.pointee.mode) == .none
    }
}
