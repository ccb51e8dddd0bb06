// ProbePlan, how many probes are sent and how long each is waited for.

/// Times are nanoseconds.
public struct ProbePlan: Sendable {
    // Together they bound how many probes are open at once: fewer than there are tokens.
    public static let intervalMin: UInt64 = 1_000_000
    public static let timeoutMax: UInt64 = 15_000_000_000

    /// Probes per flow and try.
    public var count: Int
    /// Between two probes, of whatever flows.
    public var interval: UInt64
    public var timeout: UInt64
    /// Tries more for a flow whose probes were not all answered.
    public var retries: Int
    /// Bytes of the inner packet; nil: as few as there can be.
    public var length: Int?

    public init(count: Int, interval: UInt64, timeout: UInt64, retries: Int = 0, length: Int? = nil) {
        self.count = count
        self.interval = interval
        self.timeout = timeout
        self.retries = retries
        self.length = length
    }
}
