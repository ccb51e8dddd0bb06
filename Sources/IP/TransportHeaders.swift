// Ports, TCPHeader (RFC 9293 §3.1), UDPHeader (RFC 768), ICMPHeader (RFC 792, RFC 4443 §2.1); fields under
// the RFCs' names. Each field is read by itself: a header that is cut short may still have some.

/// The ports that TCP, UDP, SCTP and others begin with.
@frozen public struct Ports {
    @inlinable public static var byteCount: Int { 4 }
    /// Where the destination port stands.
    @inlinable public static var destinationOffset: Int { 2 }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var source: UInt16 { bytes.u16(0) }
    @inlinable @inline(__always) public var destination: UInt16 { bytes.u16(Self.destinationOffset) }
    /// Both, as they lie.
    @inlinable @inline(__always) public var raw: UInt32 { bytes.raw(0) }
}

@frozen public struct TCPHeader {
    /// Bytes without options.
    @inlinable public static var byteCount: Int { 20 }

    /// Where a field stands.
    public enum Offset {
        @inlinable public static var sequenceNumber: Int { 4 }
        @inlinable public static var flags: Int { 13 }
        @inlinable public static var checksum: Int { 16 }
    }

    // Bits of `flags`.
    @inlinable public static var fin: UInt8 { 0x01 }
    @inlinable public static var syn: UInt8 { 0x02 }
    @inlinable public static var rst: UInt8 { 0x04 }
    @inlinable public static var psh: UInt8 { 0x08 }
    @inlinable public static var ack: UInt8 { 0x10 }
    @inlinable public static var urg: UInt8 { 0x20 }
    @inlinable public static var cwr: UInt8 { 0x80 }

    /// Kind of option.
    @inlinable public static var maximumSegmentSize: UInt8 { 2 }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var ports: Ports { Ports(bytes) }
    @inlinable @inline(__always) public var sequenceNumber: UInt32 { bytes.u32(Offset.sequenceNumber) }
    @inlinable @inline(__always) public var acknowledgmentNumber: UInt32 { bytes.u32(8) }
    /// Bytes of the header, options included.
    @inlinable @inline(__always) public var dataOffset: Int { Int(bytes.u8(12) >> 4) << 2 }
    @inlinable @inline(__always) public var flags: UInt8 { bytes.u8(Offset.flags) }
    /// Data offset, flags and window in one word, from the highest bit down.
    @inlinable @inline(__always) public var offsetToWindow: UInt32 { bytes.u32(12) }
    @inlinable @inline(__always) public var rawChecksum: UInt16 { bytes.raw(Offset.checksum) }
    @inlinable @inline(__always) public var urgentPointer: UInt16 { bytes.u16(18) }
}

@frozen public struct UDPHeader {
    @inlinable public static var byteCount: Int { 8 }

    /// Where a field stands.
    public enum Offset {
        @inlinable public static var length: Int { 4 }
        @inlinable public static var checksum: Int { 6 }
    }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var length: UInt16 { bytes.u16(Offset.length) }
}

@frozen public struct ICMPHeader {
    /// Bytes with what stands in the second word, which depends on the type.
    @inlinable public static var byteCount: Int { 8 }

    /// Where a field stands.
    public enum Offset {
        @inlinable public static var checksum: Int { 2 }
        /// RFC 1191 §4: the lower half of the second word. RFC 4443 §3.2 has 32 bits, which end there.
        @inlinable public static var mtu: Int { 6 }
    }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var type: UInt8 { bytes.u8(0) }
}

extension Bytes {
    @inlinable @inline(__always)
    public func ports(at offset: Int) -> Ports { Ports(dropFirst(offset)) }
    @inlinable @inline(__always)
    public func tcp(at offset: Int) -> TCPHeader { TCPHeader(dropFirst(offset)) }
    @inlinable @inline(__always)
    public func udp(at offset: Int) -> UDPHeader { UDPHeader(dropFirst(offset)) }
    @inlinable @inline(__always)
    public func icmp(at offset: Int) -> ICMPHeader { ICMPHeader(dropFirst(offset)) }
}

extension UnsafeMutableRawPointer {
    /// An ICMP error that tells an MTU, without its checksum.
    public func fillICMP(type: UInt8, code: UInt8, mtu: UInt16) {
        storeBigEndian(UInt64(type) << 56 | UInt64(code) << 48 | UInt64(mtu), at: 0)
    }
}
