// Settings of a network namespace that concern all of its devices.

public struct NamespaceFacts: Sendable, Equatable, Codable {
    public var forwardsIPv4 = true
    /// nil: the kernel has no IPv6.
    public var forwardsIPv6: Bool? = true
    /// `net.ipv6.conf.all.disable_ipv6`.
    public var isIPv6Off = false

    public init() {}
}
