// What became of an order.

struct EngineAnswer: Codable {
    /// Why it was not done.
    var failure: [String]?
    /// Of another configuration.
    var outcome: ReloadOutcome?
    /// What it runs with instead of what was asked for.
    var fallbacks: [String] = []
    /// Workers that have not ended.
    var left: [String] = []
    /// With all that its counters hold, once workers have ended.
    var count: EngineCount?
}
