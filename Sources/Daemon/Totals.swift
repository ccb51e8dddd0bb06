// Series of counters, by the values of their labels.

/// What a value stands under.
struct Series: Hashable {
    let metric: String
    /// Values of the metric's labels.
    let labels: [String]
}

/// Sums that never go down, also when a reload brings new tunnels. Series by tunnel, device or
/// reason are there once they counted something: most combinations never do.
typealias Totals = [Series: UInt64]
