// Where a worker stands in its ring, in memory that outlives its process: the next worker begins there.

import Synchronization

/// Written by the ring's worker alone: the slot that the kernel fills next when no batch is under way, and
/// how many slots from there on the batch under way has taken. Beside it stands what the kernel lost.
public struct RingPlace: @unchecked Sendable, BitwiseCopyable {
    // @unchecked: the words are atomic.
    public static let words = 3
    /// A batch that has killed so many workers is not tried again.
    static let deaths = 2

    private let word: UnsafeMutablePointer<Atomic<UInt64>>
    /// Slot << 8 | how many workers were killed in a batch that began there.
    private var history: UnsafeMutablePointer<Atomic<UInt64>> { word + 1 }

    /// Frames that the kernel had no slot for, since the ring was opened.
    private var losses: UnsafeMutablePointer<Atomic<UInt64>> { word + 2 }

    /// - Parameter words: as many as `words` says, zero for a new ring; they live as long as the ring.
    public init(_ words: UnsafeMutablePointer<Atomic<UInt64>>) { word = words }

    /// The slot where the last settled batch ended.
    public var cursor: Int { Int(word.pointee.load(ordering: .relaxed) & 0xffff_ffff) }

    /// The batch under way has taken some.
    public var isUnderWay: Bool { word.pointee.load(ordering: .relaxed) >> 32 != 0 }

    /// Adds to what the kernel lost.
    /// - Returns: all of it.
    func addLosses(_ count: UInt64) -> UInt64 {
        losses.pointee.wrappingAdd(count, ordering: .relaxed).newValue
    }

    /// Before slots are given back or written: they are of the batch under way.
    /// - Parameters:
    ///   - next: the slot behind them.
    ///   - mask: slots of the ring, a power of two, less one.
    @inline(__always)
    public func take(upTo next: Int, mask: Int) {
        let start = Int(word.pointee.load(ordering: .relaxed) & 0xffff_ffff)
        word.pointee.store(
            UInt64(truncatingIfNeeded: start) | UInt64(truncatingIfNeeded: (next &- start) & mask) &<< 32,
            ordering: .releasing)
    }

    /// All slots before this one are the kernel's again.
    @inline(__always)
    public func settle(at cursor: Int) {
        word.pointee.store(UInt64(truncatingIfNeeded: cursor), ordering: .releasing)
    }

    /// What becomes of the batch in which a worker was killed.
    public struct Resumption: Equatable, Sendable {
        /// Where the next worker begins.
        public var cursor: Int
        /// Frames from there on that the killed one may have injected already.
        public var repeated = 0
        /// Slots before the cursor that are to be given back untried.
        public var skipped: [Int] = []
    }

    /// Where to go on behind a worker that was killed. Slots go back to the kernel in order, so that the
    /// first one that still holds a frame is the first one that is not done. Called once for each death.
    /// - Parameters:
    ///   - slotCount: a power of two.
    ///   - isReady: whether a slot holds a frame.
    public func resume(slotCount: Int, isReady: (Int) -> Bool) -> Resumption {
        // What a process that crashed has written last may be anything.
        let mask = slotCount - 1
        let taken = min(Int(word.pointee.load(ordering: .acquiring) >> 32), slotCount)
        let start = cursor & mask
        guard let done = (0..<taken).first(where: { isReady((start + $0) & mask) }) else {
            return Resumption(cursor: (start + taken) & mask)
        }
        let first = (start + done) & mask
        let before = history.pointee.load(ordering: .relaxed)
        let deaths = Int(before >> 8) == start ? Int(before & 0xff) + 1 : 1
        guard deaths < Self.deaths else {
            history.pointee.store(0, ordering: .relaxed)
            let skipped = (done..<taken).map { (start + $0) & mask }.filter(isReady)
            return Resumption(cursor: (start + taken) & mask, skipped: skipped)
        }
        history.pointee.store(UInt64(first) << 8 | UInt64(deaths), ordering: .relaxed)
        return Resumption(cursor: first, repeated: taken - done)
    }
}
