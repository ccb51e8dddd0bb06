// The last refused frame of each reason: written by one worker, read by anybody at any time.

import Forwarding
import LinuxIO
import Synchronization

/// One worker's: a slot for each reason.
final class DropExamples: @unchecked Sendable {
    // @unchecked: every word is an atomic with one writer.

    /// Bytes of a frame that are kept, from its network header on: outer and inner header of any mode
    /// with some extension headers, and the ports.
    static let headBytes = 112
    private static let words = 3 + headBytes / 8

    private let memory: NamedMemory
    private let slots: UnsafeMutablePointer<Atomic<UInt64>>
    private let recent: UnsafeMutablePointer<Atomic<UInt64>>

    /// - Parameter cpu: the writer's.
    init(cpu: Int) throws(SystemError) {
        let count = DropReason.allCases.count * Self.words
        let bytes =
            NamedMemory.bytes(for: Atomic<UInt64>.self, count)
            + NamedMemory.bytes(for: Atomic<UInt64>.self, 2)
        memory = try NamedMemory(name: "shuck-examples", byteCount: bytes, cpu: cpu)
        slots = memory.take(Atomic<UInt64>.self, count)
        recent = memory.take(Atomic<UInt64>.self, 2)
    }

    var writer: Writer { Writer(slots: slots, recent: recent) }

    /// What the worker holds: trivially copyable. A slot is a sequence number, odd while it is
    /// written; a stamp of CLOCK_MONOTONIC in nanoseconds; interface << 8 | bytes of the head; and
    /// the head of the frame.
    struct Writer {
        fileprivate let slots: UnsafeMutablePointer<Atomic<UInt64>>
        /// Reasons with a new example, by bit; then until when that counts. In memory of its own: a
        /// field that changes would cost a check of exclusive access for each frame.
        fileprivate let recent: UnsafeMutablePointer<Atomic<UInt64>>

        /// To be called before the first `note` of a batch.
        @inline(__always)
        func begin(now: UInt64) {
            if now < recent[1].load(ordering: .relaxed) { return }
            recent[0].store(0, ordering: .relaxed)
            recent[1].store(now &+ Timing.exampleNanoseconds, ordering: .relaxed)
        }

        @inline(__always)
        func note(_ reason: DropReason, _ frame: UnsafePointer<Frame>, now: UInt64) {
            let bit = UInt64(1) &<< UInt64(reason.rawValue)
            let old = recent[0].load(ordering: .relaxed)
            if old & bit != 0 { return }
            recent[0].store(old | bit, ordering: .relaxed)
            write(slots + Int(reason.rawValue) &* DropExamples.words, frame, now)
        }

        @inline(never)
        private func write(
            _ slot: UnsafeMutablePointer<Atomic<UInt64>>, _ frame: UnsafePointer<Frame>, _ now: UInt64
        ) {
            let count = min(frame.pointee.length, DropExamples.headBytes)
            let sequence = slot[0].load(ordering: .relaxed)
            slot[0].store(sequence &+ 1, ordering: .relaxed)
            atomicMemoryFence(ordering: .releasing)
            slot[1].store(now, ordering: .relaxed)
            slot[2].store(
                UInt64(frame.pointee.interface) << 8 | UInt64(max(count, 0)), ordering: .relaxed)
            var offset = 0
            while offset < count {
                var word: UInt64 = 0
                for byte in offset..<min(offset &+ 8, count) {
                    let value = frame.pointee.network.load(fromByteOffset: byte, as: UInt8.self)
                    word |= UInt64(value) << UInt64(8 &* (byte &- offset))
                }
                slot[3 &+ offset / 8].store(word, ordering: .relaxed)
                offset &+= 8
            }
            slot[0].store(sequence &+ 2, ordering: .releasing)
        }
    }

    struct Example: Sendable {
        /// CLOCK_MONOTONIC, nanoseconds.
        var stamp: UInt64
        /// Index into the policy's interfaces.
        var interface: Int
        /// From the network header on.
        var head: [UInt8]
    }

    /// nil while no frame was refused for it, and where a writer stands still within it.
    func read(_ reason: DropReason) -> Example? {
        let slot = slots + Int(reason.rawValue) * Self.words
        if slot[0].load(ordering: .acquiring) == 0 { return nil }
        let (example, isWhole) = CounterBlock.read(slot) {
            let packed = slot[2].load(ordering: .relaxed)
            let head = (0..<min(Int(packed & 0xff), Self.headBytes)).map { index in
                let word = slot[3 + index / 8].load(ordering: .relaxed)
                return UInt8(truncatingIfNeeded: word >> UInt64(8 * (index % 8)))
            }
            return Example(
                stamp: slot[1].load(ordering: .relaxed), interface: Int(packed >> 8 & 0xffff), head: head)
        }
        return isWhole ? example : nil
    }
}
