// What the supervisor provides an engine with.

import Settings

/// What an engine runs on. A value: copies share what they hold.
struct Provision {
    var configuration: Configuration
    var plumbing: Plumbing
    /// By worker.
    var memories: [WorkerMemory]
    var report: SupervisorReport
}
