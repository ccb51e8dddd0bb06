// Every bound of the packet's way, in one place.

public enum Limits {
    /// Extension headers that are walked before an upper-layer header must come.
    public static let extensionHeaders = 8
    /// Bytes of extension headers that are walked.
    public static let extensionBytes = 256
    /// Tags of VLAN 0 in a frame, behind the one that the kernel takes off.
    public static let priorityTags = 8
    /// Options of one hop-by-hop or destination header (net/ipv6 `max_hbh_opts_number`).
    public static let extensionOptions = 8
    /// Fragments of one outer datagram: 64 KB in packets of the smallest IPv6 MTU are 54.
    public static let fragments = 64
    /// Bytes of an inner packet's head that may be rewritten: IP header and TCP header.
    public static let headBytes = 240
    /// Interfaces of a configuration: a tunnel holds them as a bit set.
    public static let interfaces = 64
    /// TUN devices of a configuration: places among an io_uring's registered files.
    public static let devices = 1024
    /// Frames that a worker judges and injects at once.
    public static let batch = 64
}
