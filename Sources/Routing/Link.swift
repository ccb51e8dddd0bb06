// Links as the kernel tells of them: what decides where its routes lead.

/// A link as the kernel lists it.
public struct Link: Sendable, Equatable, Codable {
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
