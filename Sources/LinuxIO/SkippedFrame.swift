// A frame that nobody tries again.

import CLinux

/// A frame of a batch that has killed a worker again and again, as it stood in its slot.
public struct SkippedFrame: Sendable, Equatable {
    /// From the link-layer header on; fewer than `wireLength` where the slot held fewer.
    public let bytes: [UInt8]
    public let wireLength: Int
    /// When it came, since 1970.
    public let seconds: UInt32
    public let nanoseconds: UInt32

    public init(bytes: [UInt8], wireLength: Int, seconds: UInt32, nanoseconds: UInt32) {
        (self.bytes, self.wireLength) = (bytes, wireLength)
        (self.seconds, self.nanoseconds) = (seconds, nanoseconds)
    }

    /// - Parameter copy: of a frame that exceeded its slot; nil: there is none.
    init(_ slot: Slot, copy: ArraySlice<UInt8>?) {
        let header = slot.start.assumingMemoryBound(to: tpacket2_hdr.self).pointee
        let inSlot = UnsafeRawBufferPointer(start: slot.frame, count: slot.capturedLength)
        self.init(
            bytes: copy.map(Array.init) ?? Array(inSlot), wireLength: slot.wireLength,
            seconds: header.tp_sec, nanoseconds: header.tp_nsec)
    }
}
