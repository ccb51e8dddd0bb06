// Part of World (World.swift): a worker dies, and all workers with it; another process goes on.

import Forwarding
import Model

extension World {
    @inline(__always)
    mutating func dies(_ point: CrashPoint) -> Bool {
        guard worker.pointee.crashPoint == point else { return false }
        die(point, 0)
        return true
    }

    /// One of several stores of a crash point has been made.
    /// - Returns: whether the worker dies behind it.
    @inline(__always)
    mutating func dies(_ point: CrashPoint, behind store: Int, of stores: Int) -> Bool {
        guard worker.pointee.crashPoint == point, worker.pointee.crashAfter % stores == store else {
            return false
        }
        die(point, store)
        return true
    }

    /// - Parameter done: stores, writes, slots or groups of this step.
    @inline(never)
    mutating func die(_ point: CrashPoint, _ done: Int) {
        summary.crashes += 1
        note(.crash, Int(point.rawValue), done, worker - workers)
        let dying = worker
        var count = 0
        for number in 0..<workerCount {
            worker = workers + number
            count += endWorker()
            worker.pointee.isBusy = false
        }
        note(.succeed, count)
        arrive(schedule.below(200))
        for number in 0..<workerCount {
            worker = workers + number
            adopt()
        }
        worker = dying
    }

    /// What is left of the worker whose turn it is, and its successor: its own memory is empty.
    /// - Returns: how many frames were in flight.
    private mutating func endWorker() -> Int {
        var inFlight = [Int](repeating: 0, count: ringCount)
        if worker.pointee.isBusy {
            for index in 0..<worker.pointee.count where !places[index].isReleased {
                let place = places[index]
                let slot = rings[place.ring].slots + place.slot
                inFlight[place.ring] += 1
                slot.pointee.deaths += 1
                let flow = templates[Int(slot.pointee.template)].flow
                guard flow >= 0 else { continue }
                let last = worker.pointee.lastOfFlow + flow
                last.pointee = min(last.pointee, slot.pointee.frame - 1)
            }
        }
        checkBlock()
        retireCounters(worker.pointee.block.shape)
        checkRetired()
        var left = copiesLeft()
        for ring in 0..<ringCount { resume(ring, inFlight[ring], &left) }
        // Of the successor's memory, which is another.
        worker.pointee.copies.clear(.max)
        worker.pointee.copiesTaken = 0
        for (slot, bytes) in left.sorted(by: { $0.key < $1.key })
        where !worker.pointee.copies.keep(
            bytes, interface: Int32(slot >> 32), slot: slot & 0xffff_ffff)
        {
            fail("a copy of slot \(slot) has no place")
        }
        worker.pointee.freeAnswers()
        worker.pointee.answerCount = 0
        worker.pointee.count = 0
        worker.pointee.batchMemory.initializeMemory(
            as: UInt8.self, repeating: 0, count: Batch.byteCount(capacity: Limits.batch))
        worker.pointee.batch = Batch(in: worker.pointee.batchMemory, capacity: Limits.batch)
        worker.pointee.reassembler = Self.newReassembler(cells: fragmentCells)
        worker.pointee.countedFailures = Reassembler.Failures()
        worker.pointee.turns = RingTurns()
        // What the dead one held is lost, and had been counted as held.
        worker.pointee.model = Model(Self.setting(policies[0], [], interfaces, cells: fragmentCells))
        worker.pointee.kept = []
        return inFlight.reduce(0, +)
    }

    /// As `PacketRing.resume`.
    private mutating func resume(_ ring: Int, _ inFlight: Int, _ left: inout [Int: [UInt8]]) {
        let state = rings + ring
        let slots = state.pointee.slots
        let resumption = state.pointee.place.resume(slotCount: state.pointee.mask + 1) { slots[$0].isReady }
        if resumption.repeated + resumption.skipped.count != inFlight {
            fail("ring \(ring): \(inFlight) frames are under way, its place says \(resumption)")
        }
        for slot in resumption.skipped {
            slots[slot].isReady = false
            left[ring << 32 | slot] = nil
        }
        worker.pointee.skippedFrames += resumption.skipped.count
        summary.skipped += resumption.skipped.count
        state.pointee.place.settle(at: resumption.cursor)
        state.pointee.cursor = resumption.cursor
        if slots[resumption.cursor].isReady {
            worker.pointee.taken[ring] = slots[resumption.cursor].order
        } else {
            worker.pointee.taken[ring] = state.pointee.filled
            if !state.pointee.isNext(resumption.cursor) {
                fail("ring \(ring): its worker waits at slot \(resumption.cursor), which the kernel has left")
            }
        }
    }

    /// As `PacketRing.adopt`: what the dead worker had taken from the queue, by slot of a ring
    /// (ring << 32 | slot).
    private func copiesLeft() -> [Int: [UInt8]] {
        var left: [Int: [UInt8]] = [:]
        let copies = worker.pointee.copies
        for ring in 0..<ringCount {
            let state = rings + ring
            for offset in 0..<Limits.batch {
                let number = (state.pointee.place.cursor + offset) & state.pointee.mask
                let slot = state.pointee.slots + number
                guard slot.pointee.isReady, slot.pointee.isQueued,
                    let (place, bytes) = copies.left(interface: Int32(ring), slot: number)
                else { continue }
                let whole = Int(slot.pointee.length)
                if bytes == nil && state.pointee.isQueued(number) { continue }
                let copy = UnsafeRawBufferPointer(start: copies.buffer(place), count: bytes ?? whole)
                if state.pointee.begins(copy, as: number) {
                    left[ring << 32 | number] = Array(copy)
                }
            }
        }
        return left
    }
}
