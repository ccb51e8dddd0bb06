// What a worker is given and how it shares it out: turns of rings, memory, files, patience.

import Forwarding
import Glibc
import Settings
import Testing

@testable import Daemon
@testable import LinuxIO

@Suite struct RingTurnTests {
    /// Takes batches from rings that hold so many frames each.
    private struct Rings {
        var waiting: [Int]
        var turns = RingTurns()

        /// The frames of a batch by ring, in the order in which they were taken.
        mutating func batch(_ size: Int = 64) -> [(ring: Int, frames: Int)] {
            var served: [(ring: Int, frames: Int)] = []
            let busy = waiting.filter { $0 > 0 }.count
            let count = turns.serve(rings: waiting.count, busy: busy, batch: size) { ring, limit in
                #expect(limit > 0)
                let taken = min(limit, waiting[ring])
                waiting[ring] -= taken
                if taken > 0 { served.append((ring, taken)) }
                return taken
            }
            #expect(count == served.reduce(0) { $0 + $1.frames })
            return served
        }
    }

    @Test func aBacklogDelaysNoOtherRing() {
        for rings in 2...64 {
            for other in 1..<rings {
                var all = Rings(waiting: [Int](repeating: 0, count: rings))
                all.waiting[0] = 6000
                _ = all.batch()
                all.waiting[other] = 1
                #expect(all.batch().contains { $0.ring == other })
            }
        }
    }

    @Test func backlogsShareABatchEvenly() {
        var two = Rings(waiting: [1000, 1000, 0])
        for _ in 0..<10 {
            let served = two.batch()
            #expect(served.filter { $0.ring == 0 }.reduce(0) { $0 + $1.frames } == 32)
            #expect(served.filter { $0.ring == 1 }.reduce(0) { $0 + $1.frames } == 32)
        }
    }

    @Test func whatOneDoesNotNeedIsTheOthers() {
        var rings = Rings(waiting: [5, 1000])
        #expect(rings.batch().reduce(0) { $0 + $1.frames } == 64)
        #expect(rings.waiting == [0, 941])
        #expect(rings.batch().reduce(0) { $0 + $1.frames } == 64)
        var last = Rings(waiting: [3, 4])
        #expect(last.batch().reduce(0) { $0 + $1.frames } == 7)
        #expect(last.batch().isEmpty)
    }

    /// With more rings than a batch has frames, each is served before one is served again.
    @Test func manyRingsAreServedInTurn() {
        var rings = Rings(waiting: [Int](repeating: 100, count: 256))
        for _ in 0..<10 {
            let served = (0..<4).flatMap { _ in rings.batch().map(\.ring) }
            #expect(served.sorted() == Array(0..<256))
        }
    }

    /// Rings that go leave the turn where there is one.
    @Test func theTurnFollowsTheRings() {
        var rings = Rings(waiting: [Int](repeating: 100, count: 256))
        for _ in 0..<3 { _ = rings.batch() }
        rings.waiting = [10, 10]
        #expect(rings.batch().reduce(0) { $0 + $1.frames } == 20)
    }
}

@Suite struct WorkerMemoryTests {
    @Test func ringsShareABudget() {
        let mib = 1 << 20
        #expect([1, 4, 16].map { Limits.ringBytes(rings: $0) } == [16 * mib, 16 * mib, 16 * mib])
        #expect([17, 32, 33, 128].map { Limits.ringBytes(rings: $0) } == [8, 8, 4, 2].map { $0 * mib })
        #expect([256, 257, 1024].map { Limits.ringBytes(rings: $0) } == [mib, mib, mib])
        // Never more than the budget until each ring is at its least; a power of two always.
        for rings in 1...256 {
            let bytes = Limits.ringBytes(rings: rings)
            #expect(bytes * rings <= 256 * mib && bytes.nonzeroBitCount == 1)
        }
    }

    @Test func filesAreCountedBeforeTheyAreOpened() {
        #expect(Configuration.neededDescriptors(devices: 1, interfaces: 1, workers: 1) == 274)
        let many = Configuration.neededDescriptors(devices: 1024, interfaces: 256, workers: 4)
        #expect(many == 4 * (1024 + 256 + 8) + 256 * 8 + 256)
    }
}

@Suite struct RingPatienceTests {
    @Test(arguments: [EPERM, EBADF, EINVAL, ENXIO])
    func whatWillNotPassEndsItAtOnce(error: Int32) throws {
        var patience = RingPatience()
        let ring = try SubmissionRing(entries: 8, files: 1)
        let thrown = #expect(throws: SystemError.self) { try patience.failed(error, ring.queue) }
        #expect(thrown?.errno == error)
        #expect(thrown?.operation == "io_uring_enter")
    }

    @Test func whatMayPassIsTriedForAWhile() throws {
        var patience = RingPatience()
        let ring = try SubmissionRing(entries: 8, files: 1)
        for _ in 1..<Timing.ringTries { try patience.failed(EINTR, ring.queue) }
        let thrown = #expect(throws: SystemError.self) { try patience.failed(EINTR, ring.queue) }
        #expect(thrown?.errno == EINTR)
    }

    /// A profile may refuse with the errno 0.
    @Test func aCallWithoutEffectIsARefusal() throws {
        var patience = RingPatience()
        let ring = try SubmissionRing(entries: 8, files: 1)
        try patience.failed(0, ring.queue)
        for _ in 2..<Timing.ringTries { try patience.failed(EINTR, ring.queue) }
        let thrown = #expect(throws: SystemError.self) { try patience.failed(0, ring.queue) }
        #expect(thrown?.errno == EPERM)
        #expect(thrown?.hint?.contains("seccomp") == true)
    }
}
