// What workers counted, as series that never go down.

/// What a value stands under.
struct Series: Hashable {
    let metric: String
    /// Values of the metric's labels.
    let labels: [String]
}

/// Sums that never go down, also when a reload brings new tunnels. Series by tunnel, device or
/// reason are there once they counted something: most combinations never do.
typealias Totals = [Series: UInt64]

/// What is counted, as values.
struct DaemonCounts: Sendable {
    struct Worker: Sendable {
        var number: Int
        /// Frames that the kernel had no room for.
        var ringDropped: UInt64
        var cpuSeconds: Double
        /// End of its last batch, Unix time; 0: none.
        var lastProgressUnix: Double
    }

    var totals: Totals
    var workers: [Worker] = []
}
