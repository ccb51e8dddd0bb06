// A series of counters: a metric and the values of its labels.

/// What a value stands under.
struct Series: Hashable {
    let metric: String
    /// Values of the metric's labels.
    let labels: [String]
}
