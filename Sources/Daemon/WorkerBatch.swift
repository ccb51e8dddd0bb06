// Part of Worker (Worker.swift): one batch. Slots become frames, the batch's operations go to the kernel, its
// verdicts to counters.

import Forwarding
import Glibc
import LinuxIO

extension Worker {
    /// One batch from the rings to the devices.
    /// - Returns: how many frames it took; 0 when there were none.
    func step() throws(SystemError) -> Int {
        let count = gather()
        if count == 0 { return 0 }
        let now = Host.monotonicNanoseconds()
        let plan = batch.plan(count: count, reassembler: reassembler, now: now)
        savesWrites = plan.savesWrites
        hasSubmitted = false
        var operations = plan.operations
        while !operations.isEmpty {
            if try perform(operations) { hasSubmitted = true }
            guard let rest = batch.settle(operations) else { break }
            noteRefusedJoins(operations)
            operations = rest
        }
        if tap.isOn { capture(count, operations.upperBound) }
        account(count, now)
        return count
    }

    // MARK: - Gather

    /// Takes ready slots: of one ring what is there, of several their turns.
    private func gather() -> Int {
        if portCount > 1 { return gatherInTurns() }
        return portCount == 0 ? 0 : takeSlots(ports, 0, Limits.batch)
    }

    /// Apart from `gather`, so that one ring costs nothing for it.
    @inline(never)
    private func gatherInTurns() -> Int {
        var busy = 0
        var port = 0
        while port < portCount {
            let state = ports + port
            if state.pointee.slots.isReady(state.pointee.cursor) { busy &+= 1 }
            port &+= 1
        }
        var count = 0
        return turns.serve(rings: portCount, busy: busy, batch: Limits.batch) { port, limit in
            let taken = takeSlots(ports + port, count, limit)
            count &+= taken
            return taken
        }
    }

    /// Takes up to `limit` ready slots of a ring, lost ones included, to the batch from `place` on.
    /// - Returns: how many frames it took.
    @inline(__always)
    private func takeSlots(_ state: UnsafeMutablePointer<Port>, _ place: Int, _ limit: Int) -> Int {
        let slots = state.pointee.slots
        // The count of slots is a power of two.
        let mask = slots.count &- 1
        var cursor = state.pointee.cursor
        var count = place
        var end = place &+ limit
        while true {
            var isLost = false
            while count < end {
                guard let slot = slots.slot(at: cursor) else { break }
                if slot.capturedLength >= slot.wireLength {
                    slots.prefetch(after: slot.start)
                    describe(slot, slot.frame, slot.capturedLength, state, count)
                } else if slot.isCopied && copiesTaken == .max {
                    break
                } else if !takeLarge(cursor, state, count) {
                    isLost = true
                    break
                }
                count &+= 1
                cursor = (cursor &+ 1) & mask
            }
            let next = isLost ? lose(cursor, state) : cursor
            if next == cursor { break }
            cursor = next
            end &-= 1
        }
        if cursor != state.pointee.cursor {
            state.pointee.cursor = cursor
            noteTaken(state)
        }
        return count &- place
    }

    /// Apart from the loop of `takeSlots`, which it would cost registers.
    @inline(never)
    private func noteTaken(_ port: UnsafeMutablePointer<Port>) {
        port.pointee.place.take(upTo: port.pointee.cursor, mask: port.pointee.slots.count &- 1)
    }

    /// Takes a frame that exceeds its slot; false when it is not to be had, or not yet (`lose`).
    @inline(never)
    private func takeLarge(_ cursor: Int, _ port: UnsafeMutablePointer<Port>, _ place: Int) -> Bool {
        // The kernel had no room for the whole: as if the ring had been full.
        guard let slot = port.pointee.slots.slot(at: cursor), slot.isCopied else { return false }
        let interface = port.pointee.ring._withUnsafeGuaranteedRef { $0.interfaceIndex }
        var (copy, length) = (0, 0)
        if let left = copies.left(interface: interface, slot: cursor), let bytes = left.bytes {
            (copy, length) = (left.place, bytes)
        } else {
            guard let free = copies.begin(interface: interface, slot: cursor) else { return false }
            copy = free
            length = port.pointee.ring._withUnsafeGuaranteedRef {
                $0.receive(
                    into: copies.buffer(free), capacity: PacketRing.frameBytesMax, slot: cursor,
                    wireLength: slot.wireLength)
            }
            guard length > PacketRing.virtioHeaderBytes &+ slot.linkLength else {
                copies.end(free, bytes: 0)
                return false
            }
            copies.end(free, bytes: length)
        }
        copiesTaken |= 1 << UInt8(copy)
        describe(
            slot, copies.buffer(copy) + PacketRing.virtioHeaderBytes,
            length &- PacketRing.virtioHeaderBytes, port, place)
        return true
    }

    /// Describes a frame to the judge.
    @inline(__always)
    private func describe(
        _ slot: Slot, _ frame: UnsafeMutableRawPointer, _ captured: Int,
        _ port: UnsafeMutablePointer<Port>, _ place: Int
    ) {
        let link = slot.linkLength
        let hasLink = link >= 14 && captured >= link
        (batch.frames + place).initialize(
            to: Frame(
                network: UnsafeRawPointer(frame + (hasLink ? link : 0)), head: batch.head(place),
                length: hasLink ? captured &- link : 0,
                wireLength: hasLink ? slot.wireLength &- link : 0, linkLength: link,
                etherType: hasLink
                    ? (frame + (link &- 2)).loadUnaligned(as: UInt16.self).bigEndian : 0,
                interface: port.pointee.interface, isForUs: slot.isForUs,
                vnet: (frame - PacketRing.virtioHeaderBytes).loadUnaligned(as: VirtioHeader.self)))
        self.slots[place] = slot.start
    }

    /// Gives the ring's next slot back without its frame. Between two batches alone: a worker that comes
    /// after this one goes by the order of the slots.
    /// - Returns: the slot behind it; the same one while a batch is under way, or where the frame only waits
    ///   for a place among the copies.
    @inline(never)
    private func lose(_ cursor: Int, _ port: UnsafeMutablePointer<Port>) -> Int {
        let slots = port.pointee.slots
        guard cursor == port.pointee.cursor, !port.pointee.place.isUnderWay,
            let slot = slots.slot(at: cursor), !(slot.isCopied && copies.isFull)
        else { return cursor }
        writer.begin()
        writer.add(.truncated)
        writer.end()
        let next = (cursor &+ 1) & (slots.count &- 1)
        // A kill between the two below would else leave a place that the kernel has left.
        port.pointee.place.take(upTo: next, mask: slots.count &- 1)
        Slots.release(slot.start)
        port.pointee.cursor = next
        port.pointee.place.settle(at: next)
        return port.pointee.cursor
    }

    // MARK: - Perform

    /// Performs operations, and waits until each has its result. Writes to devices are one system call.
    /// - Returns: whether there were any of those, so that completions were looked for.
    private func perform(_ places: Range<Int>) throws(SystemError) -> Bool {
        if queue.isPlain {
            performPlainly(places)
            return false
        }
        try makeSpace(for: places.count)
        var writes = queue.beginWrites()
        // Calls nothing, so that all it needs is in registers.
        for place in places where batch.operations[place].target == .device {
            let operation = batch.operations + place
            let isGathered = operation.pointee.pieceCount > 0
            writes.add(
                place: Int32(operation.pointee.index), operation.pointee.memory,
                isGathered
                    ? UInt32(operation.pointee.pieceCount)
                    : UInt32(bitPattern: operation.pointee.length),
                isGathered: isGathered, tag: UInt64(truncatingIfNeeded: place))
        }
        let queued = writes.end()
        if queued < places.count { sendErrors(places) }
        if queued == 0 { return false }
        try submit()
        var completed = reap().writes
        // A TUN queue never blocks, so this is for a kernel that defers its completions or took
        // only some of the writes.
        while completed < queued { completed &+= try wait() }
        return true
    }

    /// A system call per write, where io_uring is refused.
    @inline(never)
    private func performPlainly(_ places: Range<Int>) {
        for place in places where batch.operations[place].target == .device {
            let operation = batch.operations + place
            let isGathered = operation.pointee.pieceCount > 0
            operation.pointee.result = queue.write(
                place: Int32(operation.pointee.index), operation.pointee.memory,
                isGathered
                    ? UInt32(operation.pointee.pieceCount)
                    : UInt32(bitPattern: operation.pointee.length),
                isGathered: isGathered)
        }
        sendErrors(places)
    }

    @inline(never)
    private func sendErrors(_ places: Range<Int>) {
        for place in places where batch.operations[place].target == .icmpError {
            let operation = batch.operations + place
            let vectors = UnsafeMutableRawPointer(mutating: operation.pointee.memory)
                .assumingMemoryBound(to: iovec.self)
            operation.pointee.result =
                assignment.icmpErrors?.sockets.send(
                    vectors, Int(operation.pointee.pieceCount),
                    to: batch.receiver(of: operation.pointee)) ?? -EAFNOSUPPORT
        }
    }

    /// Tells of devices whose kernel refuses to cut what it agreed to.
    @inline(never)
    private func noteRefusedJoins(_ places: Range<Int>) {
        for place in places where batch.operations[place].isRefusedJoin {
            let operation = batch.operations[place]
            assignment.devices[Int(operation.index)].refusals?.note(
                operation.joined == .udp ? .udp : .tcp)
            writer.begin()
            writer.add(.refusedJoins)
            writer.end()
        }
    }

    // MARK: - Account

    /// Counts every frame of the batch once and gives its slot back. Neighbours of one fate are
    /// counted together.
    private func account(_ count: Int, _ now: UInt64) {
        let writer = self.writer
        writer.begin()
        writer.add(.received, UInt64(count))
        examples.begin(now: now)
        noteExample(0, now)
        let verdicts = batch.verdicts
        var first = 0
        var bytes: UInt64 = 0
        for index in 0..<count {
            let verdict = verdicts + index
            if !verdict.hasFate(of: verdicts + first) {
                endGroup(first, index, bytes, now)
                first = index
                bytes = 0
            }
            bytes &+= UInt64(verdict.pointee.length)
            Slots.release(slots[index])
        }
        writer.tally(verdicts + first, UInt64(count &- first), bytes)
        writer.add(.writes, UInt64(batch.writes))
        writer.set(.lastProgress, now)
        if let reassembler, reassembler.failures != countedFailures {
            countFailures(reassembler.failures)
        }
        writer.end()
        settlePlaces()
    }

    /// The batch is over: a worker that comes after this one does not look at its slots again.
    @inline(__always)
    private func settlePlaces() {
        var port = 0
        while port < portCount {
            ports[port].place.settle(at: ports[port].cursor)
            port &+= 1
        }
        if copiesTaken != 0 { copies.clear(copiesTaken) }
        copiesTaken = 0
    }

    /// Apart from the loop of `account`, which it would cost registers.
    /// - Parameter next: the first frame behind those of one fate.
    @inline(never)
    private func endGroup(_ first: Int, _ next: Int, _ bytes: UInt64, _ now: UInt64) {
        writer.tally(batch.verdicts + first, UInt64(next &- first), bytes)
        noteExample(next, now)
    }

    /// Keeps a refused frame as its reason's example: of neighbours of one fate the first, while its
    /// slot is still ours.
    private func noteExample(_ index: Int, _ now: UInt64) {
        let reason = batch.verdicts[index].reason
        if reason != .none { examples.note(reason, batch.frames + index, now: now) }
    }
}
