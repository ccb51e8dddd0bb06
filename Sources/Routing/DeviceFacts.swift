// What the kernel holds of a TUN device, and of the namespace that it stands in: anyone may change it.

public struct DeviceFacts: Sendable, Equatable, Codable {
    public var isUp: Bool
    public var mtu: Int
    /// Its own `rp_filter`; nil: it has no IPv4.
    public var reversePath: Int?
    /// Its own `forwarding` of IPv4, by which the kernel decides about what it brings in.
    public var forwardsIPv4 = false
    /// It has IPv6, and that is not switched off.
    public var hasIPv6 = false
    /// The address that it was given.
    public var hasAddress = false
    public var namespace = NamespaceFacts()

    public init(isUp: Bool, mtu: Int) {
        self.isUp = isUp
        self.mtu = mtu
    }
}
