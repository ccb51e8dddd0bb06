// Part of World (World.swift): a worker dies, and another goes on from what survives.

import Forwarding
import Model

/// What a worker's death leaves. Rings and devices stay as they are.
struct Survivors {
    /// The slot that each ring's successor begins with, and how many frames of the ring lie before it.
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
        var inFlight = [Int](repeating: 0, count: ringCount)
        for index in 0..<count where !places[index].isReleased {
            let place = places[index]
            let slot = rings[place.ring].slots + place.slot
            inFlight[place.ring] += 1
            slot.pointee.deaths += 1
            if place.copy >= 0 {
                let bytes = UnsafeRawBufferPointer(
                    start: large + place.copy * Self.largeBytes, count: Int(slot.pointee.length))
                copies[place.ring << 32 | place.slot] = Array(bytes)
            }
            let flow = templates[Int(slot.pointee.template)].flow
            if flow >= 0 { lastOfFlow[flow] = min(lastOfFlow[flow], slot.pointee.frame - 1) }
        }
        var cursors: [Int] = []
        var taken: [Int] = []
        for ring in 0..<ringCount {
            let place = resume(ring, inFlight[ring])
            cursors.append(place.cursor)
            taken.append(place.taken)
        }
        freeAnswers()
        answerCount = 0
        note(.succeed, inFlight.reduce(0, +), copies.count)
        arrive(schedule.below(200))
        succeed(Survivors(cursors: cursors, taken: taken, counters: counters))
    }

    /// What the memory of the ring's place says.
    /// - Returns: the successor's slot, and how many frames of the ring lie before it.
    private mutating func resume(_ ring: Int, _ inFlight: Int) -> (cursor: Int, taken: Int) {
        let slots = rings[ring].slots
        let resumption = rings[ring].place.resume(slotCount: rings[ring].mask + 1) { slots[$0].isReady }
        if resumption.repeated + resumption.skipped.count != inFlight {
            fail("ring \(ring): \(inFlight) frames are under way, its place says \(resumption)")
        }
        for slot in resumption.skipped {
            slots[slot].isReady = false
            copies[ring << 32 | slot] = nil
        }
        skippedFrames += resumption.skipped.count
        summary.skipped += resumption.skipped.count
        rings[ring].place.settle(at: resumption.cursor)
        let isRepeated = resumption.repeated > 0
        return (resumption.cursor, isRepeated ? slots[resumption.cursor].order : taken[ring])
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
