// The slots of an AF_PACKET ring: the kernel fills them, and a worker gives them back.

import CLinux
import Glibc

/// The mapped ring: trivially copyable, so that the loop counts no references.
public struct Slots: @unchecked Sendable, BitwiseCopyable {
    @usableFromInline let memory: UnsafeMutableRawPointer
    @usableFromInline let size: Int
    public let count: Int

    @usableFromInline init(memory: UnsafeMutableRawPointer, size: Int, count: Int) {
        self.memory = memory
        self.size = size
        self.count = count
    }

    /// The frame in a slot, or nil while the slot is the kernel's.
    @inlinable @inline(__always)
    public func slot(at index: Int) -> Slot? {
        let base = memory + index &* size
        let status = clinux_load_acquire(
            UnsafePointer(base.assumingMemoryBound(to: UInt32.self)))
        guard status & UInt32(TP_STATUS_USER) != 0 else { return nil }
        let header = base.assumingMemoryBound(to: tpacket2_hdr.self)
        let mac = Int(header.pointee.tp_mac)
        // sockaddr_ll follows the 32 bytes of the header; at its tenth stands sll_pkttype.
        let packetType = (base + 42).load(as: UInt8.self)
        return Slot(
            start: base, frame: base + mac,
            capturedLength: min(Int(header.pointee.tp_snaplen), size &- mac),
            wireLength: Int(header.pointee.tp_len),
            linkLength: Int(header.pointee.tp_net) &- mac,
            isCopied: status & UInt32(TP_STATUS_COPY) != 0,
            // Without a tag beside the frame the kernel writes 0. VLAN 0 is a priority alone.
            isForUs: packetType == UInt8(PACKET_HOST)
                && header.pointee.tp_vlan_tci & 0x0fff == 0)
    }

    /// Whether a slot holds a frame.
    @inlinable @inline(__always)
    public func isReady(_ index: Int) -> Bool {
        let base = memory + index &* size
        return clinux_load_acquire(UnsafePointer(base.assumingMemoryBound(to: UInt32.self)))
            & UInt32(TP_STATUS_USER) != 0
    }

    /// Asks for header and frame's head of the slot fourth behind one ahead of the time they are read.
    /// Behind the last slot that does nothing.
    @inlinable @inline(__always)
    public func prefetch(after start: UnsafeMutableRawPointer) {
        let slot = start + (4 &* size)
        clinux_prefetch(slot)
        clinux_prefetch(slot + 64)
        clinux_prefetch(slot + 128)
    }

    /// A frame as the slot holds it, its link layer included, and its length on the wire.
    /// - Parameter limit: bytes of the slot at most.
    public static func received(
        _ start: UnsafeMutableRawPointer, limit: Int
    ) -> (bytes: UnsafeRawBufferPointer, wireLength: Int) {
        let header = start.load(as: tpacket2_hdr.self)
        let mac = min(Int(header.tp_mac), limit)
        let bytes = UnsafeRawBufferPointer(
            start: start + mac, count: min(Int(header.tp_snaplen), limit - mac))
        return (bytes, Int(header.tp_len))
    }

    /// When the kernel took the frame in a slot, nanoseconds since 1970.
    public static func nanoseconds(_ start: UnsafeMutableRawPointer) -> UInt64 {
        let header = start.load(as: tpacket2_hdr.self)
        return UInt64(header.tp_sec) &* 1_000_000_000 &+ UInt64(header.tp_nsec)
    }

    /// Gives a slot back to the kernel. Its bytes must not be needed any more.
    @inlinable @inline(__always)
    public static func release(_ start: UnsafeMutableRawPointer) {
        clinux_store_release(
            start.assumingMemoryBound(to: UInt32.self), UInt32(TP_STATUS_KERNEL))
    }
}
