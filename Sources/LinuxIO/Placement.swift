// The CPUs and NUMA nodes of this process, and memory on a node, through libnuma.

import CLinux
import Glibc
import Routing

public enum Placement {
    /// CPUs that this process may use, ascending.
    public static func allowedCPUs() -> [Int] {
        var cpus = [Int32](repeating: 0, count: 8192)
        let count = clinux_allowed_cpus(&cpus, Int32(cpus.count))
        return count > 0 ? cpus.prefix(Int(count)).map(Int.init) : []
    }

    /// CPUs of each NUMA node that has some, as they were when first asked for; empty where the
    /// kernel knows no nodes. libnuma wants get_mempolicy(2), which containers' seccomp profiles
    /// refuse: then from sysfs, so that workers still get the right CPUs.
    public static let nodes: [Int: [Int]] = numa_available() >= 0 ? nodesOfLibrary() : nodesOfSysfs()

    private static func nodesOfLibrary() -> [Int: [Int]] {
        guard let mask = numa_allocate_cpumask() else { return [:] }
        defer { numa_free_cpumask(mask) }
        var nodes: [Int: [Int]] = [:]
        for node in 0...max(numa_max_node(), 0) where numa_node_to_cpus(node, mask) == 0 {
            let cpus = (0..<Int(mask.pointee.size)).filter {
                numa_bitmask_isbitset(mask, UInt32($0)) != 0
            }
            if !cpus.isEmpty { nodes[Int(node)] = cpus }
        }
        return nodes
    }

    static func nodesOfSysfs() -> [Int: [Int]] {
        let folder = "/sys/devices/system/node"
        var nodes: [Int: [Int]] = [:]
        for node in Host.read(folder + "/online").flatMap(NumberList.parse) ?? [] {
            let cpus = Host.read("\(folder)/node\(node)/cpulist").flatMap(NumberList.parse) ?? []
            if !cpus.isEmpty { nodes[node] = cpus }
        }
        return nodes
    }

    /// The node of a CPU; nil where the kernel knows none.
    public static func node(ofCPU cpu: Int) -> Int? {
        nodes.first { $0.value.contains(cpu) }?.key
    }

    /// Runs `body` with new memory of this thread preferably on a CPU's node: also what the
    /// kernel allocates on its behalf, such as a packet ring. Where set_mempolicy(2) is refused,
    /// by standing on that CPU meanwhile, for a page lies where it is first touched.
    public static func withMemory<R, E: Error>(
        onNodeOf cpu: Int, _ body: () throws(E) -> R
    ) throws(E) -> R {
        guard nodes.count > 1, let node = node(ofCPU: cpu) else { return try body() }
        if let before = MemoryPolicy.ofThisThread(), MemoryPolicy(preferring: node).adopt() {
            defer { _ = before.adopt() }
            return try body()
        }
        let before = allowedCPUs().map { Int32($0) }
        guard clinux_pin_self(Int32(cpu)) == 0 else { return try body() }
        defer { clinux_allow_cpus(before, Int32(before.count)) }
        return try body()
    }

    /// Pins the calling thread to one CPU.
    public static func pinSelf(to cpu: Int) throws(SystemError) {
        try checkNegative("pthread_setaffinity_np", "CPU \(cpu)", clinux_pin_self(Int32(cpu)))
    }
}

/// Where the kernel takes new pages from: set_mempolicy(2).
struct MemoryPolicy: Equatable {
    /// As many as any kernel has, and one: the kernel counts from there.
    private static let nodeCount = 1024
    private var mode: Int32
    private var nodes: [UInt]

    private init() {
        mode = MPOL_DEFAULT
        nodes = [UInt](repeating: 0, count: Self.nodeCount / UInt.bitWidth)
    }

    /// A node while it has room, and then the nearest.
    init(preferring node: Int) {
        self.init()
        mode = MPOL_PREFERRED
        nodes[node / UInt.bitWidth] = 1 << (node % UInt.bitWidth)
    }

    /// nil where it is refused.
    static func ofThisThread() -> MemoryPolicy? {
        var policy = MemoryPolicy()
        return get_mempolicy(&policy.mode, &policy.nodes, UInt(nodeCount + 1), nil, 0) == 0
            ? policy : nil
    }

    /// For this thread's new memory.
    /// - Returns: false where it is refused.
    func adopt() -> Bool { set_mempolicy(mode, nodes, UInt(Self.nodeCount + 1)) == 0 }

    /// For a mapping.
    /// - Returns: false where it is refused.
    func bind(_ start: UnsafeMutableRawPointer, byteCount: Int) -> Bool {
        mbind(start, UInt(byteCount), mode, nodes, UInt(Self.nodeCount + 1), 0) == 0
    }
}
