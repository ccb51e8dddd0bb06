// What the supervisor provides an engine with.

import LinuxIO
import Settings

/// What an engine runs on. A value: copies share what they hold.
struct Provision {
    var cpus: [Int]
    /// The texts of the configuration.
    var files: [HandOver.File]
    var configuration: Configuration
    var plumbing: Plumbing
    /// By worker.
    var memories: [WorkerMemory]
    /// Of `FrameCopies` that workers of another process have left, by worker; empty: there were none.
    var left: [NamedMemory] = []
    var adminSocket: Descriptor?
    /// Of `admin.listen`.
    var adminPort: Descriptor?
    /// Of rtnetlink: the one hears of every change, the other is for questions. nil: it has them.
    var netlink: (notices: Descriptor, questions: Descriptor)?
    var report: SupervisorReport
    /// Where another engine stopped counting.
    var count: EngineCount?
}
