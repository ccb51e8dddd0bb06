// What of a device is not as shuck set it.

/// Something of a device that is not as shuck set it.
public struct DeviceDeviation: Hashable, Sendable {
    /// What is told apart in counting how often something was changed.
    public enum Aspect: Sendable { case state, mtu, reversePath, address, forwarding, ipv6 }

    public let aspect: Aspect
    public let text: String

    /// Packets are lost by it. A TUN takes packets of any size from shuck.
    var isBlocking: Bool { aspect != .mtu }
}
