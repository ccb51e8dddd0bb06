// Where the copies of frames lie that exceeded their slots, and how a ring takes up those of a killed worker.

import Glibc
import Synchronization

extension FrameCopies {
    public static var byteCount: Int {
        2 * NamedMemory.bytes(for: Atomic<UInt64>.self, count)
            + NamedMemory.bytes(for: UInt8.self, count * PacketRing.frameBytesMax)
    }

    /// - Parameter memory: zero, or what another process left.
    public init(in memory: NamedMemory) {
        let owners = memory.take(Atomic<UInt64>.self, Self.count)
        let states = memory.take(Atomic<UInt64>.self, Self.count)
        self.init(
            owners: owners, states: states,
            buffers: memory.take(UInt8.self, Self.count * PacketRing.frameBytesMax),
            bufferBytes: PacketRing.frameBytesMax)
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
            // What a process that crashed has written last may be anything.
            let count = min(bytes ?? whole, Self.frameBytesMax)
            let copy = UnsafeRawBufferPointer(start: copies.buffer(place), count: count)
            if Self.begins(copy, as: slot) { left[number] = Array(copy) }
        }
    }

    /// Lets go of what `adopt` took: another process has adopted the same.
    public func forgetLeft() { left = [:] }

    /// Puts what a killed worker had taken where a second kill leaves it.
    public func keepLeft(in copies: FrameCopies) {
        for (slot, bytes) in left where copies.keep(bytes, interface: interfaceIndex, slot: slot) {
            left[slot] = nil
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
