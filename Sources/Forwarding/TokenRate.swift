// A rate of packets, as tokens that several threads take.

import Synchronization

/// A bucket of `burst` tokens that fills at a steady rate. Its state is one atomic time stamp, 0 at first
/// (the generic cell rate algorithm, ITU-T I.371).
struct TokenRate: BitwiseCopyable {
    /// Nanoseconds that one token takes.
    private let interval: UInt64
    /// How far ahead of the clock the stamp may run.
    private let tolerance: UInt64

    /// - Parameter perSecond: at least 1, as `burst`.
    init(perSecond: Int, burst: Int) {
        // Rounded up, so that the rate is never above what was asked for.
        interval = (1_000_000_000 + UInt64(perSecond) - 1) / UInt64(perSecond)
        tolerance = interval * UInt64(burst - 1)
    }

    /// Takes `count` tokens at once. One in the bucket is enough; the rest is a debt.
    /// - Parameter now: nanoseconds of a clock that does not go back.
    /// - Returns: whether there was one.
    func take(_ count: Int = 1, of stamp: UnsafeMutablePointer<Atomic<UInt64>>, now: UInt64) -> Bool {
        var old = stamp.pointee.load(ordering: .relaxed)
        while true {
            let start = max(old, now)
            if start &- now > tolerance { return false }
            let (isTaken, found) = stamp.pointee.weakCompareExchange(
                expected: old, desired: start &+ interval &* UInt64(count), ordering: .relaxed)
            if isTaken { return true }
            old = found
        }
    }
}
