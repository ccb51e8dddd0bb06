// What workers counted, as values.

struct DaemonCounts: Sendable {
    struct Worker: Sendable {
        var number: Int
        /// Frames that the kernel had no room for.
        var ringDropped: UInt64
        /// Frames that a capture had no room for.
        var captureDropped: UInt64
        var cpuSeconds: Double
        /// End of its last batch, Unix time; 0: none.
        var lastProgressUnix: Double
    }

    var totals: Totals
    var workers: [Worker] = []
}
