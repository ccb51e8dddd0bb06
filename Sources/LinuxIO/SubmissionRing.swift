// One worker's io_uring: writes to registered TUN queues, and sleeping until a descriptor is ready.
// Must be created and used by the worker's own thread (IORING_SETUP_SINGLE_ISSUER).

import CLinux
import Glibc

public final class SubmissionRing {
    /// Registered-file places; queues are put there by `register`.
    public static let filePlaces = 64

    private let ring: UnsafeMutablePointer<io_uring>
    /// Whether the kernel runs completions only when we ask (IORING_SETUP_DEFER_TASKRUN).
    public let isDeferred: Bool

    /// - Parameter entries: submissions that are queued at most before a submit.
    public init(entries: UInt32) throws(SystemError) {
        ring = .allocate(capacity: 1)
        ring.initialize(to: io_uring())
        var parameters = io_uring_params()
        parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
            | IORING_SETUP_CQSIZE
        parameters.cq_entries = entries * 4
        var result = io_uring_queue_init_params(entries, ring, &parameters)
        var isDeferred = true
        if result == -EINVAL {
            // Before Linux 6.1.
            parameters = io_uring_params()
            parameters.flags = IORING_SETUP_CQSIZE
            parameters.cq_entries = entries * 4
            result = io_uring_queue_init_params(entries, ring, &parameters)
            isDeferred = false
        }
        guard result >= 0 else {
            ring.deallocate()
            throw SystemError(
                "io_uring_setup", "worker", errno: -result, mend: Self.mend(-result))
        }
        result = io_uring_register_files_sparse(ring, UInt32(Self.filePlaces))
        guard result >= 0 else {
            io_uring_queue_exit(ring)
            ring.deallocate()
            throw SystemError("io_uring_register_files", "worker", errno: -result)
        }
        // Last: a throw behind it would run `deinit`, too.
        self.isDeferred = isDeferred
    }

    deinit {
        // The kernel ends a ring in a work queue, and a device whose queues were registered would
        // go a moment later than its process.
        io_uring_unregister_files(ring)
        io_uring_queue_exit(ring)
        ring.deallocate()
    }

    private static func mend(_ error: Int32) -> String {
        switch error {
        case EPERM:
            """
            io_uring is refused here: set sysctl kernel.io_uring_disabled=0, or in a container \
            use a seccomp profile that allows io_uring_setup, io_uring_enter and \
            io_uring_register (Docker's and containerd's default profiles do not)
            """
        case ENOSYS: "this kernel has no io_uring: boot one with CONFIG_IO_URING=y (5.19 or newer)"
        case ENOMEM: "raise the limit of locked memory: ulimit -l unlimited, or LimitMEMLOCK=infinity"
        default: "io_uring of Linux 5.19 or newer is needed"
        }
    }

    /// Puts a descriptor at a place of the registered files; -1 empties it.
    public func register(_ descriptor: Int32, at place: Int) throws(SystemError) {
        var number = descriptor
        try checkNegative(
            "io_uring_register_files_update", "worker",
            io_uring_register_files_update(ring, UInt32(place), &number, 1))
    }

    /// The ring as the worker's loop uses it. Valid while this lives.
    public var queue: SubmissionQueue { SubmissionQueue(ring: ring) }
}

/// Trivially copyable, so that the loop counts no references.
public struct SubmissionQueue: BitwiseCopyable {
    @usableFromInline let ring: UnsafeMutablePointer<io_uring>

    @usableFromInline init(ring: UnsafeMutablePointer<io_uring>) { self.ring = ring }

    /// Queues a gathering write to a registered file. `vectors` must stay until it was submitted,
    /// the bytes until its completion. There must be space.
    @inlinable @inline(__always)
    public func queueGather(
        place: Int32, _ vectors: UnsafePointer<iovec>, _ count: UInt32, tag: UInt64
    ) {
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_writev(entry, place, vectors, count, 0)
        entry.pointee.flags |= UInt8(truncatingIfNeeded: CLINUX_IOSQE_FIXED_FILE)
        entry.pointee.user_data = tag
    }

    /// Queues a write of `count` bytes to a registered file. They must stay until its completion.
    @inlinable @inline(__always)
    public func queueWrite(
        place: Int32, _ bytes: UnsafeRawPointer, _ count: UInt32, tag: UInt64
    ) {
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_write(entry, place, bytes, count, 0)
        entry.pointee.flags |= UInt8(truncatingIfNeeded: CLINUX_IOSQE_FIXED_FILE)
        entry.pointee.user_data = tag
    }

    /// Queues one wakeup for when the descriptor can be read.
    @inlinable
    public func queuePoll(_ descriptor: Int32, tag: UInt64) {
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_poll_add(entry, descriptor, UInt32(POLLIN))
        entry.pointee.user_data = tag
    }

    /// Queues the end of a poll that was queued with tag `target`.
    @inlinable
    public func queuePollRemoval(of target: UInt64, tag: UInt64) {
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_poll_remove(entry, target)
        entry.pointee.user_data = tag
    }

    /// Queues a wakeup for a time of CLOCK_MONOTONIC, in nanoseconds.
    @inlinable
    public func queueTimer(_ timer: SubmissionTimer, at nanoseconds: UInt64, tag: UInt64) {
        timer.time.pointee = __kernel_timespec(
            tv_sec: Int64(nanoseconds / 1_000_000_000), tv_nsec: Int64(nanoseconds % 1_000_000_000))
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_timeout(entry, timer.time, 0, UInt32(IORING_TIMEOUT_ABS))
        entry.pointee.user_data = tag
    }

    /// Hands what is queued to the kernel: one system call. Completions of TUN writes are there
    /// when it returns.
    @inlinable @inline(__always)
    @discardableResult
    public func submit() -> Int32 { io_uring_submit_and_get_events(ring) }

    /// Submits, then sleeps until at least one completion is there. A signal ends it early.
    @inlinable
    @discardableResult
    public func submitAndWait() -> Int32 { io_uring_submit_and_wait(ring, 1) }

    /// Calls `body` with tag and result of each completion that is there.
    @inlinable @inline(__always)
    public func reap(_ body: (UInt64, Int32) -> Void) {
        let head = clinux_cq_head(ring)
        let tail = clinux_cq_tail(ring)
        var index = head
        while index != tail {
            let completion = clinux_cqe_at(ring, index)!
            body(completion.pointee.user_data, completion.pointee.res)
            index &+= 1
        }
        if index != head { io_uring_cq_advance(ring, index &- head) }
    }
}

/// Where the kernel reads the time of a timer from; one for each that is armed.
public struct SubmissionTimer: @unchecked Sendable, BitwiseCopyable {
    @usableFromInline let time: UnsafeMutablePointer<__kernel_timespec>

    public init() {
        time = .allocate(capacity: 1)
        time.initialize(to: __kernel_timespec())
    }

    public func deallocate() { time.deallocate() }
}
