// What one engine hands to the next of its counting.

/// What an engine has counted, as values.
struct EngineCount: Codable {
    struct Value: Codable {
        var metric: String
        var labels: [String]
        var value: UInt64
    }
    var totals: [Value]
    /// By worker, without what rings that are held count themselves.
    var ringDrops: [Int: UInt64]
    var cpuNanoseconds: [Int: UInt64]
    var routeChanges: UInt64
    /// By `ResyncCause`.
    var routeResyncs: [String: UInt64]
}
