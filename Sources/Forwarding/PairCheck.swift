// The pair of addresses of a plain inner packet.

import IP
import Routing

/// Whether a pair of inner addresses may pass, whatever else the packet holds.
struct PairCheck {
    let frame: UnsafePointer<Frame>
    let tables: UnsafePointer<ForwardingView>

    /// In place of a rule: the judge decides.
    static let refused = UInt32.max

    /// - Parameter header: the inner header, and the ports. Without their count, which would cost the fast
    ///   path a register.
    /// - Parameter pair: where its addresses belong and are not. What was there moves next to it.
    /// - Returns: where the destination's rules begin, in bytes, or `refused`. Kept unless the host's
    ///   policy rules look at more of a packet than addresses.
    @inline(never)
    func findIPv4(
        _ header: UnsafeRawPointer, _ pair: UnsafeMutablePointer<OuterCache.Pair<UInt64>>,
        _ scope: UInt32
    ) -> UInt32 {
        let packet = Bytes(header, count: IPv4Header.byteCount)
        return find(packet, isIPv4: true, packet.ipv4.rawAddresses, pair, scope)
    }

    @inline(never)
    func findIPv6(
        _ header: UnsafeRawPointer,
        _ pair: UnsafeMutablePointer<OuterCache.Pair<OuterCache.Addresses>>, _ scope: UInt32
    ) -> UInt32 {
        let packet = Bytes(header, count: IPv6Header.byteCount)
        return find(packet, isIPv4: false, OuterCache.Addresses(packet.ipv6), pair, scope)
    }

    @inline(__always)
    private func find<Key>(
        _ packet: Bytes, isIPv4: Bool, _ key: Key,
        _ pair: UnsafeMutablePointer<OuterCache.Pair<Key>>, _ scope: UInt32
    ) -> UInt32 {
        let other = OuterCache.neighbour(pair)
        if other.pointee.key == key && other.pointee.scope == scope { return other.pointee.rule }
        let isItself =
            isIPv4
            ? packet.ipv4.source == packet.ipv4.destination
            : packet.ipv6.source == packet.ipv6.destination
        guard scope != OuterCache.noScope, !isItself, mayPass(packet, isIPv4: isIPv4) else {
            return Self.refused
        }
        var isLasting = true
        if let routes = tables.pointee.routes {
            isLasting = routes.needsAddressesOnly(isIPv4: isIPv4)
            guard
                routes.isOneLookup(isIPv4: isIPv4)
                    ? isReachable(
                        isIPv4
                            ? routes.lookup(ipv4: packet.ipv4.source)
                            : routes.lookup(ipv6: packet.ipv6.source), routes)
                    : isReachable(packet.base, isIPv4: isIPv4)
            else { return Self.refused }
        }
        let destinations = tables.pointee.policy.tunnels[OuterCache.tunnel(scope)].destinations
        let rule = rule(
            isIPv4
                ? destinations.lookup(ipv4: packet.ipv4.destination)
                : destinations.lookup(ipv6: packet.ipv6.destination))
        if isLasting && rule != Self.refused {
            // Unless what was there is of an earlier generation.
            if OuterCache.isAlive(pair.pointee.scope, scope) { other.pointee = pair.pointee }
            pair.pointee = OuterCache.Pair(key: key, scope: scope, rule: rule)
        }
        return rule
    }

    /// Whether nothing but the route has a say in the address. NAT64's clients are many.
    @inline(__always)
    private func mayPass(_ packet: Bytes, isIPv4: Bool) -> Bool {
        let addresses = tables.pointee.policy.addresses
        let flags =
            isIPv4
            ? addresses.lookup(ipv4: packet.ipv4.source) : addresses.lookup(ipv6: packet.ipv6.source)
        if flags == 0 { return true }
        let vrf = tables.pointee.interfaces[Int(frame.pointee.interface)].vrf
        return !isIPv4 && flags == AddressClass.embedsIPv4
            && SourceCheck.checkEmbedded(packet.ipv6.source, vrf, frame.pointee.interface, tables) == .none
    }

    /// What policy rules may ask of a plain packet of TCP or UDP.
    @inline(never)
    private func question(_ header: UnsafeRawPointer, isIPv4: Bool) -> ReversePathQuestion {
        let packet = Bytes(header, count: isIPv4 ? 28 : 48)
        var inner = InnerHeader()
        inner.trafficClass = isIPv4 ? packet.ipv4.typeOfService : packet.ipv6.trafficClass
        inner.protocolNumber = isIPv4 ? packet.ipv4.protocolNumber : packet.ipv6.nextHeader
        inner.transportOffset = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        inner.transportLength = 8
        return SourceCheck.question(packet, inner, isIPv4: isIPv4, frame.pointee.interface, tables)
    }

    @inline(__always)
    private func rule(_ number: UInt32) -> UInt32 {
        let list = tables.pointee.policy.lists + Int(number)
        return list.pointee.isMartian || list.pointee.count == 0
            ? Self.refused : list.pointee.first &* UInt32(MemoryLayout<DestinationRule>.stride)
    }

    /// With policy rules. Looks up the routes itself: handed over, they would be copied by who never
    /// comes here.
    @inline(never)
    private func isReachable(_ header: UnsafeRawPointer, isIPv4: Bool) -> Bool {
        guard let routes = tables.pointee.routes else { return true }
        let question = question(header, isIPv4: isIPv4)
        return isReachable(routes.find(question, isIPv4: isIPv4), routes)
            && !SourceCheck.isInside(question, isIPv4: isIPv4, tables)
    }

    @inline(__always)
    private func isReachable(_ record: RouteRecord, _ routes: RouteTable.View) -> Bool {
        guard record.kind == .unicast else { return false }
        let state = tables.pointee.interfaces + Int(frame.pointee.interface)
        switch state.pointee.reversePath {
        // The interface is an uplink itself.
        case .strict: return routes.bestUses(record, interface: state.pointee.index)
        case .off, .loose: return SourceCheck.leadsOut(record, tables, routes)
        default: return false
        }
    }
}
