// A worker's loop: a batch of frames from its rings, judged, written to the TUNs, counted, given back.
// It is handed descriptors and mappings and opens nothing.

import Forwarding
import Glibc
import LinuxIO
import Settings
import Synchronization

/// What a worker runs on from one batch border to the next. Immutable.
final class Assignment: Sendable {
    struct Port: Sendable {
        /// Index into the policy's interfaces.
        let interface: UInt16
        let ring: PacketRing
    }

    let generation: UInt64
    let world: World
    let fragments: Configuration.Fragments
    let ports: [Port]
    /// This worker's queue of each device, in the policy's order; nil: the device is absent.
    let queues: [Descriptor?]
    /// What may be joined for each of them, and where to say that the kernel refused it.
    let joins: [(kinds: Joiner.Kinds, refusals: TunDevice.Refusals?)]
    /// nil: no device needs them.
    let replies: Replies?
    /// nil: no probe is rewritten.
    let answers: Answers?
    let counters: CounterBlock
    let busyPollNanoseconds: UInt64
    /// Judge and count, inject nothing.
    let isShadow: Bool
    /// Empty the rings, then end.
    let isLast: Bool

    init(
        generation: UInt64, world: World, fragments: Configuration.Fragments, ports: [Port],
        devices: [(device: TunDevice?, queue: Int)], coalesce: Bool, replies: Replies?,
        answers: Answers?,
        counters: CounterBlock, busyPollNanoseconds: UInt64, isShadow: Bool, isLast: Bool
    ) {
        self.generation = generation
        self.world = world
        self.fragments = fragments
        self.ports = ports
        queues = devices.map { $0.device?.queues[$0.queue] }
        joins = devices.map { device, _ in
            (coalesce ? device?.joins ?? [] : [], device?.refusals)
        }
        self.replies = replies
        self.answers = answers
        self.counters = counters
        self.busyPollNanoseconds = busyPollNanoseconds
        self.isShadow = isShadow
        self.isLast = isLast
    }
}

extension TunDevice {
    /// What its kernel cuts, as far as is known.
    var joins: Joiner.Kinds {
        let offloads = usableOffloads
        // A joined packet's checksums are made when it is cut.
        guard offloads.contains(.checksum) else { return [] }
        return (offloads.contains(.tcp) ? Joiner.Kinds.tcp : [])
            .union(offloads.contains(.udp) ? .udp : [])
    }
}

/// The way to a worker: the next assignment, taken at a batch border without a lock.
final class Mailbox: Sendable {
    /// A retained `Assignment`, or 0.
    private let next = Atomic<UInt>(0)
    /// The generation that the worker runs on.
    let taken = Atomic<UInt64>(0)
    /// Set when the worker ended; holds whether it ended as it was told to.
    let failure = Mutex<String?>(nil)
    let wakeup: Wakeup

    init() throws(SystemError) { wakeup = try Wakeup() }

    deinit { _ = take() }

    func post(_ assignment: Assignment) {
        let new = UInt(bitPattern: Unmanaged.passRetained(assignment).toOpaque())
        // One that was never taken is replaced.
        _ = Self.owned(next.exchange(new, ordering: .acquiringAndReleasing))
        wakeup.signal()
    }

    @inline(__always)
    var isEmpty: Bool { next.load(ordering: .relaxed) == 0 }

    func take() -> Assignment? { Self.owned(next.exchange(0, ordering: .acquiringAndReleasing)) }

    private static func owned(_ bits: UInt) -> Assignment? {
        UnsafeMutableRawPointer(bitPattern: bits).map {
            Unmanaged<Assignment>.fromOpaque($0).takeRetainedValue()
        }
    }
}

/// A ring and the place in it, as the loop reads them.
private struct Port {
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
private struct Entry {
    var port: UnsafeMutablePointer<Port>
    var slot: Int
    var expected: Int32
    var result: Int32
    var isQueued: Bool
}

final class Worker {
    private static let batch = Limits.batch
    /// Bytes of an entry's own memory: 6 of padding, `virtio_net_hdr`, rewritten head, and what
    /// a copy in steps of 16 may write too much.
    private static let scratchBytes = 16 + Limits.headBytes + 16
    /// Frames of a batch that exceeded their slot.
    private static let bigFrames = 8
    // Tags below `pollTag` are places in the batch; a poll's low bits are its descriptor.
    fileprivate static let pollTag = UInt64(1) << 61
    private static let ignoredTag = UInt64(1) << 62
    private static let timerTag = UInt64(1) << 63

    private let mailbox: Mailbox
    private let submission: SubmissionRing
    private let queue: SubmissionQueue
    private var assignment: Assignment
    private var ports: UnsafeMutablePointer<Port>
    private var portCount = 0
    private var writer: CounterBlock.Writer
    private var isWakePolled = false
    private var reassembler: Reassembler?
    /// Those of the reassembler that the counters already hold.
    private var countedFailures = Reassembler.Failures()
    private let timer: SubmissionTimer
    private var isTimerArmed = false
    private var answerLoop: AnswerLoop?
    /// The last batch injected something, and has so looked for completions.
    private var hasSubmitted = false
    // Of the assignment, so that a batch counts no references.
    private var world: UnsafePointer<WorldView>
    private var isShadow: Bool
    /// Whether any device takes joined packets.
    private var joinsAny = false

    // Sized once; see `Limits`.
    private let cache = OuterCache()
    private let joiner = Joiner()
    /// Of each device.
    private let kinds = UnsafeMutablePointer<Joiner.Kinds>.allocate(
        capacity: SubmissionRing.filePlaces)
    private let frames = UnsafeMutablePointer<Frame>.allocate(capacity: batch)
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: batch)
    private let entries = UnsafeMutablePointer<Entry>.allocate(capacity: batch)
    /// Two a single packet; one a member of a run, and one for the run's headers.
    private let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 2 * batch)
    private let scratch = UnsafeMutableRawPointer.allocate(
        byteCount: batch * scratchBytes, alignment: 64)
    private let message = UnsafeMutableRawPointer.allocate(
        byteCount: ReplyMessage.capacity, alignment: 8)
    private let big = UnsafeMutableRawPointer.allocate(
        byteCount: bigFrames * PacketRing.frameBytesMax, alignment: 4096)

    /// To be called on the worker's own thread: the ring belongs to the thread that makes it.
    init(mailbox: Mailbox, first: Assignment) throws(SystemError) {
        self.mailbox = mailbox
        submission = try SubmissionRing(entries: UInt32(2 * Self.batch))
        queue = submission.queue
        timer = SubmissionTimer()
        assignment = first
        writer = first.counters.writer
        world = first.world.view
        isShadow = first.isShadow
        ports = .allocate(capacity: Limits.interfaces)
        kinds.initialize(repeating: [], count: SubmissionRing.filePlaces)
        try adopt(first)
    }

    deinit {
        cache.deallocate()
        joiner.deallocate()
        kinds.deallocate()
        timer.deallocate()
        ports.deallocate()
        frames.deallocate()
        verdicts.deallocate()
        entries.deallocate()
        vectors.deallocate()
        scratch.deallocate()
        message.deallocate()
        big.deallocate()
    }

    /// Runs until an assignment says that it is the last and the rings are empty.
    func run() throws(SystemError) {
        var idleSince: UInt64 = 0
        while true {
            if !mailbox.isEmpty, let next = mailbox.take() { try adopt(next) }
            let count = step()
            if answerLoop != nil {
                answer(looks: count > 0 ? !hasSubmitted : assignment.busyPollNanoseconds > 0)
            }
            if count > 0 {
                idleSince = 0
                continue
            }
            if assignment.isLast { return }
            if answerLoop?.isReadable ?? false { continue }
            expireFragments()
            if assignment.busyPollNanoseconds > 0 {
                let now = Host.monotonicNanoseconds()
                if idleSince == 0 { idleSince = now }
                if now &- idleSince < assignment.busyPollNanoseconds { continue }
            }
            sleep()
            idleSince = 0
        }
    }

    /// Nothing is in flight between two steps, so everything old can go at once.
    private func adopt(_ next: Assignment) throws(SystemError) {
        adoptPorts(next.ports)
        adoptAnswers(next)
        for place in 0..<max(assignment.queues.count, next.queues.count) {
            let old = place < assignment.queues.count ? assignment.queues[place] : nil
            let new = place < next.queues.count ? next.queues[place] : nil
            if next === assignment || old !== new {
                try submission.register(new?.number ?? -1, at: place)
            }
        }
        if next.fragments != assignment.fragments || reassembler == nil {
            reassembler = Self.reassembler(next.fragments)
            countedFailures = Reassembler.Failures()
        }
        assignment = next
        writer = next.counters.writer
        world = next.world.view
        cache.empty()
        isShadow = next.isShadow
        for (place, join) in next.joins.enumerated() { kinds[place] = join.kinds }
        joinsAny = next.joins.contains { !$0.kinds.isEmpty }
        mailbox.taken.store(next.generation, ordering: .releasing)
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
    private func adoptPorts(_ next: [Assignment.Port]) {
        let old = (0..<portCount).map { ports[$0] }
        for (index, port) in next.enumerated() {
            let ring = Unmanaged.passUnretained(port.ring)
            let known = old.first { $0.ring.toOpaque() == ring.toOpaque() }
            (ports + index).initialize(
                to: Port(
                    slots: port.ring.slots, ring: ring,
                    descriptor: port.ring.descriptor.number, interface: port.interface,
                    cursor: known?.cursor ?? 0, isPolled: known?.isPolled ?? false))
        }
        portCount = next.count
        for port in old where port.isPolled {
            let stays = next.contains {
                Unmanaged.passUnretained($0.ring).toOpaque() == port.ring.toOpaque()
            }
            if !stays { queue.queuePollRemoval(of: port.pollTag, tag: Self.ignoredTag) }
        }
        queue.submit()
        _ = reap()
    }

    /// The poll of a queue that goes is taken back, as those of rings.
    private func adoptAnswers(_ next: Assignment) {
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
                queue.submit()
            }
        }
        _ = reap()
        // What came before it was polled.
        answerLoop?.isReadable = true
    }

    /// Sends on what pods answered, a turn of it, and waits for more where there is none.
    /// - Parameter looks: nobody else has looked for completions, and nobody will before sleep.
    private func answer(looks: Bool) {
        guard let loop = answerLoop else { return }
        if looks {
            queue.submit()
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
    private func step() -> Int {
        let count = gather()
        if count == 0 { return 0 }
        let now = Host.monotonicNanoseconds()
        Judge.judge(
            frames, into: verdicts, count: count, world: world, cache: cache,
            reassembler: reassembler, now: now)
        inject(count, now)
        account(count, now)
        return count
    }

    /// Takes ready slots of all rings in turn.
    private func gather() -> Int {
        var count = 0
        var bigTaken = 0
        var port = 0
        while port < portCount {
            let state = ports + port
            port &+= 1
            while count < Self.batch {
                guard let slot = state.pointee.slots.slot(at: state.pointee.cursor) else { break }
                if slot.isCopied && bigTaken == Self.bigFrames { return count }
                let index = state.pointee.cursor
                // The count of slots is a power of two.
                let mask = state.pointee.slots.count &- 1
                state.pointee.cursor = (index &+ 1) & mask
                state.pointee.slots.prefetch((index &+ 4) & mask)
                if !take(slot, index, state, count, &bigTaken) { continue }
                count &+= 1
            }
        }
        return count
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
                $0.receive(into: buffer, capacity: PacketRing.frameBytesMax)
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

    /// Queues a write for each run of packets that go on: one submit, and all have completed.
    private func inject(_ count: Int, _ now: UInt64) {
        if isShadow { return }
        let joined = joinsAny
            ? joiner.join(frames, verdicts, count: count, kinds: kinds, cache: cache)
            : Joiner.Joined()
        var queued = 0
        var vector = vectors
        for index in 0..<count {
            let verdict = verdicts + index
            if verdict.pointee.kind == .inject {
                if !joined.isMember(index) {
                    queueWrite(index, verdict, &vector)
                } else if joined.isFirst(index) {
                    queueRun(index, &vector)
                } else {
                    continue
                }
                queued &+= 1
            } else if verdict.pointee.kind == .reply {
                reply(index, verdict, now)
            }
        }
        hasSubmitted = queued > 0
        if queued == 0 { return }
        complete(queued)
        if joined.firsts != 0 { settleRuns(joined, count) }
    }

    private func complete(_ queued: Int) {
        var completed = 0
        queue.submit()
        while true {
            completed &+= reap()
            if completed >= queued { return }
            // A TUN queue never blocks, so this is for a kernel that defers its completions.
            queue.submitAndWait()
        }
    }

    /// The fate of a run is that of each of its packets.
    @inline(never)
    private func settleRuns(_ joined: Joiner.Joined, _ count: Int) {
        for first in 0..<count where joined.isFirst(first) {
            let result = entries[first].result
            if result == entries[first].expected { continue }
            let reason = result == -EINVAL
                ? refuseJoin(first, count) : Verdict.writeRefusal(result, isJoined: true)
            guard reason != .none else { continue }
            entries[first].isQueued = false
            var index = first
            for place in 1...joiner.count(of: first) {
                verdicts[index].kind = .drop
                verdicts[index].reason = reason
                if place < joiner.count(of: first) { index = joiner.follower(of: index) }
            }
        }
    }

    /// A kernel that refuses to cut, though it agreed to: nothing of the kind is joined for that
    /// device again, and what it refused goes out in single packets. Runs come here in order, so
    /// only what was written in between can be in the way: behind a packet of its flow nothing
    /// is sent that came before it.
    /// - Returns: why the run is lost; `.none`: it was written.
    private func refuseJoin(_ first: Int, _ count: Int) -> DropReason {
        let device = Int(verdicts[first].device)
        let isUDP = joiner.isUDP(first)
        kinds[device].remove(isUDP ? .udp : .tcp)
        assignment.joins[device].refusals?.note(isUDP ? .udp : .tcp)
        writer.begin()
        writer.add(.refusedJoins)
        writer.end()
        for later in (first + 1)..<count
        where entries[later].isQueued && entries[later].result == entries[later].expected
            && verdicts[later].mayShareFlow(with: verdicts + first) { return .gsoInvalid }
        let members = joiner.count(of: first)
        var index = first
        var vector = vectors
        for place in 1...members {
            queueWrite(index, verdicts + index, &vector)
            if place < members { index = joiner.follower(of: index) }
        }
        complete(members)
        return .none
    }

    /// Tells the sender, at a rate that no flood can drive; what is not told is a drop.
    @inline(never)
    private func reply(_ index: Int, _ verdict: UnsafeMutablePointer<Verdict>, _ now: UInt64) {
        let device = assignment.world.policy.policy.devices[Int(verdict.pointee.device)]
        let isSent = assignment.replies?.send(
            frames[index], verdict.pointee, mtu: device.mtu, now: now, message: message)
        if isSent != true { verdict.pointee.kind = .drop }
    }

    /// The header and the rewritten head come from the entry's own memory: the slot stays as it
    /// was received, so that another process could judge it again.
    @inline(__always)
    private func queueWrite(
        _ index: Int, _ verdict: UnsafeMutablePointer<Verdict>,
        _ vector: inout UnsafeMutablePointer<iovec>
    ) {
        let own = scratch + index &* Self.scratchBytes
        let header = own + (16 - VirtioHeader.byteCount)
        header.virtioHeader = verdict.pointee.vnet
        let head = Int(verdict.pointee.headLength)
        let length = Int(verdict.pointee.length)
        let rest = frames[index].network + Int(verdict.pointee.offset)
        let total = UInt32(truncatingIfNeeded: VirtioHeader.byteCount &+ length)
        entries[index].isQueued = true
        entries[index].expected = Int32(bitPattern: total)
        let place = Int32(verdict.pointee.device)
        if length <= Limits.headBytes {
            // A small packet costs less copied here than gathered from two places there.
            (own + (16 &+ head)).copySmall(from: rest + head, length &- head)
            queue.queueWrite(place: place, header, total, tag: UInt64(index))
            return
        }
        let pair = vector
        vector += 2
        pair.initialize(to: iovec(iov_base: header, iov_len: VirtioHeader.byteCount &+ head))
        (pair + 1).initialize(
            to: iovec(
                iov_base: UnsafeMutableRawPointer(mutating: rest + head), iov_len: length &- head))
        queue.queueGather(place: place, pair, 2, tag: UInt64(index))
    }

    /// The run's headers, then each packet's payload from its slot.
    private func queueRun(_ first: Int, _ vector: inout UnsafeMutablePointer<iovec>) {
        let run = joiner.seal(first, frames, verdicts)
        let header = scratch + (first &* Self.scratchBytes &+ 16 &- VirtioHeader.byteCount)
        header.virtioHeader = run.vnet
        vector.initialize(
            to: iovec(iov_base: header, iov_len: VirtioHeader.byteCount &+ run.headers))
        var index = first
        var place = 1
        while true {
            let payload = frames[index].network + (Int(verdicts[index].offset) &+ run.headers)
            (vector + place).initialize(
                to: iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: payload),
                    iov_len: Int(verdicts[index].length) &- run.headers))
            if place == run.count { break }
            place &+= 1
            index = joiner.follower(of: index)
        }
        entries[first].isQueued = true
        entries[first].expected = Int32(
            truncatingIfNeeded: VirtioHeader.byteCount &+ run.length)
        queue.queueGather(
            place: Int32(verdicts[first].device), vector,
            UInt32(truncatingIfNeeded: place &+ 1), tag: UInt64(first))
        vector += place &+ 1
    }

    /// Takes what has completed.
    /// - Returns: how many of them were writes.
    private func reap() -> Int {
        var writes = 0
        queue.reap { tag, result in
            if tag < Self.pollTag {
                entries[Int(tag)].result = result
                writes &+= 1
            } else if tag == Self.timerTag {
                isTimerArmed = false
            } else if tag & Self.ignoredTag == 0 {
                woken(Int32(truncatingIfNeeded: tag), result)
            }
        }
        return writes
    }

    private func woken(_ descriptor: Int32, _ events: Int32) {
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
        var first = 0
        var writes: UInt64 = 0
        var bytes: UInt64 = 0
        for index in 0..<count {
            let verdict = verdicts + index
            let entry = entries + index
            if entry.pointee.isQueued {
                writes &+= 1
                if entry.pointee.result != entry.pointee.expected {
                    verdict.pointee.refuseWrite(entry.pointee.result)
                }
            }
            if !verdict.hasFate(of: verdicts + first) {
                tally(verdicts + first, UInt64(index &- first), bytes, writer)
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
    private func sleep() {
        for index in 0..<portCount where !ports[index].isPolled {
            ports[index].isPolled = true
            queue.queuePoll(ports[index].descriptor, tag: ports[index].pollTag)
        }
        if !isWakePolled {
            isWakePolled = true
            let descriptor = mailbox.wakeup.descriptor.number
            queue.queuePoll(descriptor, tag: Self.pollTag | UInt64(descriptor))
        }
        // What waits for its rest is given up in time, also when nothing else comes.
        if !isTimerArmed, let deadline = reassembler?.deadline {
            isTimerArmed = true
            queue.queueTimer(timer, at: deadline, tag: Self.timerTag)
        }
        queue.submitAndWait()
        _ = reap()
    }
}

extension Verdict {
    /// Turns an injection that the device refused into a drop.
    mutating func refuseWrite(_ result: Int32) {
        kind = .drop
        reason = Self.writeRefusal(result, isJoined: vnet.gsoType != VirtioHeader.gsoNone)
    }

    /// - Parameter result: a negative errno, or the bytes of a short write.
    static func writeRefusal(_ result: Int32, isJoined: Bool) -> DropReason {
        switch -result {
        case EAGAIN, ENOBUFS, ENOMEM: .deviceFull
        case EINVAL where isJoined: .gsoInvalid
        default: .deviceError
        }
    }
}

extension UnsafeMutableRawPointer {
    /// Copies in steps of 16 bytes, so up to 15 more than asked for: both sides have them, for
    /// a small packet stands far from its slot's end and the scratch is a multiple of 16.
    @inline(__always)
    fileprivate func copySmall(from source: UnsafeRawPointer, _ count: Int) {
        var offset = 0
        while offset < count {
            storeBytes(
                of: source.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self),
                toByteOffset: offset, as: SIMD16<UInt8>.self)
            offset &+= 16
        }
    }

    /// The ten bytes of a `virtio_net_hdr` at any alignment: the structure has no padding.
    @inline(__always)
    var virtioHeader: VirtioHeader {
        get { loadUnaligned(as: VirtioHeader.self) }
        nonmutating set { storeBytes(of: newValue, as: VirtioHeader.self) }
    }
}
