// A route as rtnetlink or iproute2 tell of it.

/// A route as rtnetlink or iproute2 tells of it: no lookup finds some of them, and some have their
/// nexthops elsewhere.
public struct KernelRoute: Sendable, Equatable {
    public var entry: RouteEntry
    /// Number of the nexthop object that it uses; 0: none.
    public var nexthop: UInt32 = 0
    /// All its nexthops are dead: no lookup finds it.
    public var isDead = false
    /// An IPv6 route for packets from some prefix only (`from`).
    public var isSourceSpecific = false

    package init(_ entry: RouteEntry) { self.entry = entry }

    package struct Hop {
        package var interface: Int32
        package var gateway: UInt32
        package var isDead: Bool

        package init(interface: Int32, gateway: UInt32 = 0, isDead: Bool) {
            self.interface = interface
            self.gateway = gateway
            self.isDead = isDead
        }
    }

    /// Several nexthops. IPv4 accepts what comes in by a dead nexthop of a route that lives
    /// (`fib_info_nh_uses_dev`); IPv6 passes it over (`rt6_multipath_rebalance`).
    package mutating func take(_ hops: [Hop]) {
        isDead = !hops.isEmpty && hops.allSatisfy(\.isDead)
        for hop in hops where entry.prefix.isIPv4 || !hop.isDead {
            entry.interfaces.append(hop.interface)
            entry.gateways.append(hop.gateway)
        }
    }

    /// What lookups find of it; nil: they do not.
    /// - Parameter nexthops: by number, the interfaces that each nexthop object comes to.
    package func found(_ nexthops: [UInt32: [Int32]]) -> RouteEntry? {
        guard !isDead, !isSourceSpecific else { return nil }
        guard entry.interfaces.isEmpty, let interfaces = nexthops[nexthop] else { return entry }
        var entry = entry
        entry.interfaces = interfaces
        entry.gateways = interfaces.map { _ in 0 }
        return entry
    }
}
