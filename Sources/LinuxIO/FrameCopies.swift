// Frames that exceeded their slots, as a worker took them from the socket's queue: in memory that outlives
// its process, for the queue gives each of them once.

import Glibc
import Synchronization

/// One worker's. Empty between two batches.
public struct FrameCopies: @unchecked Sendable {
    // @unchecked: the worker's alone while it runs.

    /// Frames of a batch that may exceed their slot.
    public static let count = 8

    /// Of one copy: whose it is (ifindex << 32 | slot), and 0: none, 1: the kernel may be at it, else
    /// bytes << 1.
    private let owners: UnsafeMutablePointer<Atomic<UInt64>>
    private let states: UnsafeMutablePointer<Atomic<UInt64>>
    private let buffers: UnsafeMutablePointer<UInt8>

    public static var byteCount: Int {
        2 * NamedMemory.bytes(for: Atomic<UInt64>.self, count)
            + NamedMemory.bytes(for: UInt8.self, count * PacketRing.frameBytesMax)
    }

    /// - Parameter memory: zero, or what another process left.
    public init(in memory: NamedMemory) {
        owners = memory.take(Atomic<UInt64>.self, Self.count)
        states = memory.take(Atomic<UInt64>.self, Self.count)
        buffers = memory.take(UInt8.self, Self.count * PacketRing.frameBytesMax)
    }

    public func buffer(_ place: Int) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(buffers + place &* PacketRing.frameBytesMax)
    }

    /// Before the queue is asked for the copy of a slot.
    public func begin(_ place: Int, interface: Int32, slot: Int) {
        owners[place].store(Self.owner(interface, slot), ordering: .relaxed)
        states[place].store(1, ordering: .releasing)
    }

    /// - Parameter bytes: 0: the queue did not hold it.
    public func end(_ place: Int, bytes: Int) {
        states[place].store(UInt64(truncatingIfNeeded: bytes) &<< 1, ordering: .releasing)
    }

    /// The batch is over.
    public func clear() {
        for place in 0..<Self.count { states[place].store(0, ordering: .relaxed) }
    }

    private static func owner(_ interface: Int32, _ slot: Int) -> UInt64 {
        UInt64(UInt32(bitPattern: interface)) << 32 | UInt64(truncatingIfNeeded: slot)
    }

    /// What a killed worker had of a slot; bytes are nil where the kernel may have been at it.
    func left(interface: Int32, slot: Int) -> (place: Int, bytes: Int?)? {
        let owner = Self.owner(interface, slot)
        for place in 0..<Self.count where owners[place].load(ordering: .acquiring) == owner {
            let state = states[place].load(ordering: .acquiring)
            if state == 1 { return (place, nil) }
            if state > 1 { return (place, Int(state >> 1)) }
        }
        return nil
    }
}

extension PacketRing {
    /// Takes what a killed worker had taken from the queue already, of the slots of its last batch: `receive`
    /// gives it for them. To be called before `resume`.
    /// - Parameter batch: slots that a batch takes at most.
    public func adopt(_ copies: FrameCopies, batch: Int) {
        let slots = slots
        for offset in 0..<batch {
            let number = (place.cursor + offset) & (slotCount - 1)
            guard let slot = slots.slot(at: number), slot.isCopied,
                let (place, bytes) = copies.left(interface: interfaceIndex, slot: number)
            else { continue }
            let whole = min(slot.wireLength + Self.virtioHeaderBytes, Self.frameBytesMax)
            // The kernel gives a whole frame or none.
            if bytes == nil && isQueued(slot, whole) { continue }
            let copy = UnsafeRawBufferPointer(start: copies.buffer(place), count: bytes ?? whole)
            if Self.begins(copy, as: slot) { left[number] = Array(copy) }
        }
    }

    /// Whether the next frame of the queue is the slot's.
    private func isQueued(_ slot: Slot, _ whole: Int) -> Bool {
        var bytes = [UInt8](repeating: 0, count: whole)
        let count = recv(descriptor.number, &bytes, whole, Int32(MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC))
        return count == whole && bytes.withUnsafeBytes { Self.begins($0, as: slot) }
    }

    private static func begins(_ copy: UnsafeRawBufferPointer, as slot: Slot) -> Bool {
        copy.count >= virtioHeaderBytes + slot.capturedLength
            && memcmp(copy.baseAddress! + virtioHeaderBytes, slot.frame, slot.capturedLength) == 0
    }
}
