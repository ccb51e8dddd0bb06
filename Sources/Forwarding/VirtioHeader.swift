// The header before a packet that tells what the kernel is still to do: finish its checksum, segment it.

/// linux/virtio_net.h `struct virtio_net_hdr` (virtio 1.2 §5.1.6), host byte order.
@frozen
public struct VirtioHeader: BitwiseCopyable, Sendable, Equatable {
    public var flags: UInt8
    public var gsoType: UInt8
    /// Bytes of all headers of a GSO frame.
    public var headerLength: UInt16
    /// Payload bytes of each segment of a GSO frame.
    public var gsoSize: UInt16
    /// Where the checksum that is still to be finished begins to sum.
    public var checksumStart: UInt16
    /// Where it goes, from `checksumStart` on.
    public var checksumOffset: UInt16

    @inlinable @inline(__always)
    public init(
        flags: UInt8 = 0, gsoType: UInt8 = 0, headerLength: UInt16 = 0, gsoSize: UInt16 = 0,
        checksumStart: UInt16 = 0, checksumOffset: UInt16 = 0
    ) {
        self.flags = flags
        self.gsoType = gsoType
        self.headerLength = headerLength
        self.gsoSize = gsoSize
        self.checksumStart = checksumStart
        self.checksumOffset = checksumOffset
    }

    /// On the wire between us and the kernel; the structure in memory is the same.
    public static let byteCount = 10

    @inlinable
    public static var needsChecksum: UInt8 { 1 }
    @inlinable
    public static var gsoNone: UInt8 { 0 }
    @inlinable
    public static var gsoTCPv4: UInt8 { 1 }
    @inlinable
    public static var gsoTCPv6: UInt8 { 4 }
    @inlinable
    public static var gsoUDP: UInt8 { 5 }
    /// Flag beside a TCP type: the first segment carries CWR.
    @inlinable
    public static var gsoECN: UInt8 { 0x80 }
}
