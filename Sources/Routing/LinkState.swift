// What of a link decides which of its routes count.

/// What decides whether routes through a link live. When any of it changes, the kernel removes, kills
/// or revives routes and nexthop objects of both families, mostly without a notice of each
/// (net/ipv4/fib_semantics.c `fib_sync_down_dev`, `fib_sync_up`; net/ipv4/nexthop.c
/// `nexthop_flush_dev`; net/ipv6/route.c `rt6_sync_down_dev`).
public struct LinkState: Sendable, Equatable, Codable {
    /// `IFF_UP`, `IFF_RUNNING`, `IFF_LOWER_UP` and `IFF_DORMANT`.
    public var flags: UInt32 = 0
    /// `IF_OPER_*`, linux/if.h; nil: not told.
    public var operational: UInt8?
    /// How often the carrier came or went: two changes between two looks show in nothing else.
    public var carrierChanges: UInt32 = 0
    /// See `Link.master`. A link that joins a VRF or leaves it is set down and up.
    public var master: Int32 = 0

    /// The bits of `ifi_flags` that `flags` keeps.
    public static let flagsMask: UInt32 = 1 << 0 | 1 << 6 | 1 << 16 | 1 << 17

    public init() {}
}
