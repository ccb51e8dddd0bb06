// Every time-out, interval and pause of the control thread, in one place, and the limits' relations.

import Forwarding
import HostPlan

/// How long the control thread lets things take, and how often it looks. It waits for no worker longer than
/// this says.
enum Timing {
    // MARK: Looking

    /// Workers are asked for a sign of life so often, and what nobody tells of is looked at.
    static let tickNanoseconds: UInt64 = 500_000_000
    /// Devices' settings and the host's are compared with what was set.
    static let hostNanoseconds: UInt64 = 1_000_000_000
    /// Devices in pods' namespaces that one such look takes: each costs a thread of its own.
    static let podsPerLook = 64
    /// What changes together is told in many notices: one publication for all.
    static let noticesMilliseconds: UInt32 = 2
    /// A namespace is mounted on its name some moments after that is made, and of the mount nobody tells:
    /// it is looked for so often, for so long.
    static let namespaceMilliseconds: Int32 = 10
    static let namespaceNanoseconds: UInt64 = 1_000_000_000
    /// What a publication replaced goes so soon after the last worker took it.
    static let settleMilliseconds: Int32 = 5
    /// Between two looks at what a thread that is waited for has done.
    static let pauseMilliseconds: UInt32 = 1

    // MARK: Standing still

    /// Without a sign of life for so long a worker stands still.
    static let stillNanoseconds: UInt64 = 1_000_000_000
    /// For the control thread itself, between two looks at what happened.
    static let controlNanoseconds: UInt64 = 10_000_000_000
    /// A worker that stands still is named by then, as `shuck_degraded` promises.
    static let namedNanoseconds: UInt64 = 2_000_000_000

    // MARK: Waiting

    /// For workers to take their first assignment.
    static let startNanoseconds: UInt64 = 10_000_000_000
    /// For workers to take another configuration before `reload` answers; they still take it later.
    static let reloadNanoseconds: UInt64 = 1_000_000_000
    /// For workers to inject what came before the end.
    static let stopNanoseconds: UInt64 = 3_000_000_000
    /// For the devices of a shuck that was killed to go: the kernel ends its io_uring in a work queue.
    static let predecessorNanoseconds: UInt64 = 1_000_000_000
    /// For the log's last lines.
    static let logSeconds = 0.5

    /// What one limit means for another. Checked when the program starts: a change of one that breaks it
    /// ends every start and every test of one.
    static func checkRelations() {
        Limits.checkRelations()
        precondition(tickNanoseconds + stillNanoseconds + tickNanoseconds <= namedNanoseconds)
        precondition(reloadNanoseconds + stopNanoseconds < controlNanoseconds)
        precondition(startNanoseconds <= controlNanoseconds)
        precondition(UInt64(settleMilliseconds) * 1_000_000 < tickNanoseconds)
        precondition(UInt64(namespaceMilliseconds) * 1_000_000 < namespaceNanoseconds)
        precondition(Backoff.nanoseconds(failures: 1) < tickNanoseconds)
    }
}
