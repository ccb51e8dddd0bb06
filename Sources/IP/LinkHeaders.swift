// Link-layer headers: EthernetHeader, VLANTag (IEEE 802.1Q), and what `tcpdump -i any` writes in their place.

@frozen public struct EthernetHeader {
    @inlinable public static var byteCount: Int { 14 }

    @usableFromInline let bytes: Bytes

    @inlinable public init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable public var etherType: UInt16 { bytes.u16(12) }
}

/// A tag behind the EtherType that announces it.
@frozen public struct VLANTag {
    @inlinable public static var byteCount: Int { 4 }
    /// The bits of the first half that name a VLAN; 0 names none (IEEE 802.1Q §6.9).
    @inlinable public static var identifierMask: UInt16 { 0x0fff }
    /// Where the type of what follows stands.
    @inlinable public static var typeOffset: Int { 2 }

    @usableFromInline let bytes: Bytes

    @inlinable public init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable public var identifier: UInt16 { bytes.u16(0) & Self.identifierMask }
    @inlinable public var etherType: UInt16 { bytes.u16(Self.typeOffset) }
}

/// LINKTYPE_LINUX_SLL.
@frozen public struct LinuxCookedHeader {
    @inlinable public static var byteCount: Int { 16 }

    @usableFromInline let bytes: Bytes

    @inlinable public init(_ bytes: Bytes) { self.bytes = bytes }

    /// As `sll_pkttype`: 0 is for this host.
    @inlinable public var packetType: UInt16 { bytes.u16(0) }
    @inlinable public var etherType: UInt16 { bytes.u16(14) }
}

/// LINKTYPE_LINUX_SLL2.
@frozen public struct LinuxCookedHeader2 {
    @inlinable public static var byteCount: Int { 20 }

    @usableFromInline let bytes: Bytes

    @inlinable public init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable public var etherType: UInt16 { bytes.u16(0) }
    @inlinable public var interfaceIndex: Int32 { Int32(bitPattern: bytes.u32(4)) }
    /// As `sll_pkttype`: 0 is for this host.
    @inlinable public var packetType: UInt8 { bytes.u8(10) }
}
