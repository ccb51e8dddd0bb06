// An option of IPv4 (RFC 791 §3.1), IPv6 (RFC 8200 §4.2) or TCP (RFC 9293 §3.1): type, length, value.

/// One that is longer than its type alone.
@frozen public struct HeaderOption {
    /// Bytes before the value.
    @inlinable public static var byteCount: Int { 2 }

    @usableFromInline let bytes: Bytes

    @inlinable @inline(__always) init(_ bytes: Bytes) { self.bytes = bytes }

    @inlinable @inline(__always) public var type: UInt8 { bytes.u8(0) }
    /// Bytes: of IPv6 those of the value, of the others those of all.
    @inlinable @inline(__always) public var length: UInt8 { bytes.u8(1) }

    // IPv4's routes and timestamps.

    /// The place of the next entry, counted from 1.
    @inlinable @inline(__always) public var pointer: UInt8 { bytes.u8(2) }
    /// Of timestamps.
    @inlinable @inline(__always) public var overflowAndFlags: UInt8 { bytes.u8(3) }
}

extension Bytes {
    /// What begins with an option.
    @inlinable @inline(__always) public var option: HeaderOption { HeaderOption(self) }
}

extension Bytes {
    /// Walks the options of IPv4 or TCP, which end with type 0 or at `end`; type 1 has no length.
    /// - Parameter body: given an option's type, where it begins and its bytes in all.
    /// - Returns: false where a length does not fit, or `body` says so.
    @inlinable @inline(__always)
    public func walkOptions(
        from start: Int, to end: Int, _ body: (_ type: UInt8, _ offset: Int, _ length: Int) -> Bool
    ) -> Bool {
        var offset = start
        while offset < end {
            let type = u8(offset)
            if type == 0 { return true }
            if type == 1 {
                offset &+= 1
                continue
            }
            guard offset &+ HeaderOption.byteCount <= end else { return false }
            let length = Int(dropFirst(offset).option.length)
            guard length >= HeaderOption.byteCount, offset &+ length <= end, body(type, offset, length)
            else { return false }
            offset &+= length
        }
        return true
    }
}
