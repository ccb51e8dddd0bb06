// Why a frame is refused. Every reason has a name, which is a counter and a row in docs/counters.md.

import IP

/// Why a frame was refused. The order is the order of precedence: a frame that is wrong in two
/// ways has the reason that stands first. Spelled as `skb_drop_reason` where the kernel has one.
public enum DropReason: UInt8, CaseIterable, Sendable, Comparable {
    case none = 0
    case packetTooSmall
    case invalidHeader
    case invalidChecksum
    case badExtensionHeader
    case sourceRoute
    case fragmentOverlap
    case duplicateFragment
    case fragmentMemoryLimit
    case fragmentsDisabled
    case remoteNotAllowed
    case modeNotAllowed
    case tunnelECN
    case nestedTunnel
    case ttlExpired
    case invalidSource
    case localSource
    case reversePath
    case invalidDestination
    case destinationNotAllowed
    case packetTooBig
    case rateLimit
    case deviceFull
    case deviceError
    case gsoInvalid

    /// The spelling in verdicts, metrics and documents.
    public var name: String { Self.names[Int(rawValue)] }

    /// In the order of the cases.
    private static let names = [
        "none", "pkt_too_small", "ip_inhdr", "ip_csum", "ipv6_bad_exthdr", "ip_source_route",
        "frag_overlap", "dup_frag", "frag_mem_limit", "frag_disabled", "remote_not_allowed",
        "mode_not_allowed", "ip_tunnel_ecn", "tunnel_nested", "ip_ttl", "ip_invalid_source",
        "ip_local_source", "ip_rpfilter", "ip_invalid_dest", "destination_not_allowed", "pkt_too_big",
        "rate_limit", "device_full", "device_error", "gso_invalid",
    ]

    @inlinable @inline(__always)
    public static func < (left: DropReason, right: DropReason) -> Bool {
        left.rawValue < right.rawValue
    }

    /// Of two reasons that which stands first; `none` is none.
    @inline(__always)
    func first(_ other: DropReason) -> DropReason {
        self == .none || (other != .none && other < self) ? other : self
    }
}
