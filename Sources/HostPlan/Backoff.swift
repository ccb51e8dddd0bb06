// How long shuck waits before it tries again what failed.

public enum Backoff {
    /// The first pause, in ns; each failure in a row doubles it. A short fault is over soon.
    private static let first: UInt64 = 100_000_000
    /// The longest pause, in ns: how long an operator waits at most after the cause is removed.
    private static let longest: UInt64 = 10_000_000_000

    /// Doubles with each failure in a row: 100 ms to 10 s.
    public static func nanoseconds(failures: Int) -> UInt64 {
        // Seven doublings pass the longest.
        min(longest, first << UInt64(min(max(failures - 1, 0), 7)))
    }

    /// Something that failed: how often in a row, and when it is tried again.
    public struct Retry: Sendable {
        public let failures: Int
        /// CLOCK_MONOTONIC.
        public let dueNanoseconds: UInt64

        public init(after last: Retry?, now: UInt64) {
            failures = (last?.failures ?? 0) + 1
            dueNanoseconds = now + Backoff.nanoseconds(failures: failures)
        }
    }
}
