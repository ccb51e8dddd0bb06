// Part of World (World.swift): a worker dies, and another goes on from what survives.

import Forwarding
import Model

/// What a worker's death leaves. Rings and devices stay as they are.
struct Survivors {
    /// The slot that each ring's successor begins with, and how many frames of the ring lie before it: what a
    /// journal of released slots says.
    var cursors: [Int]
    var taken: [Int]
    var counters: World.Counters
}

extension World {
    @inline(__always)
    mutating func dies(_ point: CrashPoint, _ count: Int) -> Bool {
        guard crashPoint == point else { return false }
        die(point, 0, count)
        return true
    }

    /// - Parameter done: writes performed or slots released of this step.
    /// - Parameter count: frames of the batch.
    @inline(never)
    mutating func die(_ point: CrashPoint, _ done: Int, _ count: Int) {
        crashPoint = nil
        summary.crashes += 1
        note(.crash, Int(point.rawValue), done)
        var cursors = (0..<ringCount).map { rings[$0].cursor }
        var taken = (0..<ringCount).map { self.taken[$0] }
        var (inFlight, lost) = (0, 0)
        // From the last on, so that what is left is the first of each ring.
        for index in (0..<count).reversed() where !places[index].isReleased {
            let place = places[index]
            let slot = rings[place.ring].slots + place.slot
            inFlight += 1
            slot.pointee.deaths += 1
            if slot.pointee.isReceived {
                // The copy is gone with the worker.
                (slot.pointee.isReceived, slot.pointee.isQueued) = (false, false)
                lost += 1
            }
            let flow = templates[Int(slot.pointee.template)].flow
            if flow >= 0 { lastOfFlow[flow] = min(lastOfFlow[flow], slot.pointee.frame - 1) }
            cursors[place.ring] = place.slot
            taken[place.ring] = slot.pointee.order
        }
        for ring in 0..<ringCount { markHoles(ring, from: cursors[ring]) }
        summary.lostCopies += lost
        freeAnswers()
        answerCount = 0
        note(.succeed, inFlight, lost)
        arrive(schedule.below(200))
        succeed(Survivors(cursors: cursors, taken: taken, counters: counters))
    }

    /// Slots of frames that were lost went back at once, between others that were not given back.
    private func markHoles(_ ring: Int, from first: Int) {
        var slot = first
        while slot != rings[ring].cursor {
            if !rings[ring].slots[slot].isReady { rings[ring].slots[slot].isHole = true }
            slot = (slot + 1) & rings[ring].mask
        }
    }

    /// A new worker: its own memory is empty, and it adopts what was published last.
    private mutating func succeed(_ survivors: Survivors) {
        for ring in 0..<ringCount {
            rings[ring].cursor = survivors.cursors[ring]
            taken[ring] = survivors.taken[ring]
        }
        counters = survivors.counters
        batchMemory.initializeMemory(
            as: UInt8.self, repeating: 0, count: Batch.byteCount(capacity: Limits.batch))
        batch = Batch(in: batchMemory, capacity: Limits.batch)
        reassembler = Self.newReassembler()
        countedFailures = Reassembler.Failures()
        turns = RingTurns()
        // What the dead one held is lost, and had been counted as held.
        model = Model(Self.setting(policies[0], [], interfaces))
        fragments = 0
        kept = []
        adopt()
    }
}
