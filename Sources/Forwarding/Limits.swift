// Every bound of a configuration and of the packet's way, in one place.

public enum Limits {
    // MARK: Of a configuration

    /// What `check` compares a configuration with; docs/configuration.md has the same rows.
    public static let table = [
        interfaces, tunnels, devices, destinations, ports, prefixes, nestedPrefixes, rewrites, workers, rings,
    ]

    public static let interfaces = Limit(
        value: 256, unit: "interfaces",
        why: "a worker's cache of outer headers numbers them with 8 bits",
        remedy: "name the bond or bridge that they share")
    public static let tunnels = Limit(
        value: 1024, unit: "tunnels", why: "each has tables and counters of its own",
        remedy: "write tunnels that differ only in addresses as one with several local and remotes")
    public static let devices = Limit(
        value: 1024, unit: "devices", why: "each takes a place in every worker's io_uring",
        remedy: "let destinations share a device without netns, which the kernel routes on from")
    public static let destinations = Limit(
        value: 65_535, unit: "destinations of all tunnels together",
        why: "a verdict numbers them with 16 bits",
        remedy: "write a prefix for neighbouring addresses, and several ports in one destination")
    public static let ports = Limit(
        value: 4096, unit: "ports and ranges of a destination",
        why: "they are searched one by one for each packet", remedy: "write ranges")
    public static let prefixes = Limit(
        value: 131_072, unit: "prefixes in local, remotes, deny and exempt together",
        why: "a table takes up to 15 KiB for an IPv6 address", remedy: "write shorter prefixes")
    public static let nestedPrefixes = Limit(
        value: 1_048_576, unit: "pairs of a prefix and another within it",
        why: "each prefix has a list of all that hold it",
        remedy: "put what the wider prefixes say into the narrower ones, or leave one of them out")
    public static let rewrites = Limit(
        value: 64, unit: "rules of inner.rewriteSources",
        why: "they are searched one by one, in the kernel's filter and here",
        remedy: "remove some")
    public static let workers = Limit(
        value: 256, unit: "workers",
        why: "a TUN device has at most 256 queues, and a fanout group at most 256 sockets",
        remedy: "list fewer CPUs")
    public static let rings = Limit(
        value: 1024, unit: "rings, one for each worker and interface",
        why: "each takes 1 MiB of kernel memory or more",
        remedy: "list fewer CPUs under workers.cpus or fewer interfaces")

    // MARK: Of a ring

    /// Bytes that all rings share, and bounds of each. A ring is sized by time: at half a million
    /// small packets a second, the 8192 slots of 16 MiB hold what comes in 16 ms, the 512 of 1 MiB
    /// what comes in one.
    public static let ringBudget = 256 << 20
    public static let ringBytesMin = 1 << 20
    public static let ringBytesMax = 16 << 20
    /// Bytes of a slot; larger frames take the long way.
    public static let slotBytesMin = 2048
    public static let slotBytesMax = 16_384

    /// Bytes of a slot that holds the frames of a link, where that is possible.
    public static func slotBytes(mtu: Int) -> Int {
        // Link-layer header, virtio_net_hdr, slot header and address: below 128 bytes.
        var bytes = slotBytesMin
        while bytes < min(mtu + 128, slotBytesMax) { bytes *= 2 }
        return bytes
    }

    /// Bytes of each of so many rings: an equal share of the budget within the bounds, and a power
    /// of two, as the worker's index into the slots needs.
    public static func ringBytes(rings: Int) -> Int {
        var bytes = ringBytesMax
        while bytes > ringBytesMin && bytes * rings > ringBudget { bytes /= 2 }
        return bytes
    }

    // MARK: Of a packet

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

    /// What one limit means for another; ends the process where it does not hold.
    public static func checkRelations() {
        // The cache of outer headers numbers interfaces with 8 bits, verdicts number destinations with 16.
        precondition(interfaces.value <= 1 << 8 && destinations.value < 1 << 16)
        precondition(devices.value < 1 << 16)
        precondition(tunnels.value <= destinations.value && workers.value <= 256)
        // Each interface may have a ring, and every ring a slot for each frame of a batch.
        precondition(interfaces.value <= rings.value && ringBytesMin / slotBytesMax >= batch)
        precondition(slotBytesMin.nonzeroBitCount == 1 && slotBytesMax.nonzeroBitCount == 1)
        precondition(ringBytesMin.nonzeroBitCount == 1 && ringBytesMax.nonzeroBitCount == 1)
        precondition(ringBytesMin <= ringBytesMax && ringBytesMax <= ringBudget)
        precondition(fragments * 1280 >= 65_535 && extensionBytes >= extensionHeaders * 8)
    }

    // MARK: Of a worker

    /// Frames that a worker judges and injects at once.
    public static let batch = 64
}
