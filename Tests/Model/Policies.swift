// What the policy and the routes say of an inner packet's source and destination.

import Forwarding
import Routing

extension Model {
    /// I4 to I9.
    func reasonsOfSource(_ inner: InnerPacket, _ interface: Int) -> [DropReason] {
        let source = inner.source
        var reasons: [DropReason] = []
        if Unroutable.linkLocal.holds(source) { reasons.append(.invalidSource) }
        if isMartian(source) { reasons.append(.invalidSource) }
        // Nobody writes to itself from outside.
        if isOurs(source) || source == inner.destination { reasons.append(.localSource) }
        if let held = Unroutable.held(by: source) {
            if isMartian(held) { reasons.append(.invalidSource) }
            if isOurs(held) { reasons.append(.localSource) }
        }
        if let route = route(to: source), !exempt.hold(source),
            !isReverse(route, setting.interfaces[interface])
        {
            reasons.append(.reversePath)
        }
        return reasons
    }

    private func isMartian(_ source: [UInt8]) -> Bool {
        policy.dropMartians
            && (Unroutable.martians.hold(source) || route(to: source)?.kind == .broadcast)
    }

    /// I8: the tunnels' own addresses and destinations, `inner.deny`, the host's addresses, and what
    /// a route leads to by a device that no packet from outside comes by.
    private func isOurs(_ source: [UInt8]) -> Bool {
        // Answers to what probes are rewritten to are not anybody's.
        if deny.hold(source) || policy.rewrites.contains(where: { $0.to.bytes == source }) {
            return true
        }
        for tunnel in tunnels {
            let networks = tunnel.local + tunnel.destinations.map(\.network)
            if networks.contains(where: { $0.length > 0 && $0.holds(source) }) { return true }
        }
        guard let route = route(to: source) else { return false }
        switch route.kind {
        case .local, .anycast: return true
        case .unicast: return !route.best.isEmpty && uplinks.isDisjoint(with: route.best)
        default: return false
        }
    }

    /// The configured interfaces, and where default routes lead.
    private var uplinks: Set<Int32> {
        let tables = [RouteEntry.tableLocal, RouteEntry.tableMain]
        let defaults = (routes ?? []).filter {
            $0.network.length == 0 && $0.entry.kind == .unicast
                && (tables.contains($0.entry.table)
                    || ($0.entry.prefix.isIPv4 && $0.entry.table == RouteEntry.tableDefault))
        }
        return Set(setting.interfaces.map(\.index).filter { $0 != 0 })
            .union(defaults.flatMap(\.entry.interfaces))
    }

    func isUnroutableDestination(_ destination: [UInt8]) -> Bool {
        Unroutable.linkLocal.holds(destination)
            || (policy.dropMartians && Unroutable.martians.hold(destination))
    }

    struct Found {
        var kind: RouteKind
        var isDefault: Bool
        /// The preferred route's interfaces; and those of all routes to its prefix.
        var best: [Int32]
        var all: [Int32]
    }

    /// The tables that the kernel's own rules name, in their order; in each the longest prefix;
    /// `throw` leads on to the next table. nil without routes.
    private func route(to source: [UInt8]) -> Found? {
        guard let routes else { return nil }
        let tables = [RouteEntry.tableLocal, RouteEntry.tableMain]
        for table in source.count == 4 ? tables + [RouteEntry.tableDefault] : tables {
            var longest = -1
            for route in routes where route.entry.table == table && route.network.length > longest {
                if route.network.holds(source) { longest = route.network.length }
            }
            if longest < 0 { continue }
            let same = routes.filter {
                $0.entry.table == table && $0.network.length == longest && $0.network.holds(source)
            }.map(\.entry)
            let best = same.min { $0.metric < $1.metric }!
            if best.kind == .throw { continue }
            let interfaces = best.interfaces
            let others = same.filter { $0.kind == .unicast }.flatMap(\.interfaces)
            return Found(
                kind: best.kind, isDefault: longest == 0, best: interfaces,
                all: interfaces + others)
        }
        return Found(kind: .none, isDefault: false, best: [], all: [])
    }

    /// I9: RFC 3704 §2.
    private func isReverse(_ route: Found, _ state: InterfaceState) -> Bool {
        switch state.reversePath {
        case .off: true
        case .loose: route.kind == .unicast
        case .looseNoDefault: route.kind == .unicast && !route.isDefault
        case .feasible: route.kind == .unicast && route.all.contains(state.index)
        case .strict: route.kind == .unicast && route.best.contains(state.index)
        }
    }

    /// I7: the first destination that the packet fits.
    func destination(
        of inner: InnerPacket, _ tunnel: Tunnel, followsQuotes: Bool = true
    ) -> Destination? {
        tunnel.destinations.first { destination in
            guard destination.network.holds(inner.destination) else { return false }
            guard let number = destination.protocolNumber else { return true }
            if number == inner.protocolNumber {
                if destination.ports.isEmpty || inner.isLaterFragment { return true }
                guard Upper.withPorts.contains(number), inner.transportLength >= 4 else {
                    return false
                }
                let port = UInt16(word(inner.bytes, inner.transport + 2))
                return destination.ports.contains { $0.contains(port) }
            }
            guard followsQuotes, let quote = Quotation(inner), quote.protocolNumber == number else {
                return false
            }
            if destination.ports.isEmpty || quote.isLaterFragment { return true }
            guard let port = quote.sourcePort else { return false }
            return destination.ports.contains { $0.contains(port) }
        }
    }
}

/// The packet that an ICMP error is about, when the error's destination sent it.
struct Quotation {
    var protocolNumber: UInt8
    var isLaterFragment = false
    var sourcePort: UInt16?

    init?(_ inner: InnerPacket) {
        guard !inner.isFragment, inner.transportLength >= 8 + (inner.isIPv4 ? 20 : 40) else {
            return nil
        }
        let type = inner.bytes[inner.transport]
        let quoted = Array(inner.bytes[(inner.transport + 8)...])
        var offset: Int
        if inner.isIPv4 {
            // RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem.
            guard inner.protocolNumber == Upper.icmp, [3, 4, 5, 11, 12].contains(type) else {
                return nil
            }
            offset = Int(quoted[0] & 15) * 4
            guard quoted[0] >> 4 == 4, offset >= 20, Array(quoted[12..<16]) == inner.destination
            else { return nil }
            protocolNumber = quoted[9]
            isLaterFragment = word(quoted, 6) & 0x1fff != 0
        } else {
            // RFC 4443 §2.1: errors are below 128.
            guard inner.protocolNumber == Upper.icmpv6, type < 128 else { return nil }
            guard quoted[0] >> 4 == 6, Array(quoted[8..<24]) == inner.destination else {
                return nil
            }
            protocolNumber = quoted[6]
            offset = 40
            var count = 0
            while Upper.isExtension(protocolNumber), count < 8, quoted.count >= offset + 8,
                !isLaterFragment
            {
                let isFragment = protocolNumber == Upper.fragment
                if isFragment { isLaterFragment = word(quoted, offset + 2) & 0xfff8 != 0 }
                protocolNumber = quoted[offset]
                offset += isFragment ? 8 : (Int(quoted[offset + 1]) + 1) * 8
                count += 1
            }
        }
        if quoted.count >= offset + 2 { sourcePort = UInt16(word(quoted, offset)) }
    }
}
