// A sign of life of the control thread.

import LinuxIO
import Synchronization

/// A thread's sign of life to others: the time of its last beat.
final class Pulse: Sendable {
    private let last = Atomic<UInt64>(Host.monotonicNanoseconds())

    func beat() { last.store(Host.monotonicNanoseconds(), ordering: .releasing) }

    /// No beat for longer than the control thread's longest work takes: a dump of millions of routes.
    var isStill: Bool {
        let (now, last) = (Host.monotonicNanoseconds(), last.load(ordering: .acquiring))
        return now > last && now - last > Timing.controlNanoseconds
    }
}
