// A BPF program or filter that sees frames before the IP stack does.

/// One program at the entrance of an interface.
public struct EntranceProgram: Sendable, Equatable, Codable {
    /// In the order in which a frame meets them. Packet sockets stand before `tcx`.
    public enum Hook: String, Sendable, Codable, CaseIterable {
        // As iproute2 calls XDP in the NIC, in its driver and behind it.
        case xdpoffload, xdp, xdpgeneric
        case tcx
        /// A filter of traffic control at the ingress of clsact or ingress.
        case clsact
    }

    /// The kernel's name of shuck's own program at tcx.
    public static let claim = "shuck_claim"

    public let hook: Hook
    /// As its owner called it; its number where it has no name.
    public let name: String

    public init(hook: Hook, name: String) {
        self.hook = hook
        self.name = name
    }
}
