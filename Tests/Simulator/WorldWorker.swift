// Part of World (World.swift): the worker's loop, as `Worker.step` has it, one step after the other.

import Forwarding

extension World {
    /// As `Worker.run`: the newest assignment at a batch border, then a batch.
    mutating func turn() {
        if worker.pointee.generation !== live[live.count - 1] {
            worker.pointee.lateness -= 1
            if worker.pointee.lateness <= 0 { adopt() }
        }
        let own = worker
        own.pointee.isBusy = true
        own.pointee.count = 0
        own.pointee.now = clock
        own.pointee.crashPoint = nil
        if strikes(500) {
            own.pointee.crashPoint = faults.pick(CrashPoint.allCases)
            own.pointee.crashAfter = faults.below(64)
        }
        step()
        own.pointee.isBusy = false
    }

    /// One batch, unless the worker dies in it.
    private mutating func step() {
        guard let count = gather() else { return }
        if count == 0 { return expireFragments() }
        if dies(.gathered) || !meanwhile() { return }
        let plan = batch.plan(count: count, reassembler: worker.pointee.reassembler, now: worker.pointee.now)
        note(.plan, plan.operations.count)
        checkVerdicts(count)
        if finding != nil || dies(.planned) { return }
        if scenario.sabotage == .earlyRelease { releaseAll(count) }
        var operations = plan.operations
        var isRest = false
        var writes = 0
        while !operations.isEmpty {
            guard perform(operations, isRest: isRest, &writes), !dies(.performed) else { return }
            guard let rest = batch.settle(operations) else { break }
            note(.settle, rest.count)
            if dies(.settled) { return }
            operations = rest
            isRest = true
        }
        checkOutcome(count, writes)
        if finding != nil { return }
        account(count)
    }

    /// As `Worker.expireFragments`, which an idle worker calls.
    private mutating func expireFragments() {
        guard !worker.pointee.reassembler.isEmpty else { return }
        worker.pointee.reassembler.expire(now: clock)
        worker.pointee.model.expire(now: clock)
        let writer = worker.pointee.block.writer
        writer.begin()
        countFailures(writer)
        writer.end()
    }

    // MARK: Gather

    /// - Returns: nil: the worker died.
    private mutating func gather() -> Int? {
        let deaths = summary.crashes
        var busy = 0
        for ring in 0..<ringCount where rings[ring].isReady(rings[ring].cursor) { busy &+= 1 }
        var count = 0
        if ringCount == 1 {
            count = take(0, 0, Limits.batch)
        } else {
            var turns = worker.pointee.turns
            _ = turns.serve(rings: ringCount, busy: busy, batch: Limits.batch) { ring, limit in
                if summary.crashes != deaths { return 0 }
                let taken = take(ring, count, limit)
                count &+= taken
                return taken
            }
            if summary.crashes == deaths { worker.pointee.turns = turns }
        }
        guard summary.crashes == deaths else { return nil }
        if count > 0 { note(.take, count, worker.pointee.copiesTaken.nonzeroBitCount, worker - workers) }
        return count
    }

    private enum LargeFrame { case taken, lost, later }

    /// As `Worker.takeSlots`.
    private mutating func take(_ index: Int, _ place: Int, _ limit: Int) -> Int {
        let ring = rings + index
        var start = ring.pointee.cursor
        var count = place
        var end = place &+ limit
        while count < end, ring.pointee.isReady(ring.pointee.cursor) {
            let cursor = ring.pointee.cursor
            let slot = ring.pointee.slots + cursor
            if !slot.pointee.isLarge {
                describe(slot, ring.pointee.bytes(cursor), count)
            } else {
                guard let outcome = takeLarge(index, cursor, count) else { return 0 }
                if outcome == .lost {
                    if cursor != start || ring.pointee.place.isUnderWay { break }
                    if !lose(index, slot) { return 0 }
                    start = ring.pointee.cursor
                    end &-= 1
                    continue
                }
                if outcome == .later { break }
            }
            noteTaken(index, slot)
            places[count] = Place(ring: index, slot: cursor)
            count &+= 1
            advance(index)
        }
        if ring.pointee.cursor != start {
            ring.pointee.place.take(upTo: ring.pointee.cursor, mask: ring.pointee.mask)
            worker.pointee.count = count
            if worker.pointee.crashAfter & 1 == 0 && dies(.gathering) { return 0 }
        }
        return count &- place
    }

    @inline(__always)
    private func advance(_ index: Int) {
        rings[index].cursor = (rings[index].cursor &+ 1) & rings[index].mask
    }

    /// As `Worker.takeLarge`: what a worker before this one had taken from the queue, or the queue's next.
    /// - Returns: nil: the worker died.
    private mutating func takeLarge(_ index: Int, _ cursor: Int, _ place: Int) -> LargeFrame? {
        let ring = rings + index
        let slot = ring.pointee.slots + cursor
        guard slot.pointee.isQueued else { return .lost }
        let copies = worker.pointee.copies
        var copy = 0
        if let left = copies.left(interface: Int32(index), slot: cursor), left.bytes != nil {
            copy = left.place
        } else {
            guard let free = copies.begin(interface: Int32(index), slot: cursor) else { return .later }
            copy = free
            if dies(.receiving, behind: 0, of: 3) { return nil }
            let length = ring.pointee.receive(into: copies.buffer(free), length: Int(slot.pointee.length))
            if dies(.receiving, behind: 1, of: 3) { return nil }
            copies.end(free, bytes: length)
            if dies(.receiving, behind: 2, of: 3) { return nil }
            if length == 0 { return .lost }
        }
        worker.pointee.copiesTaken |= 1 << UInt8(copy)
        slot.pointee.isReceived = true
        describe(slot, copies.buffer(copy), place)
        return .taken
    }

    @inline(__always)
    private func describe(
        _ slot: UnsafeMutablePointer<Ring.Slot>, _ bytes: UnsafeMutableRawPointer, _ place: Int
    ) {
        let template = templates + Int(slot.pointee.template)
        let length = Int(slot.pointee.length)
        (batch.frames + place).initialize(
            to: Frame(
                network: UnsafeRawPointer(bytes), head: batch.head(place), length: length, wireLength: length,
                linkLength: template.pointee.linkLength, etherType: template.pointee.etherType,
                interface: UInt16(template.pointee.interface), isForUs: template.pointee.isForUs,
                vnet: template.pointee.vnet))
    }

    /// Each frame that was put into a slot is taken once, in order.
    @inline(__always)
    private mutating func noteTaken(_ ring: Int, _ slot: UnsafeMutablePointer<Ring.Slot>) {
        if slot.pointee.order != worker.pointee.taken[ring] {
            fail(
                """
                ring \(ring): frame \(slot.pointee.order) of it is taken in the place of \
                \(worker.pointee.taken[ring])
                """)
        }
        worker.pointee.taken[ring] &+= 1
    }

    /// As `Worker.lose`: the kernel had no room for the whole.
    /// - Returns: false: the worker died.
    private mutating func lose(_ ring: Int, _ slot: UnsafeMutablePointer<Ring.Slot>) -> Bool {
        if slot.pointee.isQueued { fail("frame \(slot.pointee.frame), whole in the queue, is lost") }
        let place = rings[ring].place
        let next = (rings[ring].cursor &+ 1) & rings[ring].mask
        let writer = worker.pointee.block.writer
        writer.begin()
        writer.add(.truncated)
        writer.end()
        worker.pointee.lostCounts &+= 1
        if dies(.losing, behind: 0, of: 3) { return false }
        if scenario.sabotage != .losesInOneStep { place.take(upTo: next, mask: rings[ring].mask) }
        if worker.pointee.crashPoint == .losing && worker.pointee.crashAfter % 3 == 1 {
            // It is under way, beside frames of other rings.
            places[worker.pointee.count] = Place(ring: ring, slot: rings[ring].cursor)
            worker.pointee.count += 1
            die(.losing, 1)
            return false
        }
        noteTaken(ring, slot)
        worker.pointee.lostFrames &+= 1
        slot.pointee.isReady = false
        if dies(.losing, behind: 2, of: 3) { return false }
        advance(ring)
        place.settle(at: next)
        return true
    }

    // MARK: Perform

    /// As `Worker.perform`: ICMP errors, then writes in order, whose results come in any order.
    /// - Returns: false: the worker died.
    private mutating func perform(
        _ operations: Range<Int>, isRest: Bool, _ writes: inout Int
    ) -> Bool {
        for place in operations where batch.operations[place].target == .icmpError {
            let result = sendError(place)
            batch.operations[place].result = result
            note(.icmp, Int(batch.operations[place].frame), Int(result))
        }
        let isReversed = isRest && scenario.sabotage == .reorderedAfterRefusal
        var done = 0
        for number in 0..<operations.count {
            let place = isReversed ? operations.upperBound - 1 - number : operations.lowerBound + number
            guard batch.operations[place].target == .device else { continue }
            if worker.pointee.crashPoint == .writing && done >= worker.pointee.crashAfter {
                die(.writing, done)
                return false
            }
            guard meanwhile() else { return false }
            var result = write(place)
            let isRefused = !batch.operations[place].joined.isEmpty && result == -22
            if !isRefused {
                writes &+=
                    batch.operations[place].joined.isEmpty || result == batch.operations[place].length ? 1 : 0
            }
            if isRefused && scenario.sabotage == .refusedJoinDelivered {
                result = batch.operations[place].length
            }
            batch.operations[place].result = result
            noteResult(place, result)
            if finding != nil { return false }
            done &+= 1
        }
        return true
    }

    @inline(__always)
    private func noteResult(_ place: Int, _ result: Int32) {
        let operation = batch.operations[place]
        guard result != operation.length else { return }
        let (batch, places) = (batch, places)
        batch.forEachFrame(of: operation) { places[$0].result = result }
    }

    // MARK: Account

    /// As `Worker.account`: neighbours of one fate are counted together, behind the release of their slots.
    private mutating func account(_ count: Int) {
        let writer = worker.pointee.block.writer
        let verdicts = batch.verdicts
        writer.begin()
        writer.add(.received, UInt64(count))
        var (first, bytes, groups) = (0, UInt64(0), 0)
        for index in 0..<count {
            if !(verdicts + index).hasFate(of: verdicts + first) {
                guard tally(first, index, bytes, writer, &groups) else { return }
                (first, bytes) = (index, 0)
            }
            if worker.pointee.crashPoint == .releasing && index >= worker.pointee.crashAfter {
                return die(.releasing, index)
            }
            bytes &+= UInt64(verdicts[index].length)
            noteSeen(verdicts[index].kind)
            if !places[index].isReleased { release(index) }
        }
        guard tally(first, count, bytes, writer, &groups) else { return }
        if scenario.sabotage == .countedTwice && count == Limits.batch {
            writer.add(.received)
            writer.add(.injected)
        }
        writer.add(.writes, UInt64(batch.writes))
        countFailures(writer)
        if dies(.counting, behind: 63, of: 64) { return }
        writer.end()
        if dies(.accounted) { return }
        note(.release, count, count)
        settlePlaces()
    }

    /// A kill may find each word that is changed as it was or as it is to be.
    /// - Returns: false: the worker died.
    private mutating func tally(
        _ first: Int, _ next: Int, _ bytes: UInt64, _ writer: CounterBlock.Writer, _ groups: inout Int
    ) -> Bool {
        let block = worker.pointee.block
        let isLast = worker.pointee.crashPoint == .counting && worker.pointee.crashAfter % 8 == groups
        groups &+= 1
        let before = isLast ? block.values.values : []
        writer.tally(batch.verdicts + first, UInt64(next &- first), bytes)
        guard isLast else { return true }
        for (word, value) in before.enumerated() where faults.chance(2) {
            block.words[word].store(value, ordering: .relaxed)
        }
        die(.counting, groups)
        return false
    }

    private mutating func settlePlaces() {
        for ring in 0..<ringCount {
            if worker.pointee.crashPoint == .settling
                && worker.pointee.crashAfter % (ringCount + 1) == ring
            {
                return die(.settling, ring)
            }
            rings[ring].place.settle(at: rings[ring].cursor)
        }
        worker.pointee.count = 0
        if dies(.settling) { return }
        worker.pointee.copies.clear(worker.pointee.copiesTaken)
        worker.pointee.copiesTaken = 0
        worker.pointee.freeAnswers()
        worker.pointee.answerCount = 0
        checkTotals(isLast: false)
    }

    @inline(__always)
    private func noteSeen(_ kind: Verdict.Kind) {
        switch kind {
        case .inject: worker.pointee.seen.injected &+= 1
        case .pass: worker.pointee.seen.passed &+= 1
        case .drop: worker.pointee.seen.dropped &+= 1
        case .reply: worker.pointee.seen.replied &+= 1
        case .hold: worker.pointee.seen.held &+= 1
        }
    }

    /// As `Worker.countFailures`. A successor's reassembler begins at 0 again.
    private mutating func countFailures(_ writer: CounterBlock.Writer) {
        let (failures, counted) = (worker.pointee.reassembler.failures, worker.pointee.countedFailures)
        if failures == counted { return }
        writer.add(.reassemblyOverlap, failures.overlap &- counted.overlap)
        writer.add(.reassemblyMemory, failures.memory &- counted.memory)
        writer.add(.reassemblyTimeout, failures.timeout &- counted.timeout)
        worker.pointee.countedFailures = failures
    }

    private mutating func releaseAll(_ count: Int) { for index in 0..<count { release(index) } }

    @inline(__always)
    private mutating func release(_ index: Int) {
        let slot = rings[places[index].ring].slots + places[index].slot
        places[index].isReleased = true
        slot.pointee.isReady = false
        worker.pointee.releasedFrames &+= 1
    }
}
