// Memory of a worker that outlives it.

import LinuxIO

/// Memory of a worker that outlives the engine.
struct WorkerMemory {
    var counters: CounterBlock
    /// Of its `FrameCopies`.
    var copies: NamedMemory
}
