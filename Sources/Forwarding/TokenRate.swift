// A rate of packets, as tokens that several threads take.

import Synchronization

/// A bucket of `burst` tokens that fills at a steady rate. Its state is one atomic time stamp, 0 at first
/// (the generic cell rate algorithm, ITU-T I.371).
struct TokenRate: BitwiseCopyable {
    /// Nanoseconds that one token takes.
    private let interval: UInt64
    /// How far ahead of the clock the stamp may be when a token is taken.
    private let tolerance: UInt64
    /// How far it can be for a worker that read the clock `ageMax` ago. What is further ahead stems from
    /// before the clock went back.
    private let reach: UInt64
    /// Nanoseconds since a worker read the clock for its batch, at most.
    private static let ageMax: UInt64 = 1_000_000_000

    /// - Parameters:
    ///   - perSecond: at least 1, as `burst`.
    ///   - most: tokens that are taken at once, at most.
    init(perSecond: Int, burst: Int, most: Int = 1) {
        // Rounded up, so that the rate is never above what was asked for.
        interval = (1_000_000_000 + UInt64(perSecond) - 1) / UInt64(perSecond)
        tolerance = interval * UInt64(burst - 1)
        reach = tolerance + interval * UInt64(most) + Self.ageMax
    }

    /// Takes `count` tokens at once. One in the bucket is enough; the rest is a debt.
    /// - Parameter now: nanoseconds. Where the clock goes back, as that of a capture may, the bucket is full
    ///   again at the latest when `reach` is over.
    /// - Returns: whether there was one.
    func take(_ count: Int = 1, of stamp: UnsafeMutablePointer<Atomic<UInt64>>, now: UInt64) -> Bool {
        var old = stamp.pointee.load(ordering: .relaxed)
        while true {
            var start = max(old, now)
            if start &- now > tolerance {
                if start &- now <= reach { return false }
                start = now
            }
            let (isTaken, found) = stamp.pointee.weakCompareExchange(
                expected: old, desired: start &+ interval &* UInt64(count), ordering: .relaxed)
            if isTaken { return true }
            old = found
        }
    }
}
