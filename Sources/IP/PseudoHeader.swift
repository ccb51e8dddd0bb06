// The pseudo-header that checksums of TCP, UDP and ICMPv6 cover.

extension Bytes {
    /// Of RFC 9293 §3.1 and RFC 8200 §8.1, over this packet's addresses and protocol.
    /// - Parameter length: bytes from the transport header on.
    @inlinable @inline(__always)
    public func pseudoHeaderSum(isIPv4: Bool, length: Int) -> UInt64 {
        let number = isIPv4 ? ipv4.protocolNumber : ipv6.nextHeader
        var sum =
            UInt64(UInt16(truncatingIfNeeded: length).bigEndian)
            &+ UInt64(UInt16(number).bigEndian)
        var offset = isIPv4 ? IPv4Header.Offset.source : IPv6Header.Offset.source
        let end = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        while offset < end {
            sum &+= UInt64(raw(offset) as UInt32)
            offset &+= 4
        }
        return sum
    }
}
