// A received frame as the judge sees it, and how each link layer leads to the network header.

import IP

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

public struct Frame {
    /// The network header: first byte behind the link layer.
    public var network: UnsafeRawPointer
    /// Where a rewritten head of the inner packet goes: `Limits.headBytes` writable bytes.
    public var head: UnsafeMutableRawPointer
    /// Bytes at hand from `network` on.
    public var length: Int
    /// Bytes that were on the wire from `network` on; more than `length` when cut short.
    public var wireLength: Int
    /// Bytes of the link-layer header before `network`; `vnet` counts from its start.
    public var linkLength: Int
    /// Host byte order; 0 when the link carries none that is known.
    public var etherType: UInt16
    /// Index into the policy's interfaces.
    public var interface: UInt16
    /// Addressed to this host at the link layer (`sll_pkttype` HOST), and untagged or of VLAN 0.
    public var isForUs: Bool
    public var vnet: VirtioHeader

    @inlinable @inline(__always)
    public init(
        network: UnsafeRawPointer, head: UnsafeMutableRawPointer, length: Int, wireLength: Int,
        linkLength: Int, etherType: UInt16, interface: UInt16, isForUs: Bool,
        vnet: VirtioHeader = VirtioHeader()
    ) {
        self.network = network
        self.head = head
        self.length = length
        self.wireLength = wireLength
        self.linkLength = linkLength
        self.etherType = etherType
        self.interface = interface
        self.isForUs = isForUs
        self.vnet = vnet
    }
}

extension Frame {
    /// Moves the network header behind tags that only have a priority (IEEE 802.1Q §6.9: VLAN 0),
    /// as net/core/dev.c `__netif_receive_skb_core` does at `check_vlan_id`.
    /// - Returns: false, and nothing changed, when a tag names a VLAN or is cut, or there are more
    ///   than `Limits.priorityTags` of them.
    package mutating func dropPriorityTags() -> Bool {
        let bytes = Bytes(network, count: length)
        var tagBytes = 0
        var type = etherType
        while type == EtherType.customerTag || type == EtherType.serviceTag {
            guard tagBytes < VLANTag.byteCount &* Limits.priorityTags,
                tagBytes &+ VLANTag.byteCount <= bytes.count
            else { return false }
            let tag = VLANTag(bytes.dropFirst(tagBytes))
            guard tag.identifier == 0 else { return false }
            type = tag.etherType
            tagBytes &+= VLANTag.byteCount
        }
        network += tagBytes
        length &-= tagBytes
        wireLength &-= tagBytes
        linkLength &+= tagBytes
        etherType = type
        return true
    }

    /// Of `arrivalWord`: a checksum to be finished, a segmentation to be made.
    static let offloadBits = UInt64(VirtioHeader.needsChecksum) << 48 | 0xff << 56

    /// That the fields lie as `arrivalWord` takes them.
    static func checkLayout() {
        precondition(
            MemoryLayout<Frame>.offset(of: \.etherType) == 40
                && MemoryLayout<Frame>.offset(of: \.interface) == 42
                && MemoryLayout<Frame>.offset(of: \.isForUs) == 44
                && MemoryLayout<Frame>.offset(of: \.vnet) == 46
                && MemoryLayout<VirtioHeader>.offset(of: \.gsoType) == 1)
    }
}

extension UnsafePointer where Pointee == Frame {
    /// Ethertype, interface, `isForUs`, a byte of padding, and flags and segment type of `vnet`,
    /// from the lowest bits up, for few comparisons.
    @inline(__always)
    var arrivalWord: UInt64 {
        UInt64(littleEndian: UnsafeRawPointer(self).load(fromByteOffset: 40, as: UInt64.self))
    }

    /// `arrivalWord` without what belongs to the packet alone: ethertype, interface and `isForUs`.
    @inline(__always)
    var arrival: UInt64 { arrivalWord << 24 }
}

/// Link layers that captures come in, numbered as pcap's LINKTYPE_ values.
public enum LinkType: UInt32, Sendable {
    case ethernet = 1
    /// LINKTYPE_RAW: begins with an IP header.
    case raw = 101
    /// LINKTYPE_LINUX_SLL: `tcpdump -i any`.
    case linuxCooked = 113
    case linuxCooked2 = 276

    /// The interface that a frame came in by, by its number on the host; nil where the link layer
    /// does not tell, and where the frame is too short.
    public func interfaceIndex(_ frame: UnsafeRawBufferPointer) -> Int32? {
        guard self == .linuxCooked2, frame.count >= 8, let base = frame.baseAddress else { return nil }
        return LinuxCookedHeader2(Bytes(base, count: frame.count)).interfaceIndex
    }

    /// Splits the link layer off.
    /// - Returns: its length, the ethertype, and whether the frame is for this host; nil when
    ///   the frame is too short to have one.
    public func parse(_ frame: UnsafeRawBufferPointer)
        -> (length: Int, etherType: UInt16, isForUs: Bool)?
    {
        guard let base = frame.baseAddress, frame.count >= headerLength else { return nil }
        let bytes = Bytes(base, count: frame.count)
        switch self {
        case .ethernet: return (headerLength, EthernetHeader(bytes).etherType, true)
        case .raw:
            guard bytes.count > 0 else { return nil }
            let version = bytes.ipv4.version
            return (headerLength, version == 4 ? EtherType.ipv4 : version == 6 ? EtherType.ipv6 : 0, true)
        case .linuxCooked:
            let header = LinuxCookedHeader(bytes)
            return (headerLength, header.etherType, header.packetType == 0)
        case .linuxCooked2:
            let header = LinuxCookedHeader2(bytes)
            return (headerLength, header.etherType, header.packetType == 0)
        }
    }

    private var headerLength: Int {
        switch self {
        case .ethernet: EthernetHeader.byteCount
        case .raw: 0
        case .linuxCooked: LinuxCookedHeader.byteCount
        case .linuxCooked2: LinuxCookedHeader2.byteCount
        }
    }
}
