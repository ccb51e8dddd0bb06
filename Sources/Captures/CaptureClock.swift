// The clock that a replay runs by.

/// A clock made of a capture's times, which may jump in a damaged file and go back in a merged one.
public struct CaptureClock {
    /// Nanoseconds that one step counts at most: the longest `outer.fragments.timeout`.
    public static let stepMax: UInt64 = 300_000_000_000

    /// Nanoseconds; never goes back. Far from both ends of its range.
    public private(set) var now: UInt64 = 1 << 60
    private var reference: UInt64?

    public init() {}

    /// A step forward counts as what it is, but no more than `stepMax`; one back counts as none, and
    /// when it is longer than that, what follows is counted from there.
    public mutating func advance(to time: UInt64) {
        defer { reference = reference ?? time }
        guard let last = reference else { return }
        if time >= last {
            now &+= min(time &- last, Self.stepMax)
            reference = time
        } else if last &- time > Self.stepMax {
            reference = time
        }
    }
}
