// One worker's io_uring: writes to registered TUN queues, and sleeping until a descriptor is ready.
// Where io_uring is refused, plain system calls behind the same calls.
// Must be created and used by the worker's own thread (IORING_SETUP_SINGLE_ISSUER).

import CLinux
import Glibc

public final class SubmissionRing {
    private let ring: UnsafeMutablePointer<io_uring>
    /// The kernel lets the ring do what the loop does, and nothing else (IORING_REGISTER_RESTRICTIONS).
    public private(set) var isRestricted = false
    /// In the ring's place; nil: there is a ring.
    private let plain: PlainCalls?
    /// Places for registered files; queues are put there by `register`.
    public let filePlaces: Int

    /// Opens a ring and tries every call and operation that the loop lives on, so that what a
    /// seccomp profile refuses is known before anything depends on it.
    /// - Parameters:
    ///   - entries: submissions that are queued at most before a submit.
    ///   - files: places for registered files; the kernel takes no more than RLIMIT_NOFILE.
    public init(entries: UInt32, files: Int) throws(SystemError) {
        ring = .allocate(capacity: 1)
        ring.initialize(to: io_uring())
        plain = nil
        // Linux before 6.1 knows only the last flag: there completions run whenever the kernel likes.
        let flags = [
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
            IORING_SETUP_CQSIZE,
        ]
        var result = -EINVAL
        for flags in flags where result == -EINVAL {
            var parameters = io_uring_params()
            parameters.flags = flags | IORING_SETUP_R_DISABLED
            parameters.cq_entries = entries * 4
            result = io_uring_queue_init_params(entries, ring, &parameters)
        }
        guard result >= 0 else {
            ring.deallocate()
            throw SystemError(
                "io_uring_setup", "worker", errno: -result, hint: Self.hint(-result))
        }
        result = io_uring_register_files_sparse(ring, UInt32(files))
        guard result >= 0 else {
            io_uring_queue_exit(ring)
            ring.deallocate()
            throw SystemError(
                "io_uring_register", "worker", errno: -result, hint: Self.hint(-result))
        }
        filePlaces = files
        restrict()
        // Last: a throw from here on runs `deinit`.
        try checkNegative("io_uring_register", "worker", clinux_enable_ring(ring.pointee.ring_fd))
        try rehearse()
    }

    /// An io_uring passes by the filter of system calls: without this, whoever has it could open and connect.
    private func restrict() {
        let operations = [
            IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT,
        ].map { UInt8($0.rawValue) }
        let registrations = [
            IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_FILES_UPDATE2, IORING_UNREGISTER_FILES,
            IORING_REGISTER_ENABLE_RINGS,
        ].map { UInt8($0) }
        isRestricted =
            clinux_restrict_ring(
                ring.pointee.ring_fd, operations, UInt32(operations.count), registrations,
                UInt32(registrations.count)) == 0
    }

    /// Why a worker could have no ring here; nil: it could.
    public static func refusal() -> String? {
        do throws(SystemError) {
            _ = try SubmissionRing(entries: 8, files: 1)
            return nil
        } catch {
            return String(cString: strerror(error.errno))
        }
    }

    /// Plain system calls instead of a ring: one per write, one per sleep.
    /// - Parameter files: as for a ring.
    public init(plainFiles files: Int) {
        ring = .allocate(capacity: 1)
        ring.initialize(to: io_uring())
        plain = PlainCalls(files: files)
        filePlaces = files
    }

    deinit {
        guard plain == nil else { return ring.deallocate() }
        // The kernel tears down an io_uring asynchronously; without this a TUN would outlive the process for
        // a moment.
        io_uring_unregister_files(ring)
        io_uring_queue_exit(ring)
        ring.deallocate()
    }

    /// What to do about an error of one of io_uring's system calls.
    static func hint(_ error: Int32) -> String {
        switch error {
        case EPERM, EACCES, ENOSYS:
            """
            io_uring is refused here: in a container use a seccomp profile that allows \
            io_uring_setup, io_uring_enter and io_uring_register (Docker's and containerd's \
            default profiles do not), set sysctl kernel.io_uring_disabled=0, and boot a kernel \
            with CONFIG_IO_URING=y (5.19 or newer)
            """
        case ENOMEM:
            """
            free memory, or raise the cgroup's memory.max or the limit of locked memory \
            (ulimit -l unlimited, or LimitMEMLOCK=infinity)
            """
        case EAGAIN: "free memory, or raise the cgroup's memory.max"
        default: "io_uring of Linux 5.19 or newer is needed"
        }
    }

    /// An error of `SubmissionQueue.submit` or `submitAndWait`, with what to do about it.
    public static func failure(ofSubmit error: Int32) -> SystemError {
        SystemError("io_uring_enter", "worker", errno: error, hint: hint(error))
    }

    /// Writes to a registered file and polls it, once: setup alone proves nothing, for a profile
    /// can refuse each of the system calls by itself.
    private func rehearse() throws(SystemError) {
        let event = Descriptor(
            try check("eventfd", "worker") { eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) })
        if let failure = change([event.number]).failure { throw failure }
        let one = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
        one.initialize(to: 1)
        defer { one.deallocate() }
        var writes = queue.beginWrites()
        writes.add(place: 0, one, 8, isGathered: false, tag: 0)
        _ = writes.end()
        // Both ways in: without waiting, and with it.
        let entered = queue.submit()
        guard entered >= 0 else { throw Self.failure(ofSubmit: -entered) }
        try expectCompletion("write", result: 8)
        queue.queuePoll(event.number, tag: 0)
        try expectCompletion("poll", result: Int32(POLLIN))
        if let failure = change([-1]).failure { throw failure }
    }

    /// Waits for one completion; a kernel that has none after many tries never will.
    private func expectCompletion(_ operation: String, result: Int32) throws(SystemError) {
        var found: Int32?
        for _ in 0..<100 where found == nil {
            queue.reap { found = $1 }
            guard found == nil else { break }
            let entered = queue.submitAndWait()
            if entered < 0 && ![EINTR, EAGAIN, EBUSY].contains(-entered) {
                throw Self.failure(ofSubmit: -entered)
            }
        }
        queue.reap { found = $1 }
        guard let found else { throw Self.failure(ofSubmit: ENOSYS) }
        guard found == result else {
            throw SystemError(
                "io_uring \(operation)", "worker", errno: found < 0 ? -found : EIO,
                hint: Self.hint(found < 0 ? -found : EIO))
        }
    }

    /// Leaves a place as it is (`IORING_REGISTER_FILES_SKIP`).
    public static let keep: Int32 = -2

    /// Puts descriptors at the places of registered files from the first on, all or none of them:
    /// a failure puts back what was there.
    /// - Parameters:
    ///   - new: -1 empties a place, `keep` leaves it.
    ///   - old: what lies there now, for as many places.
    /// - Throws: `isBroken` where the old files could not be put back: then nothing may be written.
    public func exchange(_ old: [Int32], for new: [Int32]) throws(RegisterError) {
        guard new.count <= filePlaces else {
            throw RegisterError(
                cause: SystemError(
                    "io_uring_register", "\(new.count) device queues", errno: E2BIG,
                    hint: "write at most \(filePlaces) devices"),
                isBroken: false)
        }
        guard new.contains(where: { $0 != Self.keep }) else { return }
        if let plain { return plain.exchange(for: new) }
        let (done, failure) = change(new)
        guard let failure else { return }
        // Where it stopped, the kernel has taken the old file out before it refused the new one.
        let undone = zip(old, new).prefix(done + 1).map { $1 == Self.keep ? Self.keep : $0 }
        if undone.contains(where: { $0 != Self.keep }), let second = change(undone).failure {
            throw RegisterError(cause: second, isBroken: true)
        }
        throw RegisterError(cause: failure, isBroken: false)
    }

    /// - Returns: how many places were changed, and why not all.
    private func change(_ descriptors: [Int32]) -> (done: Int, failure: SystemError?) {
        var numbers = descriptors
        var done = 0
        while done < descriptors.count {
            let result = numbers.withUnsafeMutableBufferPointer { numbers in
                io_uring_register_files_update(
                    ring, UInt32(done), numbers.baseAddress! + done, UInt32(numbers.count - done))
            }
            guard result > 0 else {
                let error = result < 0 ? -result : ENOMEM
                return (
                    done,
                    SystemError("io_uring_register", "worker", errno: error, hint: Self.hint(error))
                )
            }
            // It stops before the one that it refuses, and says why when that comes first.
            done += Int(result)
        }
        return (done, nil)
    }

    /// The ring as the worker's loop uses it. Valid while this lives.
    public var queue: SubmissionQueue {
        SubmissionQueue(ring: ring, plain: plain.map { .passUnretained($0) })
    }
}

/// Why registered files could not be changed.
public struct RegisterError: Error {
    public let cause: SystemError
    /// Some places hold new files and some old ones.
    public let isBroken: Bool
}

/// Trivially copyable, so that the loop counts no references.
public struct SubmissionQueue: BitwiseCopyable {
    @usableFromInline let ring: UnsafeMutablePointer<io_uring>
    @usableFromInline let plain: Unmanaged<PlainCalls>?

    @usableFromInline init(ring: UnsafeMutablePointer<io_uring>, plain: Unmanaged<PlainCalls>?) {
        self.ring = ring
        self.plain = plain
    }

    /// Whether there is no ring: then `write` takes the place of `beginWrites`.
    @inlinable @inline(__always)
    public var isPlain: Bool { plain != nil }

    /// Writes at once, by a system call, where there is no ring. Arguments as `Writes.add`.
    /// - Returns: the bytes written, or -errno.
    public func write(
        place: Int32, _ memory: UnsafeRawPointer, _ count: UInt32, isGathered: Bool
    ) -> Int32 {
        plain?._withUnsafeGuaranteedRef {
            $0.write(place: place, memory, count, isGathered: isGathered)
        } ?? -ENOSYS
    }

    /// Queues writes, one after the other; `Writes.end` makes them the ring's. Nothing else may be queued
    /// before that, and there must be space.
    @inlinable @inline(__always)
    public func beginWrites() -> Writes { Writes(ring: ring) }

    public struct Writes {
        @usableFromInline let ring: UnsafeMutablePointer<io_uring>
        @usableFromInline let entries: UnsafeMutablePointer<io_uring_sqe>
        @usableFromInline let mask: UInt32
        @usableFromInline var tail: UInt32

        @inlinable @inline(__always)
        init(ring: UnsafeMutablePointer<io_uring>) {
            self.ring = ring
            entries = ring.pointee.sq.sqes
            mask = ring.pointee.sq.ring_mask
            tail = ring.pointee.sq.sqe_tail
        }

        /// Queues a write to a registered file.
        /// - Parameter memory: the bytes, which must stay until the completion; where `isGathered`, `iovec`
        ///   structures for them, which must stay until they were submitted.
        /// - Parameter count: of bytes, or of structures.
        @inlinable @inline(__always)
        public mutating func add(
            place: Int32, _ memory: UnsafeRawPointer, _ count: UInt32, isGathered: Bool, tag: UInt64
        ) {
            // As liburing's `io_uring_get_sqe`, with the tail in a register.
            let entry = entries + Int(tail & mask)
            tail &+= 1
            let operation = isGathered ? IORING_OP_WRITEV : IORING_OP_WRITE
            io_uring_prep_rw(Int32(operation.rawValue), entry, place, memory, count, 0)
            entry.pointee.flags = UInt8(truncatingIfNeeded: CLINUX_IOSQE_FIXED_FILE)
            entry.pointee.user_data = tag
        }

        /// - Returns: how many there are.
        @inlinable @inline(__always)
        public func end() -> Int {
            defer { ring.pointee.sq.sqe_tail = tail }
            return Int(tail &- ring.pointee.sq.sqe_tail)
        }
    }

    /// Queues one wakeup for when the descriptor can be read.
    @inlinable
    public func queuePoll(_ descriptor: Int32, tag: UInt64) {
        if let plain { return plain._withUnsafeGuaranteedRef { $0.queuePoll(descriptor, tag: tag) } }
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_poll_add(entry, descriptor, UInt32(POLLIN))
        entry.pointee.user_data = tag
    }

    /// Queues the end of a poll that was queued with tag `target`.
    @inlinable
    public func queuePollRemoval(of target: UInt64, tag: UInt64) {
        if let plain { return plain._withUnsafeGuaranteedRef { $0.removePoll(target) } }
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_poll_remove(entry, target)
        entry.pointee.user_data = tag
    }

    /// Queues a wakeup for a time of CLOCK_MONOTONIC, in nanoseconds.
    @inlinable
    public func queueTimer(_ timer: SubmissionTimer, at nanoseconds: UInt64, tag: UInt64) {
        if let plain { return plain._withUnsafeGuaranteedRef { $0.queueTimer(at: nanoseconds, tag: tag) } }
        timer.time.pointee = __kernel_timespec(
            tv_sec: Int64(nanoseconds / 1_000_000_000), tv_nsec: Int64(nanoseconds % 1_000_000_000))
        let entry = io_uring_get_sqe(ring)!
        io_uring_prep_timeout(entry, timer.time, 0, UInt32(IORING_TIMEOUT_ABS))
        entry.pointee.user_data = tag
    }

    /// Submissions that still fit.
    public var space: UInt32 { isPlain ? .max : io_uring_sq_space_left(ring) }

    /// Completions that the kernel had no room for and threw away.
    public var lost: UInt32 { isPlain ? 0 : clinux_cq_overflow(ring) }

    /// Hands what is queued to the kernel: one system call. Completions of TUN writes are there
    /// when it returns.
    /// - Returns: how many the kernel took, perhaps not all; or -errno: they stay queued.
    @inlinable @inline(__always)
    public func submit() -> Int32 {
        if isPlain { return look(sleeps: false) }
        return io_uring_submit_and_get_events(ring)
    }

    /// Submits, then sleeps until at least one completion is there. A signal ends it early, and it
    /// does not sleep unless all was taken.
    /// - Returns: as `submit`.
    @inlinable
    public func submitAndWait() -> Int32 {
        if isPlain { return look(sleeps: true) }
        return io_uring_submit_and_wait(ring, 1)
    }

    // Out of line, so that the loop with a ring has its registers for itself.
    @usableFromInline @inline(never)
    func look(sleeps: Bool) -> Int32 {
        plain?._withUnsafeGuaranteedRef { $0.look(sleeps: sleeps) } ?? -ENOSYS
    }

    /// `reap` where there is no ring: of polls and timers, for writes have their results at once.
    public func reapPlain(_ body: (UInt64, Int32) -> Void) {
        plain?._withUnsafeGuaranteedRef { $0.reap(body) }
    }

    /// Calls `body` with tag and result of each completion that is there. There must be a ring.
    @inlinable @inline(__always)
    public func reap(_ body: (UInt64, Int32) -> Void) {
        let head = clinux_cq_head(ring)
        let tail = clinux_cq_tail(ring)
        // Loaded once: for the compiler anything that `body` writes could change them.
        let completions = ring.pointee.cq.cqes!
        let mask = ring.pointee.cq.ring_mask
        var index = head
        while index != tail {
            let completion = completions + Int(index & mask)
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
