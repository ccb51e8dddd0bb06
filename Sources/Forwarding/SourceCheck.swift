// May a packet have this inner source? Martians, addresses of the host and its pods, and the reverse path.

import IP
import Routing

/// Martians, spoofed local addresses and the reverse path (RFC 3704, RFC 8704).
enum SourceCheck {
    @inline(__always)
    static func checkIPv4(
        _ packet: Bytes, _ inner: Inner, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> DropReason {
        let routes = world.pointee.routes
        guard routes?.isOneLookupIPv4 ?? true else {
            return check(question(packet, inner, isIPv4: true, frame, world), isIPv4: true, frame, world)
        }
        let source = packet.ipv4.source
        var flags = world.pointee.policy.sources.lookup(ipv4: source)
        if source == packet.ipv4.destination { flags |= SourceClass.local }
        return check(flags, routes?.lookup(ipv4: source), frame, world)
    }

    @inline(__always)
    static func checkIPv6(
        _ packet: Bytes, _ inner: Inner, _ flags: UInt32, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> DropReason {
        let source = packet.ipv6.source
        let routes = world.pointee.routes
        guard routes?.isOneLookupIPv6 ?? true, !source.isIPv4, flags & SourceClass.embedding == 0 else {
            return check(
                question(packet, inner, isIPv4: false, frame, world), isIPv4: false, frame, world)
        }
        let isItself = source == packet.ipv6.destination
        return check(
            flags | (isItself ? SourceClass.local : 0), routes?.lookup(ipv6: source), frame, world)
    }

    /// Whatever the rules and the address.
    static func check(
        _ question: ReversePathQuestion, isIPv4: Bool, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> DropReason {
        let source = question.source
        // ::ffff:0:0/96 is only ever an application's way to write IPv4 (RFC 4213 §3.6).
        if !isIPv4 && source.isIPv4 && world.pointee.dropMartians { return .invalidSource }
        var flags =
            isIPv4
            ? world.pointee.policy.sources.lookup(ipv4: source.ipv4)
            : world.pointee.policy.sources.lookup(ipv6: source)
        if source == question.destination || isInside(question, isIPv4: isIPv4, world) {
            flags |= SourceClass.local
        }
        let record = world.pointee.routes?.find(question, isIPv4: isIPv4)
        let reason = check(flags, record, frame, world)
        if flags & SourceClass.embedding == 0 { return reason }
        let inside = checkEmbedded(source, question.vrf, frame, world)
        return inside != .none && (inside < reason || reason == .none) ? inside : reason
    }

    /// An address that holds an IPv4 one may come from wherever its own route leads, but the address
    /// within must be no martian (RFC 3964 §5.2) and none of the host's.
    static func checkEmbedded(
        _ source: Address, _ vrf: UInt32, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> DropReason {
        let address = Embedding.address(in: source)
        let question = ReversePathQuestion(
            source: Address(ipv4: address), destination: Address(ipv4: 0), vrf: vrf)
        let flags = world.pointee.policy.sources.lookup(ipv4: address)
        return check(
            flags | SourceClass.exempt, world.pointee.routes?.find(question, isIPv4: true), frame, world)
    }

    /// Whether the address is the host's or a pod's for a packet that no rule selects. Rules may lead
    /// the answer elsewhere, as those from a service's address to a table of its own do.
    static func isInside(
        _ question: ReversePathQuestion, isIPv4: Bool, _ world: UnsafePointer<WorldView>
    ) -> Bool {
        guard let routes = world.pointee.routes,
            !(isIPv4 ? routes.isOneLookupIPv4 : routes.isOneLookupIPv6)
        else { return false }
        let nobody = isIPv4 ? Address(ipv4: 0) : Address(high: 0, low: 0)
        let plain = ReversePathQuestion(
            source: question.source, destination: nobody, vrf: question.vrf)
        return isInside(routes.find(plain, isIPv4: isIPv4), world, routes)
    }

    /// Whether what a route leads to is the host itself, or behind a device that does not lead out.
    @inline(__always)
    private static func isInside(
        _ record: RouteRecord, _ world: UnsafePointer<WorldView>, _ routes: RouteTable.View
    ) -> Bool {
        switch record.kind {
        case .local, .anycast: true
        case .unicast: record.hasInterface && !leadsOut(record, world, routes)
        default: false
        }
    }

    /// Whether the preferred route leaves by an uplink, by any of its nexthops.
    @inline(__always)
    static func leadsOut(
        _ record: RouteRecord, _ world: UnsafePointer<WorldView>, _ routes: RouteTable.View
    ) -> Bool {
        var index = 0
        while index < world.pointee.uplinkCount {
            if routes.bestUses(record, interface: world.pointee.uplinks[index]) { return true }
            index &+= 1
        }
        return false
    }

    /// What policy rules may ask of a packet beyond its source. As the kernel's own dissection has
    /// it, no fragment shows ports (net/core/flow_dissector.c `__skb_flow_dissect`).
    @inline(__always)
    static func question(
        _ packet: Bytes, _ inner: Inner, isIPv4: Bool, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> ReversePathQuestion {
        var question = ReversePathQuestion(
            source: isIPv4 ? Address(ipv4: packet.ipv4.source) : packet.ipv6.source,
            destination: isIPv4 ? Address(ipv4: packet.ipv4.destination) : packet.ipv6.destination,
            tos: inner.trafficClass, protocolNumber: inner.protocolNumber,
            vrf: world.pointee.interfaces[Int(frame.pointee.interface)].vrf)
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
        _ flags: UInt32, _ record: RouteRecord?, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> DropReason {
        // That an address is a network's broadcast address only the routes show.
        if flags & (SourceClass.martian | SourceClass.linkLocal) != 0
            || (record?.kind == .broadcast && world.pointee.dropMartians)
        {
            return .invalidSource
        }
        if flags & SourceClass.local != 0 { return .localSource }
        guard let record, let routes = world.pointee.routes else { return .none }
        let state = world.pointee.interfaces[Int(frame.pointee.interface)]
        // An interface is an uplink: most need no further look.
        let isStrict = record.kind == .unicast && routes.bestUses(record, interface: state.index)
        if !isStrict && isInside(record, world, routes) { return .localSource }
        if state.reversePath == .off || flags & SourceClass.exempt != 0 { return .none }
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

/// IPv6 addresses of hosts that have an IPv4 one: 6to4 (RFC 3056 §2) and the well-known prefix of
/// NAT64 (RFC 6052 §2.1).
enum Embedding {
    static let prefixes = [
        Prefix(Address(high: 0x2002 << 48, low: 0), length: 16)!,
        Prefix(Address(high: 0x0064_ff9b << 32, low: 0), length: 96)!,
    ]

    /// Of an address in one of them.
    @inline(__always)
    static func address(in source: Address) -> UInt32 {
        UInt32(
            truncatingIfNeeded: source.high >> 48 == 0x2002 ? source.high >> 16 : source.low)
    }
}
