// What the control thread sets: the configuration in force, and what became of reloads.

import HostPlan
import LinuxIO
import Routing
import Settings

struct DaemonState: Sendable {
    var configurationFile: String
    var configuration: Configuration
    /// Accepted since the start.
    var configurations: UInt64 = 1
    /// How often one process took over from another since the start.
    var handOvers: UInt64 = 0
    /// Frames that processes before this one may have injected already when they were killed.
    var repeated: UInt64 = 0
    /// Frames of batches that killed a process again and again, thrown away untried.
    var skipped: UInt64 = 0
    /// Of what the workers are handed; see `Assignment.generation`.
    var generation: UInt64 = 1
    var links: [Link]
    var routes: RouteStatus
    var warnings: [String] = []
    /// Why workers use plain system calls instead of io_uring; nil: they use io_uring.
    var ringRefusal: String?
    /// What others changed on the host, and what it lacks.
    var host: [Finding] = []
    var startedNanoseconds = Host.monotonicNanoseconds()
    var startedUnix = Host.unixSeconds()
    var lastReloadSuccessful = true
    var lastAppliedUnix = Host.unixSeconds()
    var lastReloadUnix = Host.unixSeconds()
    var lastReloadProblems: [String] = []
    var isStopping = false
}
