// Links as the kernel tells of them: what decides where its routes lead.

/// A link as the kernel lists it.
public struct Link: Sendable, Equatable {
    public var index: Int32
    public var name: String
    /// Bytes of the largest IP packet.
    public var mtu: Int
    public var isUp: Bool
    /// linux/if_arp.h `ARPHRD_*`; 1 is Ethernet.
    public var hardwareType: UInt16
    public var group: UInt32 = 0
    /// ifindex of the bridge, bond or VRF that it is enslaved to; 0: none.
    public var master: Int32 = 0
    /// Of a VRF its table, else 0.
    public var vrfTable: UInt32 = 0
    public var state = LinkState()
    /// ifindex of the link of this namespace that it stands on, as a VLAN does; 0: none.
    public var lower: Int32 = 0
    /// As `ip -d link` has it: `vlan`, `bond`, `macvlan`; empty for hardware.
    public var kind = ""
    /// Of a VLAN its ID, else nil.
    public var vlanID: UInt16?
    /// Further names of the same link (`ip link property add altname`).
    public var otherNames: [String] = []

    public init(index: Int32, name: String, mtu: Int, isUp: Bool, hardwareType: UInt16) {
        self.index = index
        self.name = name
        self.mtu = mtu
        self.isUp = isUp
        self.hardwareType = hardwareType
    }
}

extension [Link] {
    package var byName: [String: Link] {
        Dictionary(map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    }
}

/// What decides whether routes through a link live. When any of it changes, the kernel removes, kills
/// or revives routes and nexthop objects of both families, mostly without a notice of each
/// (net/ipv4/fib_semantics.c `fib_sync_down_dev`, `fib_sync_up`; net/ipv4/nexthop.c
/// `nexthop_flush_dev`; net/ipv6/route.c `rt6_sync_down_dev`).
public struct LinkState: Sendable, Equatable {
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
