// What a lookup finds.

/// Equal answers of many prefixes share one record.
public struct RouteRecord: BitwiseCopyable, Sendable {
    public let kind: RouteKind
    /// The prefix was of length 0.
    public let isDefault: Bool
    /// Interfaces of the preferred route stand first, those of the others of its prefix after.
    @usableFromInline let bestCount: UInt16
    @usableFromInline let allCount: UInt16
    @usableFromInline let firstHop: UInt32
    /// Group of the first nexthop's device.
    @usableFromInline let group: UInt32

    /// Whether the preferred route leaves by any device: one by a nexthop that is not known does not.
    @inlinable @inline(__always)
    public var hasInterface: Bool { bestCount > 0 }
}
