// What became of starts, reloads and of the host, as the supervisor tells it.

import Glibc
import HostPlan
import LinuxIO

/// What the engine has from the supervisor only to report it.
struct SupervisorReport: Sendable, Codable {
    var configurationFile: String
    var processID = getpid()
    /// The nft table of `mss.replies`; nil: there is none.
    var replyTable: String?
    /// How often the engine was started again since the start, and how it ended last.
    var engineRestarts: UInt64 = 0
    var lastEngineEnd: String?
    /// Of the supervisor's own log.
    var logFailure: String?
    var logLinesDropped: UInt64 = 0
    /// Accepted since the start.
    var configurations: UInt64 = 1
    /// How often one process took over from another since the start.
    var handOvers: UInt64 = 0
    /// Frames that processes before this one may have injected already when they were killed.
    var repeated: UInt64 = 0
    /// Frames of batches that killed a process again and again, thrown away untried.
    var skipped: UInt64 = 0
    var warnings: [String] = []
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
