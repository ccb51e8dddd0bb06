// Percentiles of round trips.

import Testing

@testable import Probing

@Suite struct RoundTripTests {
    @Test func percentilesAreOfTheNearestRank() {
        let times = RoundTrips((1...100).shuffled().map(UInt64.init))
        #expect(times.percentile(50) == 50)
        #expect(times.percentile(90) == 90)
        #expect(times.percentile(99) == 99)
        #expect(times.percentile(0) == 1)
        #expect(times.percentile(100) == 100)
        let few = RoundTrips([30, 10, 20])
        #expect([50, 90, 99].map { few.percentile($0) } == [20, 30, 30])
        #expect((few.percentile(0), few.largest) == (10, 30))
    }

    @Test func withoutTimesThereAreNone() {
        #expect(RoundTrips().percentile(50) == nil)
        #expect(RoundTrips().largest == nil)
    }
}
