// How long what failed or is contested is left alone.

public enum Backoff {
    /// The first pause, in ns; each failure in a row doubles it: what fails for a moment is back soon.
    private static let first: UInt64 = 100_000_000
    /// The longest pause, in ns: an operator who mended the cause waits no longer.
    private static let longest: UInt64 = 10_000_000_000

    /// Doubles with each failure in a row: 100 ms to 10 s.
    public static func nanoseconds(failures: Int) -> UInt64 {
        // Seven doublings pass the longest.
        min(longest, first << UInt64(min(max(failures - 1, 0), 7)))
    }
}
