// A received frame as the judge sees it.

import IP

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
