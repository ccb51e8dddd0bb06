// The IPv6 fragment header (RFC 8200 §4.5).

/// RFC 8200 §4.5.
@frozen public struct FragmentHeader {
    @inlinable public static var byteCount: Int { 8 }
    /// Where offset and flags stand.
    @inlinable public static var fragmentOffset: Int { 2 }
    /// The bits of them that are the offset in bytes.
    @inlinable public static var offsetMask: UInt16 { 0xfff8 }

    private let bytes: Bytes

    init(_ bytes: Bytes) { self.bytes = bytes }

    public var nextHeader: UInt8 { bytes.u8(0) }
    /// Bytes; 0 in the first fragment.
    public var fragmentOffset: Int { Int(bytes.u16(Self.fragmentOffset) & Self.offsetMask) }
    public var moreFragments: Bool { bytes.u16(Self.fragmentOffset) & 1 != 0 }
    public var identification: UInt32 { bytes.u32(4) }
    /// A whole packet all the same (RFC 6946).
    public var isAtomic: Bool { fragmentOffset == 0 && !moreFragments }
}
