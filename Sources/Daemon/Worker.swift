// A worker's loop: batch after batch, the next assignment at a batch border, and sleep when there is
// nothing to do. It is handed descriptors and mappings and opens nothing.

import Forwarding
import Glibc
import LinuxIO
import Settings

final class Worker {
    /// A ring and the place in it, as the loop reads them.
    struct Port {
        let slots: Slots
        let ring: Unmanaged<PacketRing>
        let descriptor: Int32
        let interface: UInt16
        let place: RingPlace
        /// The slot that the kernel fills next.
        var cursor: Int
        var isPolled: Bool

        var pollTag: UInt64 { Worker.pollTag | UInt64(descriptor) }
    }

    // Tags below `pollTag` are the places of operations; a poll's low bits are its descriptor.
    static let pollTag = UInt64(1) << 61
    private static let ignoredTag = UInt64(1) << 62
    private static let timerTag = UInt64(1) << 63

    private let mailbox: Mailbox
    private let submission: SubmissionRing
    /// The descriptor at each place of the registered files; -1: none.
    private var registered: [Int32]
    let queue: SubmissionQueue
    var assignment: Assignment
    let ports: UnsafeMutablePointer<Port>
    var portCount = 0
    var turns = RingTurns()
    var writer: CounterBlock.Writer
    var examples: DropExamples.Writer
    let tap: CaptureTap.Writer
    private var isWakePolled = false
    /// Polls and timers in a row that failed, and the last one's errno.
    private var failedPolls = 0
    private var lastPollError: Int32 = 0
    var reassembler: Reassembler?
    /// Those of the reassembler that the counters already hold.
    var countedFailures = Reassembler.Failures()
    private let timer: SubmissionTimer
    private var isTimerArmed = false
    private var patience = RingPatience()
    private var busyPoll = BusyPoll(limit: 0)
    var returnLoop: ProbeReturnLoop?
    /// The last batch went through the ring, so that its completions were looked for.
    var hasSubmitted = false
    /// Joining saved at least half of the last batch's writes.
    var savesWrites = false

    /// All of it lies in `memory`.
    let batch: Batch
    private let memory: NamedMemory
    /// Of each frame of the batch, to be given back.
    let slots: UnsafeMutablePointer<UnsafeMutableRawPointer>
    private let copiesMemory: NamedMemory
    let copies: FrameCopies
    /// Bit n: a frame of the batch under way exceeded its slot, and its copy is at the place n.
    var copiesTaken: UInt8 = 0

    /// Memory for one worker's buffers, on the node of its CPU.
    static func makeMemory(worker: Int, cpu: Int) throws(SystemError) -> NamedMemory {
        var bytes = NamedMemory.bytes(
            for: UInt8.self, Batch.byteCount(capacity: Limits.batch))
        bytes += NamedMemory.bytes(for: Port.self, Limits.interfaces.value)
        bytes += NamedMemory.bytes(for: UnsafeMutableRawPointer.self, Limits.batch)
        return try NamedMemory(name: "shuck-worker-\(worker)", byteCount: bytes, cpu: cpu)
    }

    /// Memory for its `FrameCopies`.
    static func makeCopies(cpu: Int) throws(SystemError) -> NamedMemory {
        try NamedMemory(name: "shuck-copies", byteCount: FrameCopies.byteCount, cpu: cpu)
    }

    /// To be called on the worker's own thread: the ring belongs to the thread that makes it.
    /// - Parameter mailbox: holds the first assignment already, so that nothing else keeps it, and
    ///   with it the routes of that time, once the next one comes.
    /// - Parameter memory: what `makeMemory` made; this worker's alone.
    /// - Parameter copies: of its `FrameCopies`.
    /// - Parameter usesRing: else plain system calls.
    init(
        mailbox: Mailbox, memory: NamedMemory, copies: NamedMemory, usesRing: Bool
    ) throws(SystemError) {
        guard let first = mailbox.take() else { preconditionFailure("no first assignment") }
        self.mailbox = mailbox
        self.memory = memory
        batch = Batch(
            in: memory.take(UInt8.self, Batch.byteCount(capacity: Limits.batch)),
            capacity: Limits.batch)
        ports = memory.take(Port.self, Limits.interfaces.value)
        slots = memory.take(UnsafeMutableRawPointer.self, Limits.batch)
        copiesMemory = copies
        self.copies = FrameCopies(in: copies)
        submission =
            usesRing
            ? try SubmissionRing(entries: UInt32(2 * Limits.batch), files: Self.filePlaces)
            : SubmissionRing(plainFiles: Self.filePlaces)
        registered = [Int32](repeating: -1, count: submission.filePlaces)
        queue = submission.queue
        timer = SubmissionTimer()
        assignment = first
        writer = first.counters.writer
        examples = first.examples.writer
        tap = mailbox.tap.writer
        guard try adopt(first) else {
            throw SystemError(
                "start", "worker", errno: EINVAL, hint: mailbox.refusal(of: first.generation))
        }
    }

    /// Why workers cannot use io_uring here, known before they start; nil: they can. A ring is made, tried
    /// and closed again.
    /// - Returns: also whether the kernel restricts one.
    static func ringRefusal() -> (refusal: String?, isRestricted: Bool) {
        do throws(SystemError) {
            return (nil, try SubmissionRing(entries: 8, files: filePlaces).isRestricted)
        } catch {
            return ("\(error)", true)
        }
    }

    /// The kernel takes no more files than the process may open, and devices are among those.
    static var filePlaces: Int { min(Limits.devices.value, Host.descriptorLimit()) }

    deinit {
        timer.deallocate()
    }

    /// Runs until an assignment says that it is the last and the rings are empty.
    func run() throws(SystemError) {
        Host.setTimerSlack(Timing.moderationNanoseconds)
        var idleSince: UInt64 = 0
        while true {
            if !mailbox.isEmpty, let next = mailbox.take() {
                try adopt(next)
                if next.ending == .handedOver { return }
            }
            let count = try step()
            if returnLoop != nil {
                try answer(looks: count > 0 ? !hasSubmitted : busyPoll.limit > 0)
            }
            if count > 0 {
                if idleSince != 0 { busyPoll.note(gap: Host.monotonicNanoseconds() &- idleSince) }
                idleSince = 0
                if savesWrites && count < Limits.batch && busyPoll.limit == 0 { Host.nap() }
                continue
            }
            if assignment.ending == .drained { return }
            if returnLoop?.isReadable ?? false { continue }
            expireFragments()
            if busyPoll.limit > 0 {
                let now = Host.monotonicNanoseconds()
                if idleSince == 0 { idleSince = now }
                if now &- idleSince < busyPoll.window { continue }
            }
            try sleep()
        }
    }

    /// Takes all of an assignment, or nothing of it: what can fail comes first. Nothing is in flight
    /// between two steps, so what is old can go at once, and no write meets another file.
    /// - Returns: whether the assignment is in force; else the mailbox says why not.
    /// - Throws: when the ring no longer works.
    @discardableResult
    private func adopt(_ next: Assignment) throws(SystemError) -> Bool {
        if let reason = try registerQueues(of: next) {
            mailbox.refusal.withLock { $0 = .init(generation: next.generation, reason: reason) }
            return false
        }
        try adoptPorts(next.ports)
        try adoptProbeReturn(next)
        let (settings, old) = (next.configuration, assignment.configuration)
        if settings.outer.fragments != old.outer.fragments || reassembler == nil {
            reassembler = Self.reassembler(settings.outer.fragments)
            countedFailures = Reassembler.Failures()
        }
        assignment = next
        writer = next.counters.writer
        examples = next.examples.writer
        batch.adopt(
            next.world.view, kinds: next.devices.map(\.joins), errors: next.icmpErrors?.tokens,
            limits: next.limits?.tokens, isShadow: settings.mode == .shadow)
        let limit = settings.workers.busyPoll.nanoseconds
        if limit != busyPoll.limit { busyPoll = BusyPoll(limit: limit) }
        mailbox.taken.store(next.generation, ordering: .releasing)
        return true
    }

    /// Puts the queue of each device at its place among the registered files.
    /// - Returns: why it cannot be; then all places are as they were.
    private func registerQueues(of next: Assignment) throws(SystemError) -> String? {
        guard next.ports.count <= Limits.interfaces.value else {
            return "\(next.ports.count) interfaces are more than \(Limits.interfaces.value)"
        }
        let wanted = next.devices.map { $0.queue?.number ?? -1 }
        let count = max(wanted.count, (registered.lastIndex { $0 >= 0 } ?? -1) + 1)
        var change = [Int32](repeating: SubmissionRing.keep, count: count)
        for place in 0..<count {
            let queue = place < wanted.count ? next.devices[place].queue : nil
            let old = place < assignment.devices.count ? assignment.devices[place].queue : nil
            // A number that was closed and given again is another file.
            let isSame =
                old === queue && place < registered.count
                && registered[place] == queue?.number ?? -1
            if !isSame { change[place] = queue?.number ?? -1 }
        }
        do throws(RegisterError) {
            try submission.exchange(Array(registered.prefix(count)), for: change)
        } catch {
            if error.isBroken { throw error.cause }
            return "\(error.cause)"
        }
        for place in 0..<count { registered[place] = place < wanted.count ? wanted[place] : -1 }
        return nil
    }

    /// The hash must not be known to who sends fragments, so its seed is the kernel's.
    private static func reassembler(_ fragments: Configuration.Fragments) -> Reassembler? {
        guard fragments.memory > 0 else { return nil }
        return Reassembler(
            memory: fragments.memory, timeout: fragments.timeout.nanoseconds,
            seed: UInt64.random(in: .min ... .max))
    }

    private func expireFragments() {
        guard let reassembler, !reassembler.isEmpty else { return }
        reassembler.expire(now: Host.monotonicNanoseconds())
        guard reassembler.failures != countedFailures else { return }
        writer.begin()
        countFailures(reassembler.failures)
        writer.end()
    }

    func countFailures(_ failures: Reassembler.Failures) {
        writer.add(.reassemblyOverlap, failures.overlap &- countedFailures.overlap)
        writer.add(.reassemblyMemory, failures.memory &- countedFailures.memory)
        writer.add(.reassemblyTimeout, failures.timeout &- countedFailures.timeout)
        countedFailures = failures
    }

    /// A ring that stays keeps its cursor: the kernel goes on filling where it is. The poll of
    /// one that goes is taken back, for it would hold the socket open.
    private func adoptPorts(_ next: [Assignment.Port]) throws(SystemError) {
        let old = (0..<portCount).map { ports[$0] }
        for (index, port) in next.enumerated() {
            let ring = Unmanaged.passUnretained(port.ring)
            let known = old.first { $0.ring.toOpaque() == ring.toOpaque() }
            (ports + index).initialize(
                to: Port(
                    slots: port.ring.slots, ring: ring,
                    descriptor: port.ring.descriptor.number, interface: port.interface,
                    place: port.ring.place, cursor: known?.cursor ?? port.ring.place.cursor,
                    isPolled: known?.isPolled ?? false))
        }
        portCount = next.count
        for port in old {
            let stays = next.contains {
                Unmanaged.passUnretained($0.ring).toOpaque() == port.ring.toOpaque()
            }
            guard !stays else { continue }
            copies.forget(interface: port.ring._withUnsafeGuaranteedRef { $0.interfaceIndex })
            guard port.isPolled else { continue }
            try makeSpace()
            queue.queuePollRemoval(of: port.pollTag, tag: Self.ignoredTag)
        }
        for port in next { port.ring.keepLeft(in: copies) }
        try submit()
        _ = reap()
    }

    /// The poll of a queue that goes is taken back, as those of rings.
    private func adoptProbeReturn(_ next: Assignment) throws(SystemError) {
        let old = returnLoop
        returnLoop = next.probeReturn.flatMap { probeReturn in
            next.devices[probeReturn.place].queue.map { ProbeReturnLoop(probeReturn, worker: $0) }
        }
        if let old, old.isPolled {
            if let new = returnLoop, new.probeReturn.device === old.probeReturn.device {
                new.isPolled = true
            } else {
                let tag = Self.pollTag | UInt64(old.descriptor)
                queue.queuePollRemoval(of: tag, tag: Self.ignoredTag)
                try submit()
            }
        }
        _ = reap()
        // What came before it was polled.
        returnLoop?.isReadable = true
    }

    /// Sends on what pods answered, a turn of it, and waits for more where there is none.
    /// - Parameter looks: nobody else has looked for completions, and nobody will before sleep.
    private func answer(looks: Bool) throws(SystemError) {
        guard let loop = returnLoop else { return }
        if looks {
            try submit()
            _ = reap()
        }
        if loop.isReadable {
            let count = loop.run(batch)
            if count.sent + count.failed > 0 {
                writer.begin()
                writer.add(.answersSent, count.sent)
                writer.add(.answersFailed, count.failed)
                writer.end()
            }
        }
        if !loop.isReadable && !loop.isPolled && !loop.isClosed {
            loop.isPolled = true
            queue.queuePoll(loop.descriptor, tag: Self.pollTag | UInt64(loop.descriptor))
        }
    }

    /// Hands over what is queued.
    func submit() throws(SystemError) {
        let result = queue.submit()
        if result < 0 { try patience.failed(-result, queue) }
    }

    /// Sleeps until something completes, and takes it.
    /// - Returns: how many writes completed.
    func wait() throws(SystemError) -> Int {
        let result = queue.submitAndWait()
        let completed = reap()
        if completed.all > 0 || result > 0 {
            patience = RingPatience()
        } else {
            try patience.failed(-result, queue)
        }
        return completed.writes
    }

    /// Submits where no more fits, as with many interfaces.
    func makeSpace(for count: Int = 1) throws(SystemError) {
        while queue.space < count {
            try submit()
            _ = reap()
        }
    }

    /// Takes what has completed.
    /// - Returns: how many completions there were, and how many of them were writes.
    func reap() -> (writes: Int, all: Int) {
        if queue.isPlain { return (0, reapPlain()) }
        var writes = 0
        var others = 0
        queue.reap { tag, result in
            if tag < Self.pollTag {
                batch.operations[Int(tag)].result = result
                writes &+= 1
                return
            }
            others &+= 1
            completed(tag, result)
        }
        return (writes, writes &+ others)
    }

    @inline(never)
    private func reapPlain() -> Int {
        var count = 0
        queue.reapPlain { tag, result in
            count &+= 1
            completed(tag, result)
        }
        return count
    }

    /// A poll or a timer is over.
    private func completed(_ tag: UInt64, _ result: Int32) {
        if tag == Self.timerTag {
            isTimerArmed = false
            notePoll(result == -ETIME ? 0 : result)
        } else if tag & Self.ignoredTag == 0 {
            woken(Int32(truncatingIfNeeded: tag), result)
        }
    }

    /// A poll or timer that fails at once would be armed again at once, without end.
    private func notePoll(_ result: Int32) {
        failedPolls = result < 0 && result != -ECANCELED ? failedPolls + 1 : 0
        lastPollError = -result
    }

    private func woken(_ descriptor: Int32, _ events: Int32) {
        notePoll(events)
        if descriptor == mailbox.wakeup.descriptor.number {
            isWakePolled = false
            mailbox.wakeup.clear()
        }
        if let loop = returnLoop, loop.descriptor == descriptor {
            loop.isPolled = false
            loop.isReadable = true
        }
        for index in 0..<portCount where ports[index].descriptor == descriptor {
            ports[index].isPolled = false
            // A link that went down leaves an error behind; unread, it would wake us for ever.
            if events < 0 || events & Int32(POLLERR) != 0 {
                ports[index].ring._withUnsafeGuaranteedRef { $0.clearError() }
            }
        }
    }

    /// Arms one poll a ring and the mailbox's, and sleeps: one system call. While the loop is
    /// busy nothing is armed, so that the kernel wakes nobody for each frame.
    private func sleep() throws(SystemError) {
        guard failedPolls < Timing.ringTries else {
            throw SubmissionRing.failure(ofSubmit: lastPollError)
        }
        for index in 0..<portCount where !ports[index].isPolled {
            try makeSpace()
            ports[index].isPolled = true
            queue.queuePoll(ports[index].descriptor, tag: ports[index].pollTag)
        }
        try makeSpace()
        if !isWakePolled {
            isWakePolled = true
            let descriptor = mailbox.wakeup.descriptor.number
            queue.queuePoll(descriptor, tag: Self.pollTag | UInt64(descriptor))
        }
        try makeSpace()
        // What waits for its rest is given up in time, also when nothing else comes.
        if !isTimerArmed, let deadline = reassembler?.deadline {
            isTimerArmed = true
            queue.queueTimer(timer, at: deadline, tag: Self.timerTag)
        }
        _ = try wait()
    }
}

/// How long a worker puts up with a ring that gets nothing done: memory may come back, a signal or
/// a debugger may have interrupted it. An error that stays ends the worker.
struct RingPatience {
    private var failures = 0

    /// Nothing was taken and nothing completed.
    /// - Parameter error: errno; 0: the call itself succeeded.
    /// - Throws: what ends the worker.
    @inline(never)
    mutating func failed(_ error: Int32, _ queue: SubmissionQueue) throws(SystemError) {
        failures += 1
        let mayPass = [0, EINTR, EAGAIN, EBUSY].contains(error)
        guard mayPass, failures < Timing.ringTries, queue.lost == 0 else {
            // A call that succeeds without effect is a profile's refusal with the errno 0.
            let cause = error == 0 ? EPERM : error
            throw SubmissionRing.failure(ofSubmit: queue.lost > 0 ? EOVERFLOW : cause)
        }
        if error != EINTR { Host.nap() }
    }
}
