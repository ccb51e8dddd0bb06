// Where a worker goes on in a ring behind one that was killed.

import Synchronization
import Testing

@testable import LinuxIO

extension RingPlace {
    /// Of a ring of a test, for as long as the process lives.
    static func new() -> RingPlace {
        let words = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: RingPlace.words)
        for index in 0..<RingPlace.words { (words + index).initialize(to: Atomic(0)) }
        return RingPlace(words)
    }
}

@Suite struct RingPlaceTests {
    /// A ring of 256 slots, of which a batch of 8 took those from 252 on, over the end.
    private static func interrupted() -> RingPlace {
        let place = RingPlace.new()
        place.settle(at: 252)
        // In two turns, as where several rings share a batch.
        place.take(upTo: 255, mask: 255)
        place.take(upTo: 4, mask: 255)
        return place
    }

    @Test("the first slot that holds a frame is the first that is not done", arguments: 0...8)
    func released(count: Int) {
        // The kernel has put more frames behind the batch.
        let free = Set((0..<count).map { (252 + $0) & 255 })
        let resumption = Self.interrupted().resume(slotCount: 256) { !free.contains($0) }
        #expect(resumption == .init(cursor: (252 + count) & 255, repeated: 8 - count))
    }

    @Test func settledBatchesAreNotLookedAt() {
        let place = Self.interrupted()
        #expect(place.cursor == 252)
        place.settle(at: 4)
        #expect(place.cursor == 4)
        for isReady in [true, false] {
            #expect(place.resume(slotCount: 256) { _ in isReady } == .init(cursor: 4))
        }
    }

    @Test func aNewRingBeginsAtItsFirstSlot() {
        #expect(RingPlace.new().resume(slotCount: 256) { _ in false } == .init(cursor: 0))
    }

    /// A frame that ends each process would end all of them.
    @Test func aBatchThatKillsTwiceIsSkipped() {
        let place = Self.interrupted()
        #expect(place.resume(slotCount: 256) { _ in true } == .init(cursor: 252, repeated: 8))
        place.settle(at: 252)
        // Others were in between: it counts for its own slot alone.
        place.take(upTo: 0, mask: 255)
        let all = [252, 253, 254, 255]
        #expect(place.resume(slotCount: 256) { _ in true } == .init(cursor: 0, skipped: all))
        place.settle(at: 0)
        place.take(upTo: 8, mask: 255)
        #expect(place.resume(slotCount: 256) { _ in true } == .init(cursor: 0, repeated: 8))
        place.settle(at: 4)
        place.take(upTo: 8, mask: 255)
        #expect(place.resume(slotCount: 256) { _ in true } == .init(cursor: 4, repeated: 4))
    }
}
