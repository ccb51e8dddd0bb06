// May a packet have this inner source? Martians, addresses of the host and its pods, and the reverse path.

import IP
import Routing

/// Martians, spoofed local addresses and the reverse path (RFC 3704, RFC 8704).
enum SourceCheck {
    @inline(__always)
    static func checkIPv4(
        _ packet: Bytes, _ inner: InnerHeader, _ interface: UInt16, _ tables: UnsafePointer<ForwardingView>
    ) -> DropReason {
        let routes = tables.pointee.routes
        guard routes?.isOneLookup(isIPv4: true) ?? true else {
            return check(
                question(packet, inner, isIPv4: true, interface, tables), isIPv4: true, interface, tables)
        }
        let source = packet.ipv4.source
        var flags = tables.pointee.policy.addresses.lookup(ipv4: source)
        if source == packet.ipv4.destination { flags |= AddressClass.local }
        return check(flags, routes?.lookup(ipv4: source), interface, tables)
    }

    @inline(__always)
    static func checkIPv6(
        _ packet: Bytes, _ inner: InnerHeader, _ flags: UInt32, _ interface: UInt16,
        _ tables: UnsafePointer<ForwardingView>
    ) -> DropReason {
        let source = packet.ipv6.source
        let routes = tables.pointee.routes
        guard routes?.isOneLookup(isIPv4: false) ?? true, flags & AddressClass.embedsIPv4 == 0 else {
            return check(
                question(packet, inner, isIPv4: false, interface, tables), isIPv4: false, interface, tables)
        }
        let isItself = source == packet.ipv6.destination
        return check(
            flags | (isItself ? AddressClass.local : 0), routes?.lookup(ipv6: source), interface, tables)
    }

    /// Whatever the rules and the address.
    static func check(
        _ question: ReversePathQuestion, isIPv4: Bool, _ interface: UInt16,
        _ tables: UnsafePointer<ForwardingView>
    ) -> DropReason {
        let source = question.source
        var flags =
            isIPv4
            ? tables.pointee.policy.addresses.lookup(ipv4: source.ipv4)
            : tables.pointee.policy.addresses.lookup(ipv6: source)
        if source == question.destination || isInside(question, isIPv4: isIPv4, tables) {
            flags |= AddressClass.local
        }
        let record = tables.pointee.routes?.find(question, isIPv4: isIPv4)
        let reason = check(flags, record, interface, tables)
        if flags & AddressClass.embedsIPv4 == 0 { return reason }
        return reason.first(checkEmbedded(source, question.vrf, interface, tables))
    }

    /// An address that holds an IPv4 one may come from wherever its own route leads, but the address
    /// within must be no martian (RFC 3964 §5.2) and none of the host's.
    static func checkEmbedded(
        _ source: Address, _ vrf: UInt32, _ interface: UInt16, _ tables: UnsafePointer<ForwardingView>
    ) -> DropReason {
        let address = source.embeddedIPv4
        let question = ReversePathQuestion(
            source: Address(ipv4: address), destination: Address(ipv4: 0), vrf: vrf)
        let flags = tables.pointee.policy.addresses.lookup(ipv4: address)
        return check(
            flags | AddressClass.exempt, tables.pointee.routes?.find(question, isIPv4: true), interface,
            tables)
    }

    /// Whether the address is the host's or a pod's for a packet that no rule selects. Rules may lead
    /// the answer elsewhere, as those from a service's address to a table of its own do.
    static func isInside(
        _ question: ReversePathQuestion, isIPv4: Bool, _ tables: UnsafePointer<ForwardingView>
    ) -> Bool {
        guard let routes = tables.pointee.routes, !routes.isOneLookup(isIPv4: isIPv4) else {
            return false
        }
        let nobody = isIPv4 ? Address(ipv4: 0) : Address(high: 0, low: 0)
        let plain = ReversePathQuestion(
            source: question.source, destination: nobody, vrf: question.vrf)
        return isInside(routes.find(plain, isIPv4: isIPv4), tables, routes)
    }

    /// Whether what a route leads to is the host itself, or behind a device that does not lead out.
    @inline(__always)
    private static func isInside(
        _ record: RouteRecord, _ tables: UnsafePointer<ForwardingView>, _ routes: RouteTable.View
    ) -> Bool {
        switch record.kind {
        case .local, .anycast: true
        case .unicast: record.hasInterface && !leadsOut(record, tables, routes)
        default: false
        }
    }

    /// Whether the preferred route leaves by an uplink, by any of its nexthops.
    @inline(__always)
    static func leadsOut(
        _ record: RouteRecord, _ tables: UnsafePointer<ForwardingView>, _ routes: RouteTable.View
    ) -> Bool {
        var index = 0
        while index < tables.pointee.uplinkCount {
            if routes.bestUses(record, interface: tables.pointee.uplinks[index]) { return true }
            index &+= 1
        }
        return false
    }

    /// What policy rules may ask of a packet beyond its source. As the kernel's own dissection has
    /// it, no fragment shows ports (net/core/flow_dissector.c `__skb_flow_dissect`).
    @inline(__always)
    static func question(
        _ packet: Bytes, _ inner: InnerHeader, isIPv4: Bool, _ interface: UInt16,
        _ tables: UnsafePointer<ForwardingView>
    ) -> ReversePathQuestion {
        var question = ReversePathQuestion(
            source: isIPv4 ? Address(ipv4: packet.ipv4.source) : packet.ipv6.source,
            destination: isIPv4 ? Address(ipv4: packet.ipv4.destination) : packet.ipv6.destination,
            tos: inner.trafficClass, protocolNumber: inner.protocolNumber,
            vrf: tables.pointee.interfaces[Int(interface)].vrf)
        if ProtocolNumber.startsWithPorts(inner.protocolNumber), !inner.isFragment,
            inner.transportLength >= Ports.byteCount
        {
            let ports = packet.ports(at: inner.transportOffset)
            question.sourcePort = ports.source
            question.destinationPort = ports.destination
        }
        return question
    }

    @inline(__always)
    private static func check(
        _ flags: UInt32, _ record: RouteRecord?, _ interface: UInt16,
        _ tables: UnsafePointer<ForwardingView>
    ) -> DropReason {
        // That an address is a network's broadcast address only the routes show.
        if flags & AddressClass.refused != 0
            || (record?.kind == .broadcast && tables.pointee.dropMartians)
        {
            return .invalidSource
        }
        if flags & AddressClass.local != 0 { return .localSource }
        guard let record, let routes = tables.pointee.routes else { return .none }
        let state = tables.pointee.interfaces[Int(interface)]
        // An interface is an uplink: most need no further look.
        let isStrict = record.kind == .unicast && routes.bestUses(record, interface: state.index)
        if !isStrict && isInside(record, tables, routes) { return .localSource }
        if state.reversePath == .off || flags & AddressClass.exempt != 0 { return .none }
        guard record.kind == .unicast else { return .reversePath }
        let isReachable =
            switch state.reversePath {
            case .off, .loose: true
            case .looseNoDefault: !record.isDefault
            case .feasible: routes.anyUses(record, interface: state.index)
            case .strict: isStrict
            }
        return isReachable ? .none : .reversePath
    }
}
