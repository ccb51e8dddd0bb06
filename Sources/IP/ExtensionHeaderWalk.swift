// The one walk over IPv6 extension headers (RFC 8200 §4).

/// A place in the chain: the header at `offset` is of protocol `number`.
@frozen public struct ExtensionHeaderWalk {
    /// Of the header that comes next, or of the upper layer.
    public private(set) var number: UInt8
    public private(set) var offset = IPv6Header.byteCount
    /// The byte that names it.
    public private(set) var namedAt = IPv6Header.Offset.nextHeader
    /// Headers that lie behind.
    public private(set) var count = 0

    /// At the first header of `packet`.
    public init(_ packet: Bytes) { number = packet.ipv6.nextHeader }

    /// Goes behind the header at `offset`, which is of `ExtensionHeader.walked` or an authentication
    /// header (RFC 4302). It may end behind `end`, which the caller has to see.
    /// - Returns: its number and where it begins; nil, and nothing changed, when less than 8 bytes
    ///   are left before `end`.
    public mutating func next(in packet: Bytes, end: Int) -> (number: UInt8, offset: Int)? {
        guard end &- offset >= ExtensionHeader.byteCount else { return nil }
        let header = (number: number, offset: offset)
        let units = Int(packet.u8(offset &+ ExtensionHeader.lengthOffset))
        namedAt = offset
        number = packet.u8(offset)
        switch header.number {
        case ProtocolNumber.fragment: offset &+= FragmentHeader.byteCount
        // RFC 4302 §2.2: words of 4 bytes, without the first 2.
        case ProtocolNumber.authentication: offset &+= (units &+ 2) << 2
        default: offset &+= (units &+ 1) << 3
        }
        count &+= 1
        return header
    }
}
