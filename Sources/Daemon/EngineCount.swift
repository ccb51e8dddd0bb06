// What one engine hands to the next of its counting.

/// What an engine has counted, as values.
struct EngineCount: Codable, Equatable {
    struct Value: Codable, Hashable {
        var metric: String
        var labels: [String]
        var value: UInt64
    }
    var totals: [Value] = []
    /// By worker, without what rings that are held count themselves.
    var ringDrops: [Int: UInt64] = [:]
    var cpuNanoseconds: [Int: UInt64] = [:]
    var routeChanges: UInt64 = 0
    /// By `ResyncCause`.
    var routeResyncs: [String: UInt64] = [:]

    var sums: Totals {
        totals.reduce(into: [:]) { $0[Series(metric: $1.metric, labels: $1.labels), default: 0] += $1.value }
    }
}
