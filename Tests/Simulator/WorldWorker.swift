// Part of World (World.swift): the worker's loop, as `Worker.step` has it, one step after the other.

import Forwarding

extension World {
    /// One batch, unless the worker dies in it.
    mutating func step() {
        summary.steps &+= 1
        crashPoint = nil
        if strikes(500) {
            crashPoint = faults.pick(CrashPoint.allCases)
            crashAfter = faults.below(64)
        }
        let count = gather()
        if count == 0 { return }
        if dies(.gathered, count) { return }
        arriveBetween()
        let plan = batch.plan(count: count, reassembler: reassembler, now: now)
        note(.plan, plan.operations.count)
        checkVerdicts(count)
        if finding != nil || dies(.planned, count) { return }
        if scenario.sabotage == .earlyRelease { releaseAll(count) }
        var operations = plan.operations
        var isRest = false
        var writes = 0
        while !operations.isEmpty {
            guard perform(operations, isRest: isRest, count, &writes), !dies(.performed, count) else {
                return
            }
            guard let rest = batch.settle(operations) else { break }
            note(.settle, rest.count)
            if dies(.settled, count) { return }
            operations = rest
            isRest = true
        }
        checkOutcome(count, writes)
        if finding != nil { return }
        account(count)
        freeAnswers()
        answerCount = 0
    }

    // MARK: Gather

    private mutating func gather() -> Int {
        var busy = 0
        for ring in 0..<ringCount where rings[ring].isReady(rings[ring].cursor) { busy &+= 1 }
        var largeTaken = 0
        var count = 0
        if ringCount == 1 {
            count = take(0, 0, Limits.batch, &largeTaken)
        } else {
            var turns = self.turns
            _ = turns.serve(rings: ringCount, busy: busy, batch: Limits.batch) { ring, limit in
                let taken = take(ring, count, limit, &largeTaken)
                count &+= taken
                return taken
            }
            self.turns = turns
        }
        if count > 0 { note(.take, count, largeTaken) }
        return count
    }

    /// As `Worker.takeSlots`.
    private mutating func take(_ index: Int, _ place: Int, _ limit: Int, _ largeTaken: inout Int) -> Int {
        let ring = rings + index
        var start = ring.pointee.cursor
        var count = place
        var end = place &+ limit
        while count < end, ring.pointee.isReady(ring.pointee.cursor) {
            let cursor = ring.pointee.cursor
            let slot = ring.pointee.slots + cursor
            var copy = -1
            if !slot.pointee.isLarge {
                describe(slot, ring.pointee.bytes(cursor), count)
            } else if slot.pointee.isQueued && largeTaken == Self.largeMax {
                break
            } else if takeLarge(index, cursor, count, largeTaken) {
                copy = largeTaken
                largeTaken &+= 1
            } else {
                if cursor != start || ring.pointee.place.isUnderWay { break }
                lose(index, slot)
                advance(index)
                start = ring.pointee.cursor
                ring.pointee.place.settle(at: start)
                end &-= 1
                continue
            }
            noteTaken(index, slot)
            places[count] = Place(ring: index, slot: cursor, copy: copy)
            count &+= 1
            advance(index)
        }
        if ring.pointee.cursor != start {
            ring.pointee.place.take(upTo: ring.pointee.cursor, mask: ring.pointee.mask)
        }
        return count &- place
    }

    @inline(__always)
    private func advance(_ index: Int) {
        rings[index].cursor = (rings[index].cursor &+ 1) & rings[index].mask
    }

    /// What a worker before this one had taken from the queue is there; the queue gives it once.
    private mutating func takeLarge(_ index: Int, _ cursor: Int, _ place: Int, _ copy: Int) -> Bool {
        let ring = rings + index
        let slot = ring.pointee.slots + cursor
        guard slot.pointee.isQueued else { return false }
        let buffer = large + copy &* Self.largeBytes
        if slot.pointee.isReceived {
            guard let left = copies.removeValue(forKey: index << 32 | cursor) else { return false }
            buffer.copyMemory(from: left, byteCount: left.count)
        } else if ring.pointee.receive(into: buffer, length: Int(slot.pointee.length)) == 0 {
            return false
        }
        slot.pointee.isReceived = true
        describe(slot, buffer, place)
        return true
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
        if slot.pointee.order != taken[ring] {
            fail("ring \(ring): frame \(slot.pointee.order) of it is taken in the place of \(taken[ring])")
        }
        taken[ring] &+= 1
    }

    /// As `Worker.lose`: the kernel had no room for the whole.
    private mutating func lose(_ ring: Int, _ slot: UnsafeMutablePointer<Ring.Slot>) {
        noteTaken(ring, slot)
        counters.truncated &+= 1
        lostFrames &+= 1
        slot.pointee.isReady = false
    }

    // MARK: Perform

    /// As `Worker.perform`: ICMP errors, then writes in order, whose results come in any order.
    /// - Returns: false: the worker died.
    private mutating func perform(
        _ operations: Range<Int>, isRest: Bool, _ count: Int, _ writes: inout Int
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
            if crashPoint == .writing && done >= crashAfter {
                die(.writing, done, count)
                return false
            }
            arriveBetween()
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

    private mutating func account(_ count: Int) {
        var new = counters
        new.received &+= count
        for index in 0..<count {
            if crashPoint == .releasing && index >= crashAfter {
                uncounted &+= index
                die(.releasing, index, count)
                return
            }
            switch batch.verdicts[index].kind {
            case .inject: new.injected &+= 1
            case .pass: new.passed &+= 1
            case .drop: new.dropped &+= 1
            case .reply: new.replied &+= 1
            case .hold: new.held &+= 1
            }
            if !places[index].isReleased { release(index) }
        }
        if scenario.sabotage == .countedTwice && count == Limits.batch {
            new.received &+= 1
            new.injected &+= 1
        }
        new.writes &+= batch.writes
        add(reassembler.failures, to: &new)
        counters = new
        note(.release, count, count)
        checkTotals(isLast: false)
        if dies(.accounted, 0) { return }
        for ring in 0..<ringCount { rings[ring].place.settle(at: rings[ring].cursor) }
    }

    /// A successor's reassembler begins at 0 again.
    private mutating func add(_ failures: Reassembler.Failures, to new: inout Counters) {
        new.failures.overlap &+= failures.overlap &- countedFailures.overlap
        new.failures.memory &+= failures.memory &- countedFailures.memory
        new.failures.timeout &+= failures.timeout &- countedFailures.timeout
        countedFailures = failures
    }

    private mutating func releaseAll(_ count: Int) { for index in 0..<count { release(index) } }

    @inline(__always)
    private mutating func release(_ index: Int) {
        let slot = rings[places[index].ring].slots + places[index].slot
        places[index].isReleased = true
        slot.pointee.isReady = false
        releasedFrames &+= 1
    }
}
