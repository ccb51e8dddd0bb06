// One worker's counters: written by it alone, read by anybody at any time, never reset.

import Forwarding
import LinuxIO
import Synchronization

final class CounterBlock: @unchecked Sendable {
    // @unchecked: every word is an atomic with one writer.

    typealias Single = CounterWords.Single
    typealias Shape = CounterWords.Shape
    typealias Values = CounterWords.Values
    typealias Writer = CounterWords.Writer

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
