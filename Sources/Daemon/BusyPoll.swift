// How long a worker spins on empty rings before it sleeps.

/// Spinning pays while frames come within `workers.busyPoll` of one another, and is lost while they
/// come later: then each gap halves it, and the first frame that comes in time makes it whole
/// again. So a burst costs one wake-up, and traffic that is sparse costs no CPU time. As the
/// kernel's haltpoll governor of virtual CPUs (drivers/cpuidle/governors/haltpoll.c).
struct BusyPoll {
    /// The longest, in nanoseconds; 0: never.
    let limit: UInt64
    /// Now, in nanoseconds.
    private(set) var window: UInt64

    init(limit: UInt64) {
        self.limit = limit
        window = limit
    }

    /// Frames came after the rings had been empty for so long, in nanoseconds.
    mutating func note(gap: UInt64) { window = gap <= limit ? limit : window / 2 }
}
