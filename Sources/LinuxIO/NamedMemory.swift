// Memory of one worker in one piece: under a name in /proc/PID/maps, and on the node of its CPU.

import CLinux
import Glibc

public final class NamedMemory: @unchecked Sendable {
    // @unchecked: handed out in pieces by the thread that makes it; the pieces are their takers'.

    public let byteCount: Int
    /// What it is a mapping of: to be handed to another process.
    public let file: Descriptor
    private let base: UnsafeMutableRawPointer
    private var used = 0

    private static let alignment = 128

    /// Bytes that `take` needs for so many.
    public static func bytes<T: ~Copyable>(for _: T.Type, _ count: Int) -> Int {
        (MemoryLayout<T>.stride * count + alignment - 1) & ~(alignment - 1)
    }

    /// Pre-faulted and zeroed on the CPU's NUMA node, so the worker takes no page faults. mbind(2) also keeps
    /// NUMA balancing from unmapping pages to sample accesses; where mbind is refused, first touch decides.
    /// - Parameter name: at most 200 bytes; seen as /memfd:NAME, which no kernel must be built
    ///   for as for names of anonymous memory.
    public init(name: String, byteCount: Int, cpu: Int) throws(SystemError) {
        let pageMask = Int(getpagesize()) - 1
        let bytes = (max(byteCount, 1) + pageMask) & ~pageMask
        file = Descriptor(try checkNegative("memfd_create", name, clinux_memfd(name)))
        let number = file.number
        try check("ftruncate", name) { ftruncate(number, off_t(bytes)) }
        // Nobody who is handed it can cut it short under another's feet: F_SEAL_SHRINK | F_SEAL_GROW.
        _ = fcntl(number, 1033, 2 | 4)
        let mapped = try Self.map(file, bytes, name)
        if Placement.nodes.count > 1, let node = Placement.node(ofCPU: cpu) {
            _ = MemoryPolicy(preferring: node).bind(mapped, byteCount: bytes)
        }
        Placement.withMemory(onNodeOf: cpu) { _ = memset(mapped, 0, bytes) }
        base = mapped
        self.byteCount = bytes
    }

    /// Memory of another process, with what stands in it.
    /// - Parameter byteCount: as it was made.
    public init(adopting file: Descriptor, byteCount: Int) throws(SystemError) {
        let pageMask = Int(getpagesize()) - 1
        let bytes = (max(byteCount, 1) + pageMask) & ~pageMask
        guard let size = file.status?.st_size, size >= bytes else {
            throw SystemError("mmap", "memory of another process", errno: EINVAL)
        }
        self.file = file
        base = try Self.map(file, bytes, "memory of another process")
        self.byteCount = bytes
    }

    private static func map(
        _ file: Descriptor, _ bytes: Int, _ name: String
    ) throws(SystemError) -> UnsafeMutableRawPointer {
        let mapped = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.number, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw SystemError("mmap", name, errno: errno)
        }
        return mapped
    }

    deinit { munmap(base, byteCount) }

    /// The next piece, zeroed, at a multiple of 128 bytes; valid while the whole lives.
    public func take<T: ~Copyable>(_: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
        let piece = base + used
        used += Self.bytes(for: T.self, count)
        precondition(used <= byteCount)
        return piece.bindMemory(to: T.self, capacity: count)
    }

    public var start: UInt { UInt(bitPattern: base) }
}

extension Placement {
    /// Pages of this process's mappings by node, by first address; what cannot be learnt is left
    /// out.
    /// - Parameter starts: the first addresses of whole mappings.
    public static func pagesByNode(ofMappings starts: Set<UInt>) -> [UInt: [Int: Int]] {
        NumaMaps.parse(Host.read("/proc/self/numa_maps") ?? "", of: starts)
    }
}
