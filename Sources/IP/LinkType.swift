// How each link layer of a capture leads to the network header.

/// Link layers that captures come in, numbered as pcap's LINKTYPE_ values.
public enum LinkType: UInt32, Sendable {
    case ethernet = 1
    /// LINKTYPE_RAW: begins with an IP header.
    case raw = 101
    /// LINKTYPE_LINUX_SLL: `tcpdump -i any`.
    case linuxCooked = 113
    case linuxCooked2 = 276

    /// Also of LINKTYPE_IPV4 and LINKTYPE_IPV6, which are RAW of one version.
    public init?(number: UInt32) {
        self.init(rawValue: number == 228 || number == 229 ? LinkType.raw.rawValue : number)
    }

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
