// Routes, rules, nexthops and changes of links as rtnetlink tells of them, in its own numbers.

import CLinux
import Glibc
import Routing

/// What one notice says of a link, in the order told.
public struct LinkChange: Sendable, Equatable {
    public var index: Int32
    /// nil: it is gone.
    public var state: LinkState?
}

/// A route as the kernel lists it; numbers as in linux/rtnetlink.h.
public struct KernelRoute: Sendable, Equatable {
    public var isIPv4: Bool
    /// Network byte order; empty for a default route.
    public var destination: [UInt8]
    public var length: Int
    public var table: UInt32
    public var type: UInt8
    public var metric: UInt32
    public var tos: UInt8
    /// ifindex of each nexthop.
    public var interfaces: [Int32]
    /// Number of the nexthop object that it uses; 0: none.
    public var nexthop: UInt32 = 0
    /// All its nexthops are dead: no lookup finds it.
    public var isDead = false
    /// An IPv6 route for packets from some prefix only (`from`).
    public var isSourceSpecific = false
    /// A hash of each nexthop's gateway, 0 where it has none; as many as `interfaces`.
    public var gateways: [UInt32] = []

    package init(
        isIPv4: Bool, destination: [UInt8], length: Int, table: UInt32, type: UInt8, metric: UInt32,
        tos: UInt8, interfaces: [Int32]
    ) {
        self.isIPv4 = isIPv4
        self.destination = destination
        self.length = length
        self.table = table
        self.type = type
        self.metric = metric
        self.tos = tos
        self.interfaces = interfaces
    }

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
        for hop in hops where isIPv4 || !hop.isDead {
            interfaces.append(hop.interface)
            gateways.append(hop.gateway)
        }
    }

    /// FNV-1a.
    static func hash(_ gateway: UnsafeRawBufferPointer) -> UInt32 {
        gateway.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 }
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

/// A policy rule as the kernel lists it; numbers as in linux/fib_rules.h.
public struct KernelRule: Sendable, Equatable {
    public var isIPv4: Bool
    /// `FR_ACT_*`.
    public var action: UInt8
    public var isInverted = false
    public var priority: UInt32 = 0
    public var table: UInt32 = 0
    public var target: UInt32 = 0
    /// Network byte order; empty: any.
    public var source: [UInt8] = []
    public var sourceLength = 0
    public var destination: [UInt8] = []
    public var destinationLength = 0
    public var inputInterface: String?
    public var outputInterface: String?
    public var tos: UInt8 = 0
    public var dscp: UInt8?
    public var dscpMask: UInt8 = 63
    public var mark: UInt32 = 0
    public var markMask: UInt32 = 0
    public var protocolNumber: UInt8 = 0
    public var sourcePorts: ClosedRange<UInt16>?
    public var destinationPorts: ClosedRange<UInt16>?
    public var users: ClosedRange<UInt32>?
    public var tunnelID: UInt64 = 0
    public var isL3mdev = false
    /// -1: none.
    public var suppressPrefixLength: Int32 = -1
    public var suppressGroup: UInt32?

    init(isIPv4: Bool, action: UInt8) {
        self.isIPv4 = isIPv4
        self.action = action
    }

    // Of Linux 6.13 and 6.16; older headers lack them.
    private static let dscpAttribute = 25
    private static let dscpMaskAttribute = 30

    mutating func take(_ type: Int, _ value: UnsafeRawBufferPointer) {
        func word() -> UInt32 { value.count >= 4 ? value.loadUnaligned(as: UInt32.self) : 0 }
        func byte() -> UInt8 { value.first ?? 0 }
        func range<T: BitwiseCopyable & Comparable>(_: T.Type) -> ClosedRange<T>? {
            guard value.count >= 2 * MemoryLayout<T>.size else { return nil }
            let low = value.loadUnaligned(as: T.self)
            let high = value.loadUnaligned(fromByteOffset: MemoryLayout<T>.size, as: T.self)
            return low <= high ? low...high : nil
        }
        switch type {
        case Int(FRA_DST): destination = Array(value)
        case Int(FRA_SRC): source = Array(value)
        case Int(FRA_IIFNAME): inputInterface = text(value)
        case Int(FRA_OIFNAME): outputInterface = text(value)
        case Int(FRA_GOTO): target = word()
        case Int(FRA_PRIORITY): priority = word()
        case Int(FRA_FWMARK): mark = word()
        case Int(FRA_FWMASK): markMask = word()
        case Int(FRA_TUN_ID) where value.count >= 8:
            tunnelID = UInt64(bigEndian: value.loadUnaligned(as: UInt64.self))
        case Int(FRA_SUPPRESS_IFGROUP): suppressGroup = word() == .max ? nil : word()
        case Int(FRA_SUPPRESS_PREFIXLEN): suppressPrefixLength = Int32(bitPattern: word())
        case Int(FRA_TABLE): table = word()
        case Int(FRA_L3MDEV): isL3mdev = byte() != 0
        case Int(FRA_UID_RANGE): users = range(UInt32.self)
        case Int(FRA_IP_PROTO): protocolNumber = byte()
        case Int(FRA_SPORT_RANGE): sourcePorts = range(UInt16.self)
        case Int(FRA_DPORT_RANGE): destinationPorts = range(UInt16.self)
        case Self.dscpAttribute: dscp = byte()
        case Self.dscpMaskAttribute: dscpMask = byte()
        default: break
        }
    }

    private func text(_ value: UnsafeRawBufferPointer) -> String {
        String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)
    }
}

/// A change of one route, in the order told.
public struct KernelRouteChange: Sendable, Equatable {
    public var route: KernelRoute
    public var isNew: Bool
    /// Of a new one: it took the place of the first of its prefix, TOS and metric, or stands behind
    /// them (`NLM_F_REPLACE`, `NLM_F_APPEND`).
    public var isReplacing: Bool
    public var isAppended: Bool
}

/// What notices told of.
public struct KernelNotices: Sendable, Equatable {
    /// Some did not fit the socket's buffer (ENOBUFS): only new dumps tell what is.
    public var areLost = false
    public var links = false
    /// An address went: routes may have gone with it, of which nobody tells.
    public var goneAddresses = false
    public var addresses = false
    /// Each link that is told of, as it then was.
    public var linkChanges: [LinkChange] = []
    /// `ignore_routes_with_linkdown` changed somewhere: routes died or live again.
    public var linkdownRule = false
    /// Forwarding or a reverse-path filter changed somewhere.
    public var settings = false
    public var rules = false
    public var nexthops = false
    public var routes: [KernelRouteChange] = []

    public init() {}

    public var isEmpty: Bool { self == KernelNotices() }

    /// Whether more than routes, rules and nexthops may have changed.
    public var concernsLinks: Bool { areLost || links || addresses || goneAddresses }

    /// Adds that links, addresses or settings changed; not what became of routes and of each link.
    public mutating func addWhatConcernsLinks(of other: KernelNotices) {
        links = links || other.links || other.areLost
        addresses = addresses || other.addresses || other.goneAddresses
        settings = settings || other.settings || other.areLost
    }

    mutating func take(_ message: UnsafeRawBufferPointer) {
        let (type, flags) = NetlinkAnswer.type(of: message)
        switch type {
        case Int(RTM_NEWLINK), Int(RTM_DELLINK):
            links = true
            if let change = NetlinkAnswer.linkChange(message) { linkChanges.append(change) }
        case Int(RTM_NEWNETCONF):
            let told = NetlinkAnswer.settings(message)
            settings = settings || told.forwarding || told.reversePath
            // A link that has just come is told of with all of its settings: it has no routes yet.
            linkdownRule = linkdownRule || told.linkdown && !told.forwarding
        case Int(RTM_NEWADDR): addresses = true
        case Int(RTM_DELADDR): goneAddresses = true
        case Int(RTM_NEWRULE), Int(RTM_DELRULE): rules = true
        case Int(RTM_NEWNEXTHOP), Int(RTM_DELNEXTHOP): nexthops = true
        case Int(RTM_NEWROUTE), Int(RTM_DELROUTE):
            guard let route = NetlinkAnswer.route(message) else { return }
            routes.append(
                KernelRouteChange(
                    route: route, isNew: type == Int(RTM_NEWROUTE),
                    isReplacing: flags & UInt16(NLM_F_REPLACE) != 0,
                    isAppended: flags & UInt16(NLM_F_APPEND) != 0))
        default: break
        }
    }
}
