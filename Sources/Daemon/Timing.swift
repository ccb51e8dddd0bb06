// Every time-out, interval and pause of the daemon, and the relations between limits.

import Forwarding
import HostPlan
import LinuxIO

/// How long things may take, and how often they are looked at. The control thread waits for no worker longer
/// than this says.
enum Timing {
    // MARK: Looking

    /// Interval of the tick: it asks workers for a sign of life, and looks for changes that bring no notice.
    static let tickNanoseconds: UInt64 = 500_000_000
    /// Interval at which settings of devices and of the host are compared with what was set.
    static let hostNanoseconds: UInt64 = 1_000_000_000
    /// Devices in pods' namespaces that one such look takes: each costs a thread of its own.
    static let podsPerLook = 64
    /// Pause before notices are read: one change comes in many notices and needs one publication.
    static let noticesMilliseconds: UInt32 = 2
    /// A namespace is mounted some moments after its name is made, and no notice tells of the mount. These
    /// are the interval at which it is looked for, and for how long.
    static let namespaceMilliseconds: Int32 = 10
    static let namespaceNanoseconds: UInt64 = 1_000_000_000
    /// Interval at which workers are looked at after a publication, to release what it replaced.
    static let settleMilliseconds: Int32 = 5
    /// Interval at which the control thread looks at a thread that it waits for.
    static let pauseMilliseconds: UInt32 = 1

    /// Interval at which an engine says what it has counted beside its counters.
    static let countNanoseconds: UInt64 = 10_000_000_000
    /// Interval at which a capture takes what workers wrote, and at which it says how much was lost.
    static let captureMilliseconds: Int64 = 10
    static let captureStatisticsNanoseconds: UInt64 = 1_000_000_000

    // MARK: Standing still

    /// A worker that gives no sign of life for this long stands still.
    static let stillNanoseconds: UInt64 = 1_000_000_000
    /// The control thread stands still when its loop takes longer than this.
    static let controlNanoseconds: UInt64 = 10_000_000_000
    /// A worker that stands still is named within this time, as `shuck_degraded` promises.
    static let namedNanoseconds: UInt64 = 2_000_000_000

    /// Ticks at which a worker took nothing from a ring that had frames, before its engine is killed: 5 s.
    static let stuckLooks = 10
    /// Ticks without a word of the engine before it is killed: 30 s, longer than any dump of routes.
    static let silentTicks = 60

    // MARK: Waiting

    /// Time for workers to take their first assignment.
    static let startNanoseconds: UInt64 = 10_000_000_000
    /// Time for workers to take another configuration before `reload` answers. They still take it later.
    static let reloadNanoseconds: UInt64 = 1_000_000_000
    /// Time for workers to inject what came before the end.
    static let stopNanoseconds: UInt64 = 3_000_000_000
    /// Time for the devices of a killed shuck to go: the kernel ends its io_uring in a work queue.
    static let predecessorNanoseconds: UInt64 = 1_000_000_000
    /// Time for the next word of a hand-over.
    static let handOverMilliseconds: Int32 = 2_000
    /// Time for a process to prepare itself: it reads all routes.
    static let successorNanoseconds: UInt64 = 60_000_000_000
    /// Time for it to forward once workers have ended here: nobody forwards meanwhile.
    static let takeOverMilliseconds: Int32 = 5_000
    /// Time for a start that the service manager grants from each word on.
    static let startExtensionMicroseconds: UInt64 = 10_000_000
    /// Time for the engine to answer what it does at once.
    static let engineMilliseconds: Int32 = 5_000
    /// Time for an engine to prepare itself: it reads all routes.
    static let engineStartMilliseconds: Int32 = 60_000
    /// Time for an engine to end once nothing is left to do.
    static let engineEndNanoseconds: UInt64 = 2_000_000_000
    /// An engine that lived longer is replaced at once when it ends, and so many in a row that did not.
    static let engineLifeNanoseconds: UInt64 = 500_000_000
    static let enginesAtOnce = 3
    /// Time for the service manager to deal with what it was told.
    static let barrierMilliseconds: Int32 = 5_000
    /// Time for the log's last lines.
    static let logSeconds = 0.5

    // MARK: Workers and readers of what they write

    /// Interrupt moderation. After a batch in which coalescing saved at least half of the writes, the worker
    /// sleeps this long before it polls again, so that the next batch holds more of the burst. Frames already
    /// taken have been written. A lone packet never starts the wait but may fall into one.
    static let moderationNanoseconds = 50_000
    /// Failures in a row of a worker's io_uring that end the worker, at 50 µs or more each: half a second,
    /// in which memory may come back or a debugger may go on.
    static let ringTries = 10_000
    /// Shortest time between two examples of a drop reason, so that a flood does not pay for them.
    static let exampleNanoseconds: UInt64 = 100_000_000
    /// Attempts of a reader at counters that a worker is writing; the second half of them pauses.
    static let readAttempts = 64

    // MARK: The admin endpoint, the log and routes

    /// Until the whole request has come: a client that is slower holds a connection for nothing.
    static let requestSeconds: Int64 = 5
    /// Until the client has taken the whole answer.
    static let answerSeconds: Int64 = 10
    /// Interval at which the log tries to say that lines were lost, while standard error cannot be written.
    static let logRetrySeconds = 1.0
    /// Pause after a dump of routes that failed.
    static let dumpRetryNanoseconds: UInt64 = 1_000_000_000
    /// Pause between two dumps, in durations of the last one: dumps take at most a tenth of the time.
    static let dumpPauses: UInt64 = 9

    /// Looks each millisecond whether something is so.
    /// - Parameter nanoseconds: for this long at most.
    static func wait<E: Error>(nanoseconds: UInt64, until isSo: () throws(E) -> Bool) throws(E) {
        let deadline = Host.monotonicNanoseconds() + nanoseconds
        while try !isSo(), Host.monotonicNanoseconds() < deadline {
            Host.pause(milliseconds: pauseMilliseconds)
        }
    }

    /// What one limit means for another. Checked when the program starts: a change of one that breaks it
    /// ends every start and every test of one.
    static func checkRelations() {
        Limits.checkRelations()
        precondition(tickNanoseconds + stillNanoseconds + tickNanoseconds <= namedNanoseconds)
        precondition(reloadNanoseconds + stopNanoseconds < controlNanoseconds)
        precondition(startNanoseconds <= controlNanoseconds)
        // It may take another configuration, and go back to the one before.
        precondition(2 * reloadNanoseconds < UInt64(engineMilliseconds) * 1_000_000)
        precondition(stopNanoseconds < UInt64(engineMilliseconds) * 1_000_000)
        precondition(startNanoseconds < UInt64(engineStartMilliseconds) * 1_000_000)
        precondition(startExtensionMicroseconds * 1_000 > 2 * tickNanoseconds)
        // Its predecessor ends workers before it says go.
        precondition(UInt64(takeOverMilliseconds) * 1_000_000 > stopNanoseconds)
        precondition(UInt64(settleMilliseconds) * 1_000_000 < tickNanoseconds)
        precondition(UInt64(namespaceMilliseconds) * 1_000_000 < namespaceNanoseconds)
        precondition(Backoff.nanoseconds(failures: 1) < tickNanoseconds)
    }
}
