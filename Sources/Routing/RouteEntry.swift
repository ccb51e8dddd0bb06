// Routes and policy rules as the kernel's dumps or iproute2's JSON give them.

import IP

/// The kernel's route types, linux/rtnetlink.h `RTN_*`, with its numbers.
public enum RouteKind: UInt8, Sendable, Hashable, BitwiseCopyable {
    case none = 0
    case unicast = 1
    case local = 2
    case broadcast = 3
    case anycast = 4
    case multicast = 5
    case blackhole = 6
    case unreachable = 7
    case prohibit = 8
    case `throw` = 9
}

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

/// A nexthop object (linux/nexthop.h), single or a group.
package struct KernelNexthop: Sendable, Equatable {
    package var id: UInt32 = 0
    package var interface: Int32?
    package var members: [UInt32] = []

    package init() {}

    /// By number, the interfaces that each of these comes to.
    package static func interfaces(_ objects: [UInt32: KernelNexthop]) -> [UInt32: [Int32]] {
        objects.mapValues { one in
            (one.members.isEmpty ? [one] : one.members.compactMap { objects[$0] })
                .compactMap(\.interface)
        }
    }
}

/// One policy rule, as `ip rule` lists it (linux/fib_rules.h `FRA_*`).
public struct RuleEntry: Hashable, Sendable {
    public enum Action: Hashable, Sendable {
        case lookup(UInt32)
        /// On to the first rule of that priority, which stands behind this one.
        case goto(UInt32)
        case nop
        /// `blackhole`, `unreachable` or `prohibit`: no route, and the walk ends.
        case refuse(RouteKind)
    }
    public var isIPv4: Bool
    /// The smallest comes first; of equal ones the first listed.
    public var priority: UInt32
    public var action: Action
    /// `not`: the rule matches what its selectors do not.
    public var isInverted = false
    public var from: Prefix?
    public var to: Prefix?
    public var inputInterface: String?
    public var outputInterface: String?
    /// The old selector `tos`: of IPv4 the four TOS bits, of IPv6 the whole DSCP field; 0: any.
    public var tos: UInt8 = 0
    /// The selector `dscp` of Linux 6.13 on: six bits; nil: any.
    public var dscp: UInt8?
    public var dscpMask: UInt8 = 63
    public var mark: UInt32 = 0
    public var markMask: UInt32 = 0
    /// 0: any.
    public var protocolNumber: UInt8 = 0
    public var sourcePorts: ClosedRange<UInt16>?
    public var destinationPorts: ClosedRange<UInt16>?
    public var users: ClosedRange<UInt32>?
    public var tunnelID: UInt64 = 0
    /// Selects by the VRF of the interface, and looks its table up.
    public var isL3mdev = false
    /// Routes of prefixes up to this length do not count; -1: all count.
    public var suppressPrefixLength: Int32 = -1
    /// Routes by a device of this group do not count; nil: all count.
    public var suppressGroup: UInt32?

    public init(isIPv4: Bool, priority: UInt32, action: Action) {
        self.isIPv4 = isIPv4
        self.priority = priority
        self.action = action
    }

    /// The rules that a namespace begins with (net/ipv4/fib_rules.c `fib_default_rules_init`,
    /// net/ipv6/fib6_rules.c `fib6_rules_net_init`): IPv6 has no table `default`.
    public static let kernelDefaults: [RuleEntry] = [
        RuleEntry(isIPv4: true, priority: 0, action: .lookup(RouteEntry.tableLocal)),
        RuleEntry(isIPv4: true, priority: 32766, action: .lookup(RouteEntry.tableMain)),
        RuleEntry(isIPv4: true, priority: 32767, action: .lookup(RouteEntry.tableDefault)),
        RuleEntry(isIPv4: false, priority: 0, action: .lookup(RouteEntry.tableLocal)),
        RuleEntry(isIPv4: false, priority: 32766, action: .lookup(RouteEntry.tableMain)),
    ]
}

/// What the kernel asks of a packet's source, its roles swapped (net/ipv4/fib_frontend.c
/// `__fib_validate_source`; for IPv6, which has no such check, netfilter's `fib saddr . iif`,
/// net/ipv6/netfilter/nft_fib_ipv6.c).
public struct ReversePathQuestion: BitwiseCopyable, Sendable {
    /// The packet's source: what a route is looked up for, and a rule's `to` meets.
    public var source: Address
    /// The packet's destination: what a rule's `from` meets.
    public var destination: Address
    /// The packet's TOS or traffic class, ECN included.
    public var tos: UInt8
    public var protocolNumber: UInt8
    /// The packet's ports, 0 where it shows none. A rule's `sport` meets the destination's.
    public var sourcePort: UInt16
    public var destinationPort: UInt16
    /// Table of the VRF that the interface is in; 0: none.
    public var vrf: UInt32

    @inlinable @inline(__always)
    public init(
        source: Address, destination: Address, tos: UInt8 = 0, protocolNumber: UInt8 = 0,
        sourcePort: UInt16 = 0, destinationPort: UInt16 = 0, vrf: UInt32 = 0
    ) {
        self.source = source
        self.destination = destination
        self.tos = tos
        self.protocolNumber = protocolNumber
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.vrf = vrf
    }
}
