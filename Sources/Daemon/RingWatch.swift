// Whether workers take what their rings hold, as the supervisor sees it without asking the engine.

import LinuxIO

/// Looks at each ring at each tick. A value of the control thread's.
struct RingWatch {
    private var seen: [ObjectIdentifier: (cursor: Int, looks: Int)] = [:]

    /// - Returns: a worker that has taken nothing for so many looks from a ring that had frames at each.
    mutating func look(_ interfaces: [OpenInterface], most: Int = Timing.stuckLooks) -> Int? {
        var now: [ObjectIdentifier: (cursor: Int, looks: Int)] = [:]
        var stuck: Int?
        for interface in interfaces {
            for (worker, ring) in interface.rings.enumerated() {
                // Memory that the engine writes.
                let cursor = ring.place.cursor & (ring.slotCount - 1)
                guard ring.slots.isReady(cursor) else { continue }
                let before = seen[ObjectIdentifier(ring)]
                let looks = before?.cursor == cursor ? (before?.looks ?? 0) + 1 : 1
                now[ObjectIdentifier(ring)] = (cursor, looks)
                if looks > most { stuck = worker }
            }
        }
        seen = stuck == nil ? now : [:]
        return stuck
    }
}
