// One slot of an AF_PACKET ring.

/// What a slot holds, as the kernel left it.
@frozen
public struct Slot {
    /// Where it begins, for `Slots.release`.
    public let start: UnsafeMutableRawPointer
    /// The frame's link-layer header; ten bytes before it stands the `virtio_net_hdr`.
    public let frame: UnsafeMutableRawPointer
    /// Bytes at `frame`.
    public let capturedLength: Int
    /// Bytes that were on the wire.
    public let wireLength: Int
    /// Bytes of link-layer header.
    public let linkLength: Int
    /// The whole frame did not fit and waits in the socket's queue: `PacketRing.receive`.
    public let isCopied: Bool
    /// For this host (`sll_pkttype`), and untagged or of VLAN 0.
    public let isForUs: Bool

    @inlinable @inline(__always)
    init(
        start: UnsafeMutableRawPointer, frame: UnsafeMutableRawPointer, capturedLength: Int,
        wireLength: Int, linkLength: Int, isCopied: Bool, isForUs: Bool
    ) {
        self.start = start
        self.frame = frame
        self.capturedLength = capturedLength
        self.wireLength = wireLength
        self.linkLength = linkLength
        self.isCopied = isCopied
        self.isForUs = isForUs
    }
}
