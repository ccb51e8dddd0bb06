// A worker's loop: a batch of frames from its rings, judged, written to the TUNs, counted, given back.
// It is handed descriptors and mappings and opens nothing.

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
        /// The slot that the kernel fills next.
        var cursor: Int
        var isPolled: Bool

        var pollTag: UInt64 { Worker.pollTag | UInt64(descriptor) }
    }

    /// A frame of the batch on its way: where it lies and what became of its write.
    struct Entry {
        var port: UnsafeMutablePointer<Port>
        var slot: Int
        var expected: Int32
        var result: Int32
        var isQueued: Bool
    }

    private static let batch = Limits.batch
    /// Bytes of an entry's own memory: 6 of padding, `virtio_net_hdr`, rewritten head, and what
    /// a copy in steps of 16 may write too much.
    static let scratchBytes = 16 + Limits.headBytes + 16
    /// Frames of a batch that exceeded their slot.
    private static let bigFrames = 8
    /// Nanoseconds that a worker lets go by, at most, before it looks for the rest of the runs that it
    /// found, as NICs moderate their interrupts: a write costs far more than a packet in it. All that it
    /// took is written by then; a packet alone brings no wait on, but may come within one.
    private static let moderation = 50_000
    // Tags below `pollTag` are places in the batch; a poll's low bits are its descriptor.
    private static let pollTag = UInt64(1) << 61
    private static let ignoredTag = UInt64(1) << 62
    private static let timerTag = UInt64(1) << 63

    private let mailbox: Mailbox
    private let submission: SubmissionRing
    /// The descriptor at each place of the registered files; -1: none.
    private var registered: [Int32]
    let queue: SubmissionQueue
    var assignment: Assignment
    private let ports: UnsafeMutablePointer<Port>
    private var portCount = 0
    private var turns = RingTurns()
    var writer: CounterBlock.Writer
    var examples: DropExamples.Writer
    private var isWakePolled = false
    /// Polls and timers in a row that failed, and the last one's errno.
    private var failedPolls = 0
    private var lastPollError: Int32 = 0
    private var reassembler: Reassembler?
    /// Those of the reassembler that the counters already hold.
    private var countedFailures = Reassembler.Failures()
    private let timer: SubmissionTimer
    private var isTimerArmed = false
    private var patience = RingPatience()
    private var busyPoll = BusyPoll(limit: 0)
    private var answerLoop: AnswerLoop?
    /// The last batch injected something, and has so looked for completions.
    var hasSubmitted = false
    // Of the assignment, so that a batch counts no references.
    private var world: UnsafePointer<WorldView>
    var isShadow: Bool
    /// Of the last batch runs spared at least half of the writes: more of them is on its way.
    var isInRuns = false
    /// Whether any device takes joined packets.
    var joinsAny = false

    // Sized once; see `Limits`. All lie in `memory`, but the joiner's few, which lie in the heap of
    // this thread.
    private let memory: NamedMemory
    let cache: OuterCache
    let joiner = Joiner()
    /// What may be joined for each device.
    let kinds: UnsafeMutablePointer<Joiner.Kinds>
    let frames: UnsafeMutablePointer<Frame>
    let verdicts: UnsafeMutablePointer<Verdict>
    let entries: UnsafeMutablePointer<Entry>
    /// Two a single packet; one a member of a run, and one for the run's headers.
    let vectors: UnsafeMutablePointer<iovec>
    let scratch: UnsafeMutableRawPointer
    let message: UnsafeMutableRawPointer
    private let big: UnsafeMutableRawPointer

    /// Memory for one worker's buffers, on the node of its CPU.
    static func makeMemory(worker: Int, cpu: Int) throws(SystemError) -> NamedMemory {
        var bytes = NamedMemory.bytes(for: UInt8.self, OuterCache.byteCount)
        bytes += NamedMemory.bytes(for: Port.self, Limits.interfaces)
        bytes += NamedMemory.bytes(for: Joiner.Kinds.self, Limits.devices)
        bytes += NamedMemory.bytes(for: Frame.self, batch)
        bytes += NamedMemory.bytes(for: Verdict.self, batch)
        bytes += NamedMemory.bytes(for: Entry.self, batch)
        bytes += NamedMemory.bytes(for: iovec.self, 2 * batch)
        bytes += NamedMemory.bytes(for: UInt8.self, batch * scratchBytes)
        bytes += NamedMemory.bytes(for: UInt8.self, ReplyMessage.capacity)
        bytes += NamedMemory.bytes(for: UInt8.self, bigFrames * PacketRing.frameBytesMax)
        return try NamedMemory(name: "shuck-worker-\(worker)", byteCount: bytes, cpu: cpu)
    }

    /// To be called on the worker's own thread: the ring belongs to the thread that makes it.
    /// - Parameter mailbox: holds the first assignment already, so that nothing else keeps it, and
    ///   with it the routes of that time, once the next one comes.
    /// - Parameter memory: what `makeMemory` made; this worker's alone.
    init(mailbox: Mailbox, memory: NamedMemory) throws(SystemError) {
        guard let first = mailbox.take() else { preconditionFailure("no first assignment") }
        self.mailbox = mailbox
        self.memory = memory
        cache = OuterCache(
            in: UnsafeMutableRawPointer(memory.take(UInt8.self, OuterCache.byteCount)))
        ports = memory.take(Port.self, Limits.interfaces)
        kinds = memory.take(Joiner.Kinds.self, Limits.devices)
        frames = memory.take(Frame.self, Self.batch)
        verdicts = memory.take(Verdict.self, Self.batch)
        entries = memory.take(Entry.self, Self.batch)
        vectors = memory.take(iovec.self, 2 * Self.batch)
        scratch = UnsafeMutableRawPointer(memory.take(UInt8.self, Self.batch * Self.scratchBytes))
        message = UnsafeMutableRawPointer(memory.take(UInt8.self, ReplyMessage.capacity))
        big = UnsafeMutableRawPointer(
            memory.take(UInt8.self, Self.bigFrames * PacketRing.frameBytesMax))
        submission = try SubmissionRing(entries: UInt32(2 * Self.batch), files: Self.filePlaces)
        registered = [Int32](repeating: -1, count: submission.filePlaces)
        queue = submission.queue
        timer = SubmissionTimer()
        assignment = first
        writer = first.counters.writer
        examples = first.examples.writer
        world = first.world.view
        isShadow = first.isShadow
        kinds.initialize(repeating: [], count: Limits.devices)
        guard try adopt(first) else {
            throw SystemError(
                "start", "worker", errno: EINVAL, mend: mailbox.refusal(of: first.generation))
        }
    }

    /// The kernel takes no more files than the process may open, and devices are among those.
    static var filePlaces: Int { min(Limits.devices, Host.descriptorLimit()) }

    deinit {
        joiner.deallocate()
        timer.deallocate()
    }

    /// Runs until an assignment says that it is the last and the rings are empty.
    func run() throws(SystemError) {
        Host.setTimerSlack(Self.moderation)
        var idleSince: UInt64 = 0
        while true {
            if !mailbox.isEmpty, let next = mailbox.take() { try adopt(next) }
            let count = try step()
            if answerLoop != nil {
                try answer(looks: count > 0 ? !hasSubmitted : busyPoll.limit > 0)
            }
            if count > 0 {
                if idleSince != 0 { busyPoll.note(gap: Host.monotonicNanoseconds() &- idleSince) }
                idleSince = 0
                if isInRuns && count < Self.batch && busyPoll.limit == 0 { Host.nap() }
                continue
            }
            if assignment.isLast { return }
            if answerLoop?.isReadable ?? false { continue }
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
        try adoptAnswers(next)
        if next.fragments != assignment.fragments || reassembler == nil {
            reassembler = Self.reassembler(next.fragments)
            countedFailures = Reassembler.Failures()
        }
        assignment = next
        writer = next.counters.writer
        examples = next.examples.writer
        world = next.world.view
        cache.empty()
        isShadow = next.isShadow
        if next.busyPollNanoseconds != busyPoll.limit {
            busyPoll = BusyPoll(limit: next.busyPollNanoseconds)
        }
        for (place, join) in next.joins.enumerated() { kinds[place] = join.kinds }
        joinsAny = next.joins.contains { !$0.kinds.isEmpty }
        mailbox.taken.store(next.generation, ordering: .releasing)
        return true
    }

    /// Puts the queue of each device at its place among the registered files.
    /// - Returns: why it cannot be; then all places are as they were.
    private func registerQueues(of next: Assignment) throws(SystemError) -> String? {
        guard next.ports.count <= Limits.interfaces else {
            return "\(next.ports.count) interfaces are more than \(Limits.interfaces)"
        }
        let wanted = next.queues.map { $0?.number ?? -1 }
        let count = max(wanted.count, (registered.lastIndex { $0 >= 0 } ?? -1) + 1)
        var change = [Int32](repeating: SubmissionRing.keep, count: count)
        for place in 0..<count {
            let queue = place < wanted.count ? next.queues[place] : nil
            let old = place < assignment.queues.count ? assignment.queues[place] : nil
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

    private func countFailures(_ failures: Reassembler.Failures) {
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
                    cursor: known?.cursor ?? port.ring.cursor, isPolled: known?.isPolled ?? false))
        }
        portCount = next.count
        for port in old {
            let stays = next.contains {
                Unmanaged.passUnretained($0.ring).toOpaque() == port.ring.toOpaque()
            }
            guard !stays else { continue }
            // A change that is taken back brings it again.
            port.ring._withUnsafeGuaranteedRef { $0.cursor = port.cursor }
            guard port.isPolled else { continue }
            try makeSpace()
            queue.queuePollRemoval(of: port.pollTag, tag: Self.ignoredTag)
        }
        try submit()
        _ = reap()
    }

    /// The poll of a queue that goes is taken back, as those of rings.
    private func adoptAnswers(_ next: Assignment) throws(SystemError) {
        let old = answerLoop
        answerLoop = next.answers.flatMap { answers in
            next.queues[answers.place].map { AnswerLoop(answers, worker: $0) }
        }
        if let old, old.isPolled {
            if let new = answerLoop, new.answers.device === old.answers.device {
                new.isPolled = true
            } else {
                let tag = Self.pollTag | UInt64(old.descriptor)
                queue.queuePollRemoval(of: tag, tag: Self.ignoredTag)
                try submit()
            }
        }
        _ = reap()
        // What came before it was polled.
        answerLoop?.isReadable = true
    }

    /// Sends on what pods answered, a turn of it, and waits for more where there is none.
    /// - Parameter looks: nobody else has looked for completions, and nobody will before sleep.
    private func answer(looks: Bool) throws(SystemError) {
        guard let loop = answerLoop else { return }
        if looks {
            try submit()
            _ = reap()
        }
        if loop.isReadable {
            let count = loop.run(world)
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

    /// One batch from the rings to the devices.
    /// - Returns: how many frames it took; 0 when there were none.
    private func step() throws(SystemError) -> Int {
        let count = gather()
        if count == 0 { return 0 }
        let now = Host.monotonicNanoseconds()
        Judge.judge(
            frames, into: verdicts, count: count, world: world, cache: cache,
            reassembler: reassembler, now: now)
        try inject(count, now)
        account(count, now)
        return count
    }

    /// Takes ready slots: of one ring what is there, of several their turns.
    private func gather() -> Int {
        if portCount > 1 { return gatherInTurns() }
        var bigTaken = 0
        return portCount == 0 ? 0 : takeSlots(ports, 0, Self.batch, &bigTaken)
    }

    /// Apart from `gather`, so that one ring costs nothing for it.
    @inline(never)
    private func gatherInTurns() -> Int {
        var bigTaken = 0
        var busy = 0
        var port = 0
        while port < portCount {
            let state = ports + port
            if state.pointee.slots.isReady(state.pointee.cursor) { busy &+= 1 }
            port &+= 1
        }
        var count = 0
        return turns.serve(rings: portCount, busy: busy, batch: Self.batch) { port, limit in
            let taken = takeSlots(ports + port, count, limit, &bigTaken)
            count &+= taken
            return taken
        }
    }

    /// Takes up to `limit` ready slots of a ring, lost ones included, to the batch from `place` on.
    /// - Returns: how many frames it took.
    @inline(__always)
    private func takeSlots(
        _ state: UnsafeMutablePointer<Port>, _ place: Int, _ limit: Int, _ bigTaken: inout Int
    ) -> Int {
        var count = place
        var end = place &+ limit
        while count < end {
            guard let slot = state.pointee.slots.slot(at: state.pointee.cursor) else { break }
            if slot.isCopied && bigTaken == Self.bigFrames { break }
            let index = state.pointee.cursor
            // The count of slots is a power of two.
            let mask = state.pointee.slots.count &- 1
            state.pointee.cursor = (index &+ 1) & mask
            state.pointee.slots.prefetch((index &+ 4) & mask)
            if take(slot, index, state, count, &bigTaken) { count &+= 1 } else { end &-= 1 }
        }
        return count &- place
    }

    /// Describes one slot's frame to the judge; false when it is none that could be judged.
    @inline(__always)
    private func take(
        _ slot: Slot, _ index: Int, _ port: UnsafeMutablePointer<Port>, _ place: Int,
        _ bigTaken: inout Int
    ) -> Bool {
        var frame = UnsafeMutableRawPointer(slot.frame)
        var captured = slot.capturedLength
        if captured < slot.wireLength {
            guard slot.isCopied else {
                // The kernel had no room for the whole: as if the ring had been full.
                lose(port, index)
                return false
            }
            let buffer = big + bigTaken &* PacketRing.frameBytesMax
            let length = port.pointee.ring._withUnsafeGuaranteedRef {
                $0.receive(
                    into: buffer, capacity: PacketRing.frameBytesMax, wireLength: slot.wireLength)
            }
            guard length > PacketRing.virtioHeaderBytes &+ slot.linkLength else {
                lose(port, index)
                return false
            }
            bigTaken &+= 1
            frame = buffer + PacketRing.virtioHeaderBytes
            captured = length &- PacketRing.virtioHeaderBytes
        }
        let link = slot.linkLength
        let hasLink = link >= 14 && captured >= link
        (frames + place).initialize(
            to: Frame(
                network: UnsafeRawPointer(frame + (hasLink ? link : 0)),
                head: scratch + (place &* Self.scratchBytes &+ 16),
                length: hasLink ? captured &- link : 0,
                wireLength: hasLink ? slot.wireLength &- link : 0, linkLength: link,
                etherType: hasLink
                    ? (frame + (link &- 2)).loadUnaligned(as: UInt16.self).bigEndian : 0,
                interface: port.pointee.interface, isForUs: slot.isForUs,
                vnet: (frame - PacketRing.virtioHeaderBytes).virtioHeader))
        (entries + place).initialize(
            to: Entry(port: port, slot: index, expected: 0, result: 0, isQueued: false))
        return true
    }

    private func lose(_ port: UnsafeMutablePointer<Port>, _ index: Int) {
        writer.begin()
        writer.add(.truncated)
        writer.end()
        port.pointee.slots.release(index)
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

    /// Submits where nothing more fits, as with many interfaces.
    private func makeSpace() throws(SystemError) {
        while queue.space == 0 {
            try submit()
            _ = reap()
        }
    }

    /// Takes what has completed.
    /// - Returns: how many completions there were, and how many of them were writes.
    func reap() -> (writes: Int, all: Int) {
        var writes = 0
        var others = 0
        queue.reap { tag, result in
            if tag < Self.pollTag {
                entries[Int(tag)].result = result
                writes &+= 1
                return
            }
            others &+= 1
            if tag == Self.timerTag {
                isTimerArmed = false
                notePoll(result == -ETIME ? 0 : result)
            } else if tag & Self.ignoredTag == 0 {
                woken(Int32(truncatingIfNeeded: tag), result)
            }
        }
        return (writes, writes &+ others)
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
        if let loop = answerLoop, loop.descriptor == descriptor {
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

    /// Counts every frame of the batch once and gives its slot back. Neighbours of one fate are
    /// counted together.
    private func account(_ count: Int, _ now: UInt64) {
        let writer = self.writer
        writer.begin()
        writer.add(.received, UInt64(count))
        examples.begin(now: now)
        noteExample(0, now)
        var first = 0
        var writes: UInt64 = 0
        var bytes: UInt64 = 0
        for index in 0..<count {
            let verdict = verdicts + index
            let entry = entries + index
            if entry.pointee.isQueued {
                writes &+= 1
                if entry.pointee.result != entry.pointee.expected { refuseWrite(index, now) }
            }
            if !verdict.hasFate(of: verdicts + first) {
                endGroup(first, index, bytes, now)
                first = index
                bytes = 0
            }
            bytes &+= UInt64(verdict.pointee.length)
            entry.pointee.port.pointee.slots.release(entry.pointee.slot)
        }
        tally(verdicts + first, UInt64(count &- first), bytes, writer)
        writer.add(.writes, writes)
        writer.set(.lastProgress, now)
        if let reassembler, reassembler.failures != countedFailures {
            countFailures(reassembler.failures)
        }
        writer.end()
    }

    // Apart from the loop of `account`, which they would cost registers.

    @inline(never)
    private func refuseWrite(_ index: Int, _ now: UInt64) {
        verdicts[index].refuseWrite(entries[index].result)
        noteExample(index, now)
    }

    /// - Parameter next: the first frame behind those of one fate.
    @inline(never)
    private func endGroup(_ first: Int, _ next: Int, _ bytes: UInt64, _ now: UInt64) {
        tally(verdicts + first, UInt64(next &- first), bytes, writer)
        noteExample(next, now)
    }

    /// Keeps a refused frame as its reason's example: of neighbours of one fate the first, while its
    /// slot is still ours.
    private func noteExample(_ index: Int, _ now: UInt64) {
        let reason = verdicts[index].reason
        if reason != .none { examples.note(reason, frames + index, now: now) }
    }

    private func tally(
        _ verdict: UnsafeMutablePointer<Verdict>, _ count: UInt64, _ bytes: UInt64,
        _ writer: CounterBlock.Writer
    ) {
        let shape = writer.shape
        let value = verdict.pointee
        if value.ecnCell != Verdict.noCell {
            writer.add(shape.cells &+ Int(value.ecnCell), count)
        }
        switch value.kind {
        case .inject:
            writer.add(.injected, count)
            let index = shape.injectIndex(
                tunnel: value.tunnel, mode: value.mode, device: value.device)
            writer.add(index, count)
            writer.add(index &- shape.injected &+ shape.injectedBytes, bytes)
            if value.destination != Verdict.noIndex {
                writer.add(shape.destination &+ Int(value.destination), count)
            }
            if value.clampedMSS { writer.add(.clamped, count) }
            if value.unclampedMSS { writer.add(.unclamped, count) }
        case .pass: writer.add(.passed, count)
        case .hold: writer.add(.held, count)
        case .drop:
            writer.add(.dropped, count)
            writer.add(shape.dropIndex(tunnel: value.tunnel, reason: value.reason), count)
        case .reply:
            writer.add(.replied, count)
            writer.add(shape.replied &+ Int(value.reason.rawValue), count)
        }
    }

    /// Arms one poll a ring and the mailbox's, and sleeps: one system call. While the loop is
    /// busy nothing is armed, so that the kernel wakes nobody for each frame.
    private func sleep() throws(SystemError) {
        guard failedPolls < RingPatience.tries else {
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
    /// At 50 µs or more each: half a second at least.
    static let tries = 10_000
    private var failures = 0

    /// Nothing was taken and nothing completed.
    /// - Parameter error: errno; 0: the call itself succeeded.
    /// - Throws: what ends the worker.
    @inline(never)
    mutating func failed(_ error: Int32, _ queue: SubmissionQueue) throws(SystemError) {
        failures += 1
        let mayPass = [0, EINTR, EAGAIN, EBUSY].contains(error)
        guard mayPass, failures < Self.tries, queue.lost == 0 else {
            // A call that succeeds without effect is a profile's refusal with the errno 0.
            let cause = error == 0 ? EPERM : error
            throw SubmissionRing.failure(ofSubmit: queue.lost > 0 ? EOVERFLOW : cause)
        }
        if error != EINTR { Host.nap() }
    }
}
