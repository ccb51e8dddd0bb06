// Where workers run: threads, the CPUs of an interface's NUMA node, and memory on that node.

import CLinux
import Glibc

public enum Placement {
    /// CPUs that this process may use, ascending.
    public static func allowedCPUs() -> [Int] {
        var cpus = [Int32](repeating: 0, count: 1024)
        let count = clinux_allowed_cpus(&cpus, Int32(cpus.count))
        return count > 0 ? cpus.prefix(Int(count)).map(Int.init) : []
    }

    /// The NUMA node of a network device, or nil for a virtual one (or a machine with one node).
    public static func node(ofInterface name: String) -> Int? {
        guard let text = Host.read("/sys/class/net/\(name)/device/numa_node"),
            let node = Int(text), node >= 0
        else { return nil }
        return node
    }

    /// The node of a CPU; nil where libnuma says that the machine has none.
    public static func node(ofCPU cpu: Int) -> Int? {
        guard numa_available() >= 0 else { return nil }
        let node = numa_node_of_cpu(Int32(cpu))
        return node >= 0 ? Int(node) : nil
    }

    /// The allowed CPUs of the interface's node; all allowed ones when it has no node.
    public static func cpus(nearInterface name: String) -> [Int] {
        let allowed = allowedCPUs()
        guard let node = node(ofInterface: name) else { return allowed }
        let near = allowed.filter { self.node(ofCPU: $0) == node }
        return near.isEmpty ? allowed : near
    }

    /// Runs `body` with new memory of this thread preferably on a node: also what the kernel
    /// allocates on its behalf, such as a packet ring.
    public static func withMemory<R, E: Error>(
        onNodeOf cpu: Int, _ body: () throws(E) -> R
    ) throws(E) -> R {
        guard let node = node(ofCPU: cpu) else { return try body() }
        numa_set_preferred(Int32(node))
        defer { numa_set_localalloc() }
        return try body()
    }

    /// Pins the calling thread to one CPU.
    public static func pinSelf(to cpu: Int) throws(SystemError) {
        try checkNegative("pthread_setaffinity_np", "CPU \(cpu)", clinux_pin_self(Int32(cpu)))
    }
}

/// A thread of our own; nothing of Swift's concurrency pool ever runs on it.
public final class WorkerThread: @unchecked Sendable {
    // @unchecked: `handle` is written once, before anybody else can see the object.
    private var handle = pthread_t()

    private final class Body {
        let name: String
        let run: @Sendable () -> Void
        init(_ name: String, _ run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// - Parameter name: at most 15 bytes, seen in `ps -L` and `top -H`.
    public init(name: String, _ run: @escaping @Sendable () -> Void) throws(SystemError) {
        let body = Unmanaged.passRetained(Body(name, run))
        let result = pthread_create(&handle, nil, { context in
            let body = Unmanaged<Body>.fromOpaque(context!).takeRetainedValue()
            clinux_name_self(body.name)
            body.run()
            return nil
        }, body.toOpaque())
        guard result == 0 else {
            body.release()
            throw SystemError("pthread_create", name, errno: result)
        }
    }

    public func join() { pthread_join(handle, nil) }

    /// CPU time that the thread has used; 0 once it has ended.
    public func cpuNanoseconds() -> UInt64 {
        var clock = clockid_t()
        var time = timespec()
        guard pthread_getcpuclockid(handle, &clock) == 0, clock_gettime(clock, &time) == 0 else {
            return 0
        }
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// An eventfd: wakes a thread that sleeps on descriptors.
public final class Wakeup: Sendable {
    public let descriptor: Descriptor

    public init() throws(SystemError) {
        descriptor = Descriptor(
            try check("eventfd", "wakeup") { eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) })
    }

    public func signal() {
        var one: UInt64 = 1
        _ = write(descriptor.number, &one, 8)
    }

    public func clear() {
        var value: UInt64 = 0
        _ = read(descriptor.number, &value, 8)
    }
}
