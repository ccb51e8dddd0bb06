// One route.

import IP

/// One route.
public struct RouteEntry: Hashable, Sendable {
    public var prefix: Prefix
    /// Routing table: 255 local, 254 main, 253 default (linux/rtnetlink.h `RT_TABLE_*`).
    public var table: UInt32
    public var kind: RouteKind
    /// Lower is preferred (`RTA_PRIORITY`).
    public var metric: UInt32
    /// `rtm_tos`; a route with one serves only packets that carry it. IPv4's alone.
    public var tos: UInt8
    /// ifindex of every nexthop, in the kernel's order.
    public var interfaces: [Int32]
    /// A hash of each nexthop's gateway, 0 where it has none: tells apart what is otherwise the same.
    public var gateways: [UInt32]

    public init(
        prefix: Prefix, table: UInt32, kind: RouteKind = .unicast, metric: UInt32 = 0,
        tos: UInt8 = 0, interfaces: [Int32], gateways: [UInt32] = []
    ) {
        precondition(gateways.isEmpty || gateways.count == interfaces.count)
        self.gateways = gateways.isEmpty ? interfaces.map { _ in 0 } : gateways
        self.prefix = prefix
        self.table = table
        self.kind = kind
        self.metric = metric
        self.tos = tos
        self.interfaces = interfaces
    }

    public static let tableDefault: UInt32 = 253
    public static let tableMain: UInt32 = 254
    public static let tableLocal: UInt32 = 255
}
