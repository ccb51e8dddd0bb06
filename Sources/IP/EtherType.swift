// EtherTypes: what a link-layer header says of the header behind it.

/// Names as in IEEE's registry and IEEE 802.1Q.
public enum EtherType {
    @inlinable public static var ipv4: UInt16 { 0x0800 }
    @inlinable public static var ipv6: UInt16 { 0x86dd }
    /// A customer VLAN tag follows.
    @inlinable public static var customerTag: UInt16 { 0x8100 }
    /// A service VLAN tag follows (802.1ad).
    @inlinable public static var serviceTag: UInt16 { 0x88a8 }
}
