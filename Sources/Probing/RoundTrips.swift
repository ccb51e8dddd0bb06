// Round-trip times, and their percentiles.

/// Times from a probe to its answer, in nanoseconds.
public struct RoundTrips: Sendable, Equatable {
    private var times: [UInt64] = []

    public init(_ times: [UInt64] = []) {
        for time in times { add(time) }
    }

    public mutating func add(_ time: UInt64) {
        let place = times.firstIndex { $0 > time } ?? times.endIndex
        times.insert(time, at: place)
    }

    /// The smallest time that so many percent of all times do not exceed (nearest rank); nil without any.
    public func percentile(_ percent: Int) -> UInt64? {
        guard !times.isEmpty else { return nil }
        let rank = (times.count * percent + 99) / 100
        return times[min(max(rank, 1), times.count) - 1]
    }

    public var largest: UInt64? { times.last }
}
