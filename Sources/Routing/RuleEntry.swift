// Policy rules.

import IP

/// One policy rule, as `ip rule` lists it (linux/fib_rules.h `FRA_*`).
public struct RuleEntry: Hashable, Sendable, Codable {
    public enum Action: Hashable, Sendable, Codable {
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

extension RuleEntry {
    /// Whether the kernel has to look into a packet for it.
    var asksForPorts: Bool {
        protocolNumber != 0 || sourcePorts != nil || destinationPorts != nil
    }
}

extension [RuleEntry] {
    /// Those of a family, in the order of the walk.
    func walked(isIPv4: Bool) -> [RuleEntry] {
        enumerated().filter { $0.element.isIPv4 == isIPv4 }.sorted {
            ($0.element.priority, $0.offset) < ($1.element.priority, $1.offset)
        }.map(\.element)
    }

    /// The kernel looks at protocol and ports only where a rule other than `iif lo` asks for them
    /// (net/ipv4/fib_rules.c `fib_rule_requires_fldissect`).
    var dissects: Bool { contains { $0.asksForPorts && $0.inputInterface != "lo" } }
}
