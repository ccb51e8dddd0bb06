// What a table holds for one prefix: where a route leads, and in which order it is asked.

import IP

/// One route of a prefix, without what all routes of the prefix share.
struct RouteSpec: Hashable, Sendable {
    var kind: RouteKind
    var metric: UInt32
    var tos: UInt8
    var interfaces: [Int32]
    /// As many as interfaces.
    var gateways: [UInt32]

    init(_ entry: RouteEntry) {
        kind = entry.kind
        metric = entry.metric
        tos = entry.tos
        interfaces = entry.interfaces
        gateways = entry.gateways
    }
}

extension RouteSpec {
    func entry(_ prefix: Prefix, _ table: UInt32) -> RouteEntry {
        RouteEntry(
            prefix: prefix, table: table, kind: kind, metric: metric, tos: tos,
            interfaces: interfaces, gateways: gateways)
    }

    /// What decides whether an IPv6 route may be one of several (`rt6_qualify_for_ecmp`).
    var hasGateway: Bool { gateways.contains { $0 != 0 } }

    private func place(ofHop index: Int, of other: RouteSpec) -> Int? {
        interfaces.indices.first {
            interfaces[$0] == other.interfaces[index] && gateways[$0] == other.gateways[index]
        }
    }

    var isSingle: Bool { interfaces.count <= 1 }

    /// Takes out what it has of the other's nexthops.
    /// - Returns: whether it had them all.
    @discardableResult
    mutating func removeHops(of other: RouteSpec) -> Bool {
        var hadAll = true
        for index in other.interfaces.indices {
            if let place = place(ofHop: index, of: other) {
                interfaces.remove(at: place)
                gateways.remove(at: place)
            } else {
                hadAll = false
            }
        }
        return hadAll
    }

    func holdsHops(of other: RouteSpec) -> Bool {
        var rest = self
        return rest.removeHops(of: other)
    }
}
