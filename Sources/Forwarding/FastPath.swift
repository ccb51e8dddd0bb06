// The common packet, accepted in few steps: plain headers, known tunnel, nothing to rewrite.
// It only ever says yes. Whatever it is not sure of goes to the judge, who decides; a test holds
// the two together on random frames.

import IP
import Routing

enum FastPath {
    /// What a plain outer header of a known tunnel leaves.
    private struct Outer {
        var entry: UnsafePointer<OuterCache.Outer>
        /// Bytes of the header.
        var length: Int
        /// Bytes that it gives the inner packet.
        var room: Int
        var ecn: UInt32
        /// `Bytes.checksumQuotient`; IPv6 has no checksum.
        var quotient: UInt64
    }

    /// What a plain inner packet between allowed addresses leaves.
    private struct Inner {
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
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard frame.pointee.length == frame.pointee.wireLength else { return false }
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        // IPv4 or IPv6, told apart by the lower byte; a cached header has no other.
        return UInt8(truncatingIfNeeded: frame.arrivalWord) == 0
            ? openIPv4(packet, frame, world, cache, verdict)
            : openIPv6(packet, frame, world, cache, verdict)
    }

    @inline(__always)
    private static func openIPv4(
        _ packet: Bytes, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        // Both headers and 8 bytes: what is read of them needs no other proof.
        guard packet.count >= 48 else { return false }
        let key = packet.ipv4.rawAddresses
        let entry = cache.place(key)
        let total = Int(packet.ipv4.totalLength)
        guard packet.ipv4.isPlain, entry.pointee.first == key, total <= packet.count,
            entry.pointee.arrival == frame.arrival
        else { return false }
        let outer = Outer(
            entry: UnsafePointer(entry), length: IPv4Header.byteCount,
            room: total &- IPv4Header.byteCount,
            ecn: UInt32(packet.ipv4.typeOfService & 3), quotient: packet.checksumQuotient)
        let number = packet.ipv4.protocolNumber
        let inner = packet.dropFirst(IPv4Header.byteCount)
        if number == ProtocolNumber.ipv4 {
            return passIPv4(inner, outer, frame, world, cache, verdict)
        }
        return number == ProtocolNumber.ipv6 && passIPv6(inner, outer, frame, world, cache, verdict)
    }

    @inline(__always)
    private static func openIPv6(
        _ packet: Bytes, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard packet.count >= 68 else { return false }
        let payload = Int(packet.ipv6.payloadLength)
        guard packet.ipv6.version == 6, payload <= packet.count &- IPv6Header.byteCount else {
            return false
        }
        let second = packet.ipv6.rawSourceLow
        let entry = cache.place(second)
        guard entry.pointee.second == second, entry.pointee.arrival == frame.arrival,
            entry.pointee.first == packet.ipv6.rawSourceHigh,
            entry.pointee.third == packet.ipv6.rawDestinationHigh,
            entry.pointee.fourth == packet.ipv6.rawDestinationLow
        else { return false }
        let outer = Outer(
            entry: UnsafePointer(entry), length: IPv6Header.byteCount, room: payload,
            ecn: packet.ipv6.congestion, quotient: 0)
        let number = packet.ipv6.nextHeader
        let inner = packet.dropFirst(IPv6Header.byteCount)
        if number == ProtocolNumber.ipv4 {
            return passIPv4(inner, outer, frame, world, cache, verdict)
        }
        return number == ProtocolNumber.ipv6 && passIPv6(inner, outer, frame, world, cache, verdict)
    }

    @inline(__always)
    private static func passIPv4(
        _ packet: Bytes, _ outer: Outer, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        let length = Int(packet.ipv4.totalLength)
        let number = packet.ipv4.protocolNumber
        let cell = UInt32(packet.ipv4.typeOfService & 3) << 2 | outer.ecn
        guard packet.ipv4.isPlain, length <= outer.room, length >= 28, packet.ipv4.timeToLive != 0,
            UInt32(world.pointee.policy.untouchedCells) &>> cell & 1 != 0,
            isPlain(packet, number, transport: IPv4Header.byteCount, end: length),
            // One comparison for two values: OR never makes a number smaller.
            (outer.quotient | packet.checksumQuotient) <= Checksum.quotientMax
        else { return false }
        let key = packet.ipv4.rawAddresses
        let pair = cache.place4(key)
        let scope = outer.entry.pointee.scope4
        var rule = pair.pointee.rule
        if pair.pointee.addresses != key || pair.pointee.scope != scope {
            rule = PairCheck.findIPv4(packet.base, frame, world, pair, scope)
            if rule == PairCheck.refused { return false }
        }
        let inner = Inner(
            transport: IPv4Header.byteCount, rule: rule,
            fate: outer.entry.pointee.fate4 | UInt64(cell) << Verdict.cellShift,
            length: length, protocolNumber: number, flow: Flow.ofIPv4(packet))
        return finish(packet, outer, inner, frame, world, cache, verdict)
    }

    @inline(__always)
    private static func passIPv6(
        _ packet: Bytes, _ outer: Outer, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard packet.count >= 48 else { return false }
        let length = packet.ipv6.totalLength
        let number = packet.ipv6.nextHeader
        let cell = packet.ipv6.congestion << 2 | outer.ecn
        guard packet.ipv6.version == 6, length <= outer.room, length >= 48,
            packet.ipv6.hopLimit != 0, UInt32(world.pointee.policy.untouchedCells) &>> cell & 1 != 0,
            isPlain(packet, number, transport: IPv6Header.byteCount, end: length),
            outer.quotient <= Checksum.quotientMax
        else { return false }
        let (first, second) = (packet.ipv6.rawSourceHigh, packet.ipv6.rawSourceLow)
        let fourth = packet.ipv6.rawDestinationLow
        let pair = cache.place6(first ^ second ^ fourth)
        let scope = outer.entry.pointee.scope6
        var rule = pair.pointee.rule
        if pair.pointee.scope != scope || pair.pointee.first != first
            || pair.pointee.second != second || pair.pointee.third != packet.ipv6.rawDestinationHigh
            || pair.pointee.fourth != fourth
        {
            rule = PairCheck.findIPv6(packet.base, frame, world, pair, scope)
            if rule == PairCheck.refused { return false }
        }
        let inner = Inner(
            transport: IPv6Header.byteCount, rule: rule,
            fate: outer.entry.pointee.fate6 | UInt64(cell) << Verdict.cellShift,
            length: length, protocolNumber: number, flow: Flow.ofIPv6(packet))
        return finish(packet, outer, inner, frame, world, cache, verdict)
    }

    /// UDP, or TCP without SYN: nothing to clamp.
    @inline(__always)
    private static func isPlain(
        _ packet: Bytes, _ number: UInt8, transport: Int, end: Int
    ) -> Bool {
        if number == ProtocolNumber.udp { return true }
        return number == ProtocolNumber.tcp && end >= transport &+ TCPHeader.byteCount
            && packet.tcp(at: transport).flags & TCPHeader.syn == 0
    }

    @inline(__always)
    private static func finish(
        _ packet: Bytes, _ outer: Outer, _ inner: Inner, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        var rule = DestinationRule.at(world.pointee.policy.rules, inner.rule)
        if rule.pointee.protocolNumber != DestinationRule.anyProtocol {
            rule = ruleOfPort(
                rule, inner.protocolNumber, packet.ports(at: inner.transport).destination,
                world.pointee.policy.ports)
        }
        guard inner.length <= Int(rule.pointee.mtu) else { return false }
        verdict.accept(
            fate: inner.fate, way: rule.pointee.way, offset: outer.length, length: inner.length,
            flow: inner.flow)
        cache.note(flow: inner.flow)
        return frame.arrivalWord & Frame.offloadBits == 0
            || rebases(inner.protocolNumber, transport: inner.transport, frame, verdict)
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
        var inner = Forwarding.Inner()
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

/// Whether a pair of inner addresses may pass, whatever else the packet holds.
enum PairCheck {
    /// In place of a rule: the judge decides.
    static let refused = UInt32.max

    /// - Parameter header: the inner IPv4 header, and the ports.
    /// - Parameter pair: where its addresses belong and are not. What was there moves next to it.
    /// - Returns: where the destination's rules begin, in bytes, or `refused`. Kept unless the host's
    ///   policy rules look at more of a packet than addresses.
    @inline(never)
    static func findIPv4(
        _ header: UnsafeRawPointer, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ pair: UnsafeMutablePointer<OuterCache.Pair4>,
        _ scope: UInt32
    ) -> UInt32 {
        let packet = Bytes(header, count: IPv4Header.byteCount)
        let key = packet.ipv4.rawAddresses
        let other = OuterCache.neighbour(pair)
        if other.pointee.addresses == key && other.pointee.scope == scope {
            return other.pointee.rule
        }
        let source = packet.ipv4.source
        guard scope != OuterCache.noScope, source != packet.ipv4.destination,
            world.pointee.policy.sources.lookup(ipv4: source) == 0
        else { return refused }
        var isLasting = true
        if let routes = world.pointee.routes {
            isLasting = routes.needsAddressesOnlyIPv4
            guard
                routes.isOneLookupIPv4
                    ? isReachable(routes.lookup(ipv4: source), frame, world, routes)
                    : isReachable(header, isIPv4: true, frame, world)
            else { return refused }
        }
        let tunnel = world.pointee.policy.tunnels + OuterCache.tunnel(scope)
        let rule = rule(world, tunnel.pointee.destinations.lookup(ipv4: packet.ipv4.destination))
        if isLasting && rule != refused {
            // Unless what was there is of an earlier generation.
            if OuterCache.isAlive(pair.pointee.scope, scope) { other.pointee = pair.pointee }
            pair.pointee = OuterCache.Pair4(addresses: key, scope: scope, rule: rule)
        }
        return rule
    }

    /// As `findIPv4`.
    @inline(never)
    static func findIPv6(
        _ header: UnsafeRawPointer, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ pair: UnsafeMutablePointer<OuterCache.Pair6>,
        _ scope: UInt32
    ) -> UInt32 {
        let packet = Bytes(header, count: IPv6Header.byteCount)
        let other = OuterCache.neighbour(pair)
        if other.pointee.scope == scope && other.pointee.first == packet.ipv6.rawSourceHigh
            && other.pointee.second == packet.ipv6.rawSourceLow
            && other.pointee.third == packet.ipv6.rawDestinationHigh
            && other.pointee.fourth == packet.ipv6.rawDestinationLow
        {
            return other.pointee.rule
        }
        let (source, destination) = (packet.ipv6.source, packet.ipv6.destination)
        guard scope != OuterCache.noScope, !source.isIPv4, !destination.isIPv4,
            source != destination, mayPass(source, frame, world)
        else { return refused }
        var isLasting = true
        if let routes = world.pointee.routes {
            isLasting = routes.needsAddressesOnlyIPv6
            guard
                routes.isOneLookupIPv6
                    ? isReachable(routes.lookup(ipv6: source), frame, world, routes)
                    : isReachable(header, isIPv4: false, frame, world)
            else { return refused }
        }
        let tunnel = world.pointee.policy.tunnels + OuterCache.tunnel(scope)
        let rule = rule(world, tunnel.pointee.destinations.lookup(ipv6: destination))
        if isLasting && rule != refused {
            // Unless what was there is of an earlier generation.
            if OuterCache.isAlive(pair.pointee.scope, scope) { other.pointee = pair.pointee }
            pair.pointee = OuterCache.Pair6(
                first: packet.ipv6.rawSourceHigh, second: packet.ipv6.rawSourceLow,
                third: packet.ipv6.rawDestinationHigh, fourth: packet.ipv6.rawDestinationLow, scope: scope,
                rule: rule)
        }
        return rule
    }

    /// Whether nothing but the route has a say in the address. NAT64's clients are many.
    private static func mayPass(
        _ source: Address, _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>
    ) -> Bool {
        let flags = world.pointee.policy.sources.lookup(ipv6: source)
        if flags == 0 { return true }
        let vrf = world.pointee.interfaces[Int(frame.pointee.interface)].vrf
        return flags == SourceClass.embedding
            && SourceCheck.checkEmbedded(source, vrf, frame, world) == .none
    }

    /// What policy rules may ask of a plain packet of TCP or UDP.
    @inline(never)
    private static func question(
        _ header: UnsafeRawPointer, isIPv4: Bool, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> ReversePathQuestion {
        let packet = Bytes(header, count: isIPv4 ? 28 : 48)
        var inner = Inner()
        inner.trafficClass = isIPv4 ? packet.ipv4.typeOfService : packet.ipv6.trafficClass
        inner.protocolNumber = isIPv4 ? packet.ipv4.protocolNumber : packet.ipv6.nextHeader
        inner.transportOffset = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        inner.transportLength = 8
        return SourceCheck.question(packet, inner, isIPv4: isIPv4, frame, world)
    }

    @inline(__always)
    private static func rule(_ world: UnsafePointer<WorldView>, _ number: UInt32) -> UInt32 {
        let list = world.pointee.policy.lists + Int(number)
        return list.pointee.isMartian || list.pointee.count == 0
            ? refused : list.pointee.first &* UInt32(MemoryLayout<DestinationRule>.stride)
    }

    /// With policy rules. Looks up the routes itself: handed over, they would be copied by who never
    /// comes here.
    @inline(never)
    private static func isReachable(
        _ header: UnsafeRawPointer, isIPv4: Bool, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> Bool {
        guard let routes = world.pointee.routes else { return true }
        let question = question(header, isIPv4: isIPv4, frame, world)
        return isReachable(routes.find(question, isIPv4: isIPv4), frame, world, routes)
            && !SourceCheck.isInside(question, isIPv4: isIPv4, world)
    }

    @inline(__always)
    private static func isReachable(
        _ record: RouteRecord, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ routes: RouteTable.View
    ) -> Bool {
        guard record.kind == .unicast else { return false }
        let state = world.pointee.interfaces + Int(frame.pointee.interface)
        switch state.pointee.reversePath {
        // The interface is an uplink itself.
        case .strict: return routes.bestUses(record, interface: state.pointee.index)
        case .off, .loose: return SourceCheck.leadsOut(record, world, routes)
        default: return false
        }
    }
}
