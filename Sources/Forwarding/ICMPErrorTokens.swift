// How many ICMP errors are sent, at a rate that no flood can drive.

import Synchronization

/// A bucket of `burst` tokens that fills at a steady rate, as one time stamp that workers share (the
/// generic cell rate algorithm, ITU-T I.371).
public struct ICMPErrorTokens: @unchecked Sendable, BitwiseCopyable {
    /// Nanoseconds that one token takes.
    private let interval: UInt64
    /// How far ahead of the clock the stamp may run.
    private let tolerance: UInt64
    private let stamp: UnsafeMutablePointer<Atomic<UInt64>>

    /// To be deallocated when no worker takes of them any more.
    /// - Parameter perSecond: at least 1, as `burst`.
    public init(perSecond: Int, burst: Int) {
        interval = 1_000_000_000 / UInt64(perSecond)
        tolerance = interval * UInt64(burst - 1)
        stamp = .allocate(capacity: 1)
        stamp.initialize(to: Atomic(0))
    }

    public func deallocate() {
        stamp.deinitialize(count: 1)
        stamp.deallocate()
    }

    /// - Parameter now: nanoseconds of a clock that does not go back.
    /// - Returns: whether there was one.
    func take(now: UInt64) -> Bool {
        var old = stamp.pointee.load(ordering: .relaxed)
        while true {
            let start = max(old, now)
            if start &- now > tolerance { return false }
            let (isTaken, found) = stamp.pointee.weakCompareExchange(
                expected: old, desired: start &+ interval, ordering: .relaxed)
            if isTaken { return true }
            old = found
        }
    }
}
