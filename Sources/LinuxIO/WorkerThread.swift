// Threads with a name, outside of Swift's concurrency pool.

import CLinux
import Glibc
import Synchronization

/// A thread of our own; nothing of Swift's concurrency pool ever runs on it.
public final class WorkerThread: @unchecked Sendable {
    // @unchecked: `handle` is written once, before anybody else can see the object.
    private var handle = pthread_t()
    private let isJoined = Atomic<Bool>(false)

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
        let result = pthread_create(
            &handle, nil,
            { context in
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

    /// Waits for its end; nothing once that was waited for.
    public func join() {
        if !isJoined.exchange(true, ordering: .relaxed) { pthread_join(handle, nil) }
    }

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
