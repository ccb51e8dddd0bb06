// Choices of a policy: ReversePathMode, MSSClamp, ECNMode and FieldMode.

/// Reverse-path modes (RFC 3704 §2, and the kernel's rp_filter 0/1/2).
public enum ReversePathMode: UInt8, CaseIterable, Sendable, Hashable, BitwiseCopyable {
    case off = 0
    /// Any unicast route to the source.
    case loose = 1
    /// As `loose`, but a default route does not count (RFC 3704 §2.5).
    case looseNoDefault = 2
    /// Any path to the source's prefix, also the not-best, leaves by the interface (§2.3).
    case feasible = 3
    /// The best route, or any nexthop of a multipath one, leaves by the interface (§2.2).
    case strict = 4
}

/// How the MSS option of SYN and SYN-ACK segments is bounded. Values in bytes.
public enum MSSClamp: Sendable, Hashable {
    case off
    /// Link MTU - outer header - inner IP header - 20.
    case auto
    case fixed(UInt16)
}

/// What becomes of the outer header's ECN bits.
public enum ECNMode: UInt8, CaseIterable, Sendable, BitwiseCopyable { case standard, copy, pipe }

/// What becomes of a field that the outer header also has (RFC 2983 for DSCP).
public enum FieldMode: UInt8, CaseIterable, Sendable, BitwiseCopyable { case pipe, uniform }
