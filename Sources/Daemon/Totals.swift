// Sums of counters, by series.

/// Sums that never go down, also when a reload brings new tunnels. Series by tunnel, device or
/// reason are there once they counted something: most combinations never do.
typealias Totals = [Series: UInt64]
