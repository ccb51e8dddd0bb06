// One worker's counters: written by it alone, read by anybody at any time, never reset.

import Forwarding
import LinuxIO
import Synchronization

final class CounterBlock: @unchecked Sendable {
    // @unchecked: every word is an atomic with one writer.

    enum Single: Int, CaseIterable {
        case received, injected, passed, held, dropped, replied
        case clamped, unclamped, writes, refusedJoins, truncated, lastProgress
        case answersSent, answersFailed
        case reassemblyOverlap, reassemblyMemory, reassemblyTimeout
    }

    let shape: Shape
    private let memory: NamedMemory
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    /// Odd while a batch is being counted: readers wait, so that sums always agree.
    private let sequence: UnsafeMutablePointer<Atomic<UInt64>>

    /// On the node of the writer's CPU.
    init(shape: Shape, cpu: Int) throws(SystemError) {
        self.shape = shape
        // The sequence has its own cache-line pair, so that readers that poll it do not steal the lines of
        // the counters.
        memory = try NamedMemory(name: "shuck-counters", byteCount: 128 + shape.count * 8, cpu: cpu)
        sequence = memory.take(Atomic<UInt64>.self, 1)
        words = memory.take(Atomic<UInt64>.self, shape.count)
    }

    /// Counters of a process that has ended, to be read.
    init(adopting file: Descriptor, shape: Shape) throws(SystemError) {
        self.shape = shape
        memory = try NamedMemory(adopting: file, byteCount: 128 + shape.count * 8)
        sequence = memory.take(Atomic<UInt64>.self, 1)
        words = memory.take(Atomic<UInt64>.self, shape.count)
    }

    var file: Descriptor { memory.file }

    /// First address of its mapping.
    var start: UInt { memory.start }

    var writer: Writer { Writer(words: words, sequence: sequence, shape: shape) }

    /// What the worker holds: trivially copyable.
    struct Writer {
        fileprivate let words: UnsafeMutablePointer<Atomic<UInt64>>
        fileprivate let sequence: UnsafeMutablePointer<Atomic<UInt64>>
        let shape: Shape

        @inline(__always)
        func add(_ index: Int, _ amount: UInt64 = 1) {
            let old = words[index].load(ordering: .relaxed)
            words[index].store(old &+ amount, ordering: .relaxed)
        }

        @inline(__always)
        func add(_ single: Single, _ amount: UInt64 = 1) { add(single.rawValue, amount) }

        @inline(__always)
        func set(_ single: Single, _ value: UInt64) {
            words[single.rawValue].store(value, ordering: .relaxed)
        }

        @inline(__always)
        func begin() {
            let old = sequence.pointee.load(ordering: .relaxed)
            sequence.pointee.store(old &+ 1, ordering: .relaxed)
            atomicMemoryFence(ordering: .releasing)
        }

        @inline(__always)
        func end() {
            let old = sequence.pointee.load(ordering: .relaxed)
            sequence.pointee.store(old &+ 1, ordering: .releasing)
        }
    }

    /// All words as they stood between two batches. A writer that stands still within one is not waited
    /// for: then the words are as they are.
    func read() -> Values {
        let (values, _) = Self.read(sequence) {
            (0..<shape.count).map { words[$0].load(ordering: .relaxed) }
        }
        return Values(shape: shape, values: values)
    }

    /// Reads words that a sequence guards, again while a writer writes.
    /// - Returns: what was read last, and whether no writer was in between.
    static func read<R>(
        _ sequence: UnsafeMutablePointer<Atomic<UInt64>>, _ body: () -> R
    ) -> (value: R, isWhole: Bool) {
        var attempt = 0
        while true {
            attempt += 1
            let before = sequence.pointee.load(ordering: .acquiring)
            let value = body()
            atomicMemoryFence(ordering: .acquiring)
            let isWhole = before & 1 == 0 && sequence.pointee.load(ordering: .relaxed) == before
            if isWhole || attempt == Timing.readAttempts { return (value, isWhole) }
            // Half of the attempts follow at once; then the writer may wait for this CPU.
            if attempt > Timing.readAttempts / 2 { Host.pause(milliseconds: Timing.pauseMilliseconds) }
        }
    }
}

extension CounterBlock {
    /// How many of each label a policy has: where a counter stands in the block.
    struct Shape: Sendable, Equatable {
        let tunnels: Int
        let devices: Int
        let destinations: Int

        init(_ policy: Policy) {
            tunnels = policy.tunnels.count
            devices = policy.devices.count
            destinations = policy.tunnels.reduce(0) { $0 + $1.destinations.count }
        }

        private static let single = Single.allCases.count
        private static let reasons = DropReason.allCases.count
        var cells: Int { Self.single }
        var replied: Int { cells + 16 }
        var dropped: Int { replied + Self.reasons }
        var injected: Int { dropped + (tunnels + 1) * Self.reasons }
        var injectedBytes: Int { injected + tunnels * Mode.count * devices }
        var destination: Int { injectedBytes + tunnels * Mode.count * devices }
        var count: Int { destination + destinations }

        /// A drop that no tunnel could be named for counts for the one behind the last.
        @inline(__always)
        func dropIndex(tunnel: UInt16, reason: DropReason) -> Int {
            let row = tunnel == Verdict.noIndex ? tunnels : Int(tunnel)
            return dropped &+ row &* Self.reasons &+ Int(reason.rawValue)
        }

        @inline(__always)
        func injectIndex(tunnel: UInt16, mode: Mode, device: UInt16) -> Int {
            injected &+ (Int(tunnel) &* Mode.count &+ Int(mode.rawValue)) &* devices &+ Int(device)
        }
    }

    /// A consistent copy of a block.
    struct Values: Sendable {
        let shape: Shape
        let values: [UInt64]
        subscript(_ single: Single) -> UInt64 { values[single.rawValue] }

        /// Of a worker that was killed while it counted: sums that agree with their parts.
        var repaired: Values {
            var values = values
            func sum(_ range: Range<Int>) -> UInt64 { values[range].reduce(0, &+) }
            values[Single.injected.rawValue] = sum(shape.injected..<shape.injectedBytes)
            values[Single.dropped.rawValue] = sum(shape.dropped..<shape.injected)
            values[Single.replied.rawValue] = sum(shape.replied..<shape.dropped)
            let fates: [Single] = [.injected, .passed, .held, .dropped, .replied]
            values[Single.received.rawValue] = fates.reduce(0) { $0 &+ values[$1.rawValue] }
            return Values(shape: shape, values: values)
        }
    }
}
