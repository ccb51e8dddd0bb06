// Frames and what became of them, on their way from a worker to whoever captures: CaptureTap, CaptureFilter.

import Forwarding
import LinuxIO
import Settings
import Synchronization

/// What a capture is to hold.
struct CaptureFilter: Sendable, Equatable {
    /// Bit n: the verdict of the raw value n, and likewise the reason of a drop or reply.
    var kinds = UInt64.max
    var reasons = UInt64.max
    /// Also what is written to devices.
    var takesInjected = false
}

/// One worker's ring of records. The worker writes, one reader reads, and neither waits for the other: a
/// record that finds no room is counted and left out. The ring is allocated when somebody first captures, by
/// the reader, and stays, because nothing tells when a worker has left it.
final class CaptureTap: @unchecked Sendable {
    // @unchecked: every word is an atomic, and bytes of the ring have one owner at a time.

    /// A power of two. At 300 kpps of small packets it holds what comes in 90 ms.
    static let byteCount = 4 << 20

    /// In cache-line pairs of their own: what the reader sets, what each of the two counts.
    private enum Word {
        static let memory = 0
        static let kinds = 1
        static let reasons = 2
        static let flags = 3
        static let written = 16
        static let dropped = 17
        static let read = 32
        static let count = 48
    }

    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    private let memory = Mutex<NamedMemory?>(nil)
    private let session = Atomic<UInt32>(0)
    /// What the worker ran on, the oldest first: since which generation.
    private let configurations = Mutex<[(first: UInt64, configuration: Configuration)]>([])

    init() {
        let raw = UnsafeMutableRawPointer.allocate(byteCount: Word.count * 8, alignment: 128)
        words = raw.bindMemory(to: Atomic<UInt64>.self, capacity: Word.count)
        for word in 0..<Word.count { (words + word).initialize(to: Atomic(0)) }
    }

    deinit { UnsafeMutableRawPointer(words).deallocate() }

    // MARK: The reader

    /// Lets the worker write what the filter wants from its next batch on.
    /// - Returns: false: another capture runs.
    func start(_ filter: CaptureFilter, cpu: Int) throws(SystemError) -> Bool {
        guard words[Word.memory].load(ordering: .relaxed) == 0 else { return false }
        var ring = memory.withLock { $0 }
        if ring == nil {
            ring = try NamedMemory(name: "shuck-capture", byteCount: Self.byteCount, cpu: cpu)
            memory.withLock { $0 = ring }
        }
        let number = session.wrappingAdd(1, ordering: .relaxed).newValue
        words[Word.kinds].store(filter.kinds, ordering: .relaxed)
        words[Word.reasons].store(filter.reasons, ordering: .relaxed)
        words[Word.flags].store(
            UInt64(number) << 1 | (filter.takesInjected ? 1 : 0), ordering: .relaxed)
        // What an earlier capture left.
        words[Word.read].store(words[Word.written].load(ordering: .acquiring), ordering: .relaxed)
        words[Word.memory].store(UInt64(ring?.start ?? 0), ordering: .releasing)
        return true
    }

    func stop() { words[Word.memory].store(0, ordering: .releasing) }

    /// Records that found no room, ever.
    var dropped: UInt64 { words[Word.dropped].load(ordering: .relaxed) }

    /// Gives the next records to `take`, up to one for which that returns false.
    func read(_ take: (CaptureRecord, UnsafeRawBufferPointer) -> Bool) {
        guard let start = memory.withLock({ $0?.start }),
            let ring = UnsafeRawPointer(bitPattern: start)
        else { return }
        let own = session.load(ordering: .relaxed)
        var position = words[Word.read].load(ordering: .relaxed)
        let end = words[Word.written].load(ordering: .acquiring)
        while position < end {
            let offset = Int(position) & (Self.byteCount - 1)
            let record = ring.load(fromByteOffset: offset, as: CaptureRecord.self)
            if record.size == 0 {
                position += UInt64(Self.byteCount - offset)
                continue
            }
            let bytes = UnsafeRawBufferPointer(
                start: ring + offset + MemoryLayout<CaptureRecord>.stride, count: Int(record.captured))
            position += UInt64(record.size)
            if record.session == own && !take(record, bytes) { break }
        }
        words[Word.read].store(position, ordering: .releasing)
    }

    /// The control thread hands the worker something else to run on.
    func note(_ assignment: Assignment) {
        configurations.withLock { known in
            if known.last?.configuration == assignment.configuration { return }
            known.append((assignment.generation, assignment.configuration))
            if known.count > 8 { known.removeFirst() }
        }
    }

    /// What a worker's generation was made from.
    func configuration(_ generation: UInt64) -> Configuration? {
        configurations.withLock { known in known.last { $0.first <= generation }?.configuration }
    }

    // MARK: The worker

    var writer: Writer { Writer(words: words) }

    /// What the worker holds: trivially copyable.
    struct Writer: BitwiseCopyable {
        fileprivate let words: UnsafeMutablePointer<Atomic<UInt64>>

        @inline(__always)
        var isOn: Bool { words[Word.memory].load(ordering: .relaxed) != 0 }

        var takesInjected: Bool { words[Word.flags].load(ordering: .relaxed) & 1 != 0 }

        func wants(_ verdict: UnsafePointer<Verdict>) -> Bool {
            let (kind, reason) = (verdict.pointee.kind, verdict.pointee.reason)
            return words[Word.kinds].load(ordering: .relaxed) >> UInt64(kind.rawValue) & 1 != 0
                && words[Word.reasons].load(ordering: .relaxed) >> UInt64(reason.rawValue) & 1 != 0
        }

        /// A place for so many bytes behind a record; nil, and counted: there is no room.
        private func begin(_ captured: Int) -> UnsafeMutableRawPointer? {
            guard
                let ring = UnsafeMutableRawPointer(
                    bitPattern: UInt(words[Word.memory].load(ordering: .acquiring)))
            else { return nil }
            let need = CaptureTap.size(captured)
            var position = Int(words[Word.written].load(ordering: .relaxed))
            let free = CaptureTap.byteCount - (position - Int(words[Word.read].load(ordering: .acquiring)))
            let offset = position & (CaptureTap.byteCount - 1)
            let left = CaptureTap.byteCount - offset
            guard free >= need + (left < need ? left : 0) else {
                words[Word.dropped].store(
                    words[Word.dropped].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
                return nil
            }
            if left >= need { return ring + offset }
            ring.storeBytes(of: 0, toByteOffset: offset, as: UInt32.self)
            position += left
            words[Word.written].store(UInt64(position), ordering: .releasing)
            return ring
        }

        /// Writes a record and the bytes of its pieces.
        /// - Parameter pieces: puts so many bytes as the record says.
        func put(_ record: CaptureRecord, _ pieces: (UnsafeMutableRawPointer) -> Void) {
            guard let place = begin(Int(record.captured)) else { return }
            let size = CaptureTap.size(Int(record.captured))
            var whole = record
            whole.size = UInt32(size)
            whole.session = UInt32(
                truncatingIfNeeded: words[Word.flags].load(ordering: .relaxed) >> 1)
            place.storeBytes(of: whole, as: CaptureRecord.self)
            pieces(place + MemoryLayout<CaptureRecord>.stride)
            words[Word.written].store(
                words[Word.written].load(ordering: .relaxed) &+ UInt64(size), ordering: .releasing)
        }
    }

    /// Bytes that a record takes.
    private static func size(_ captured: Int) -> Int {
        MemoryLayout<CaptureRecord>.stride + (captured + 7) & ~7
    }
}
