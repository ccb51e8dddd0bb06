// Frames that exceeded their slots, as a worker took them from the socket's queue: in memory that outlives
// its process, for the queue gives each of them once.

import Synchronization

/// One worker's. Between two batches it holds only what a killed worker had taken and nobody has taken since.
public struct FrameCopies: @unchecked Sendable {
    // @unchecked: the worker's alone while it runs.

    /// Frames of a batch that may exceed their slot.
    public static let count = 8

    /// Of one copy: whose it is (ifindex << 32 | slot), and 0: none, 1: the kernel may be at it, else
    /// bytes << 1.
    private let owners: UnsafeMutablePointer<Atomic<UInt64>>
    private let states: UnsafeMutablePointer<Atomic<UInt64>>
    private let buffers: UnsafeMutablePointer<UInt8>
    private let bufferBytes: Int

    /// - Parameters:
    ///   - owners: `count` words, as `states`: zero, or what another process left.
    ///   - buffers: `count` times `bufferBytes`.
    init(
        owners: UnsafeMutablePointer<Atomic<UInt64>>, states: UnsafeMutablePointer<Atomic<UInt64>>,
        buffers: UnsafeMutablePointer<UInt8>, bufferBytes: Int
    ) {
        (self.owners, self.states) = (owners, states)
        (self.buffers, self.bufferBytes) = (buffers, bufferBytes)
    }

    public func buffer(_ place: Int) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(buffers + place &* bufferBytes)
    }

    /// Whether a frame lies here.
    public func holds(_ frame: UnsafeRawPointer) -> Bool {
        let first = UnsafeRawPointer(buffers)
        return frame >= first && frame < first + Self.count &* bufferBytes
    }

    /// A place for the copy of a slot, before the queue is asked for it; nil: none is free.
    public func begin(interface: Int32, slot: Int) -> Int? {
        guard let place = free else { return nil }
        owners[place].store(Self.owner(interface, slot), ordering: .relaxed)
        states[place].store(1, ordering: .releasing)
        return place
    }

    public var isFull: Bool { free == nil }

    private var free: Int? {
        (0..<Self.count).first { states[$0].load(ordering: .relaxed) == 0 }
    }

    /// - Parameter bytes: 0: the queue did not hold it.
    public func end(_ place: Int, bytes: Int) {
        states[place].store(UInt64(truncatingIfNeeded: bytes) &<< 1, ordering: .releasing)
    }

    /// Puts in what a killed worker had taken, so that a second kill does not lose it.
    /// - Returns: false: no place is free.
    func keep(_ bytes: [UInt8], interface: Int32, slot: Int) -> Bool {
        guard bytes.count <= bufferBytes, let place = begin(interface: interface, slot: slot) else {
            return false
        }
        bytes.withUnsafeBytes { buffer(place).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        end(place, bytes: bytes.count)
        return true
    }

    /// The batch that took copies is over.
    /// - Parameter places: bit n: place n.
    public func clear(_ places: UInt8) {
        for place in 0..<Self.count where places & 1 << place != 0 {
            states[place].store(0, ordering: .relaxed)
        }
    }

    /// Its slots are no longer read.
    public func forget(interface: Int32) {
        for place in 0..<Self.count
        where owners[place].load(ordering: .relaxed) >> 32 == UInt64(UInt32(bitPattern: interface)) {
            states[place].store(0, ordering: .relaxed)
        }
    }

    private static func owner(_ interface: Int32, _ slot: Int) -> UInt64 {
        UInt64(UInt32(bitPattern: interface)) << 32 | UInt64(truncatingIfNeeded: slot)
    }

    /// What a killed worker had of a slot; bytes are nil where the kernel may have been at it.
    public func left(interface: Int32, slot: Int) -> (place: Int, bytes: Int?)? {
        let owner = Self.owner(interface, slot)
        for place in 0..<Self.count where owners[place].load(ordering: .acquiring) == owner {
            let state = states[place].load(ordering: .acquiring)
            if state == 1 { return (place, nil) }
            if state > 1 { return (place, Int(state >> 1)) }
        }
        return nil
    }
}
