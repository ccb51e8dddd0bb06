// One answer of /metrics, as values.

struct Scrape: Sendable {
    let view: DaemonView
    let counts: DaemonCounts
    let usage: (residentBytes: Int, cpuSeconds: Double, descriptors: Int)
    var state: DaemonState { view.state }
}
