// How long a worker spins follows how soon frames come.

import Testing

@testable import Daemon

@Suite struct BusyPollTests {
    @Test func sparseTrafficEndsTheSpinning() {
        var poll = BusyPoll(limit: 50_000)
        #expect(poll.window == 50_000)
        var windows: [UInt64] = []
        for _ in 0..<17 {
            poll.note(gap: 1_000_000_000)
            windows.append(poll.window)
        }
        #expect(windows.prefix(3) == [25_000, 12_500, 6250])
        #expect(windows.last == 0)
    }

    @Test func aFrameInTimeBringsItBackWhole() {
        var poll = BusyPoll(limit: 50_000)
        for _ in 0..<17 { poll.note(gap: 50_001) }
        #expect(poll.window == 0)
        poll.note(gap: 50_000)
        #expect(poll.window == 50_000)
    }

    @Test func noneIsNone() {
        var poll = BusyPoll(limit: 0)
        poll.note(gap: 0)
        poll.note(gap: 1)
        #expect(poll.window == 0)
    }
}
