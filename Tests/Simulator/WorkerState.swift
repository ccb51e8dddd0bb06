// One worker of a world: WorkerState; CounterBlock, the memory of its counters.

import Forwarding
import Model
import Synchronization

/// What a worker counts in, and what of it outlives the process: the words of the daemon's own block.
final class CounterBlock {
    typealias Single = CounterWords.Single
    typealias Shape = CounterWords.Shape
    typealias Values = CounterWords.Values
    typealias Writer = CounterWords.Writer

    let shape: Shape
    private let memory: UnsafeMutablePointer<Atomic<UInt64>>

    init(shape: Shape) {
        self.shape = shape
        memory = .allocate(capacity: shape.count + 1)
        for word in 0...shape.count { (memory + word).initialize(to: Atomic(0)) }
    }

    deinit { memory.deallocate() }

    var words: UnsafeMutablePointer<Atomic<UInt64>> { memory + 1 }
    var writer: Writer { Writer(words: words, sequence: memory, shape: shape) }
    /// A worker is in the middle of counting.
    var isOdd: Bool { memory.pointee.load(ordering: .relaxed) & 1 != 0 }

    var values: Values {
        Values(shape: shape, values: (0..<shape.count).map { words[$0].load(ordering: .relaxed) })
    }

    @inline(__always)
    subscript(_ single: Single) -> Int {
        Int(truncatingIfNeeded: words[single.rawValue].load(ordering: .relaxed))
    }
}

/// What a worker has counted, in all its lives and blocks.
struct Counters: Equatable {
    var received = 0
    var injected = 0
    var passed = 0
    var dropped = 0
    var replied = 0
    var held = 0
    var truncated = 0
    var writes = 0
    var failures = Reassembler.Failures()

    init() {}

    init(_ block: CounterBlock) { self.init { block[$0] } }

    init(_ values: CounterBlock.Values) { self.init { Int(truncatingIfNeeded: values[$0]) } }

    @inline(__always)
    private init(_ value: (CounterBlock.Single) -> Int) {
        received = value(.received)
        injected = value(.injected)
        passed = value(.passed)
        dropped = value(.dropped)
        replied = value(.replied)
        held = value(.held)
        truncated = value(.truncated)
        writes = value(.writes)
        failures.overlap = UInt64(value(.reassemblyOverlap))
        failures.memory = UInt64(value(.reassemblyMemory))
        failures.timeout = UInt64(value(.reassemblyTimeout))
    }

    static func + (_ one: Self, _ other: Self) -> Self {
        var sum = one
        sum.received += other.received
        sum.injected += other.injected
        sum.passed += other.passed
        sum.dropped += other.dropped
        sum.replied += other.replied
        sum.held += other.held
        sum.truncated += other.truncated
        sum.writes += other.writes
        sum.failures.overlap += other.failures.overlap
        sum.failures.memory += other.failures.memory
        sum.failures.timeout += other.failures.timeout
        return sum
    }
}

/// A worker, and what is checked of it.
struct WorkerState {
    // Of the kernel, or in memory that outlives the process.
    let rings: UnsafeMutablePointer<Ring>
    var block: CounterBlock
    let copies: FrameCopies
    private let copyWords: UnsafeMutablePointer<Atomic<UInt64>>
    private let large: UnsafeMutablePointer<UInt8>

    // Its own.
    let batchMemory: UnsafeMutableRawPointer
    var batch: Batch
    var reassembler: Reassembler
    var turns = RingTurns()
    let places: UnsafeMutablePointer<World.Place>
    /// Frames of the batch in work.
    var count = 0
    /// It is within a batch.
    var isBusy = false
    /// Places of the copies that the batch has taken.
    var copiesTaken: UInt8 = 0
    /// The time that it read for its batch.
    var now: UInt64 = 0
    /// What it runs on.
    var generation: Generation
    /// Batches until it looks into its mailbox.
    var lateness = 0
    /// Tables that a sabotaged worker still reads.
    var kept: [Generation] = []
    /// Of the buckets of a sabotaged worker.
    var bucketsOwner: Setup?
    var countedFailures = Reassembler.Failures()
    var crashPoint: World.CrashPoint?
    /// Stores, writes, slots or groups until it dies there.
    var crashAfter = 0

    // What is checked.
    /// With the fragments that the worker should hold.
    var model: Model
    /// Answers to frames that depend on others.
    let answers: UnsafeMutablePointer<Expected>
    var answerCount = 0
    /// Last frame of each flow that came out.
    let lastOfFlow: UnsafeMutablePointer<Int>
    /// Frames taken from each ring.
    let taken: UnsafeMutablePointer<Int>
    /// By device: what it refused to cut since the worker adopted its tables.
    let refusals: UnsafeMutablePointer<Refusals>
    var releasedFrames = 0
    var lostFrames = 0
    /// Times that such a frame was counted: once more if a kill came before its slot went back.
    var lostCounts = 0
    var skippedFrames = 0
    /// Frames that went back and that a kill kept from being counted.
    var uncounted = 0
    /// Of blocks that are no longer written.
    var retired = Counters()
    /// Injected, passed, dropped, replied, held, as the verdicts say.
    var seen = Counters()

    struct Refusals: BitwiseCopyable {
        var refused: Coalescer.Kinds = []
        /// Likewise, in the batch in work, whose plan could not know.
        var refusedNow: Coalescer.Kinds = []
    }

    var counters: Counters { retired + Counters(block) }

    func freeAnswers() { for index in 0..<answerCount { answers[index].bytes?.deallocate() } }
}

extension WorkerState {
    init(
        interfaces: Int, slots: Int, devices: Int, flows: Int, reassembler: Reassembler,
        generation: Generation
    ) {
        rings = .allocate(capacity: interfaces)
        for ring in 0..<interfaces { (rings + ring).initialize(to: Ring(count: slots)) }
        block = CounterBlock(shape: generation.setup.shape)
        func words(_ count: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
            let words = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: count)
            for word in 0..<count { (words + word).initialize(to: Atomic(0)) }
            return words
        }
        copyWords = words(2 * FrameCopies.count)
        large = .allocate(capacity: FrameCopies.count * World.largeBytes)
        copies = FrameCopies(
            owners: copyWords, states: copyWords + FrameCopies.count, buffers: large,
            bufferBytes: World.largeBytes)
        let bytes = Batch.byteCount(capacity: Limits.batch)
        batchMemory = .allocate(byteCount: bytes, alignment: 128)
        batchMemory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        batch = Batch(in: batchMemory, capacity: Limits.batch)
        self.reassembler = reassembler
        self.generation = generation
        model = generation.model
        places = .allocate(capacity: Limits.batch)
        places.initialize(repeating: World.Place(), count: Limits.batch)
        answers = .allocate(capacity: Limits.batch)
        lastOfFlow = .allocate(capacity: flows)
        lastOfFlow.initialize(repeating: -1, count: flows)
        taken = .allocate(capacity: interfaces)
        taken.initialize(repeating: 0, count: interfaces)
        refusals = .allocate(capacity: devices)
        refusals.initialize(repeating: Refusals(), count: devices)
    }

    /// To be called once, when the worker has ended.
    func deallocate(interfaces: Int) {
        freeAnswers()
        for ring in 0..<interfaces { rings[ring].deallocate() }
        rings.deallocate()
        copyWords.deallocate()
        large.deallocate()
        batchMemory.deallocate()
        places.deallocate()
        answers.deallocate()
        lastOfFlow.deallocate()
        taken.deallocate()
        refusals.deallocate()
    }
}
