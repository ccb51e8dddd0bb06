// Every time-out, interval and pause of the daemon, and the relations between limits.

import Forwarding
import HostPlan
import LinuxIO

/// How long things may take, and how often they are looked at. The control thread waits for no worker longer
/// than this says.
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

    // MARK: Workers and readers of what they write

    /// Interrupt moderation. After a batch in which coalescing saved at least half of the writes, the worker
    /// sleeps this long before it polls again, so that the next batch holds more of the burst. Frames already
    /// taken have been written. A lone packet never starts the wait but may fall into one.
    static let moderationNanoseconds = 50_000
    /// Failures in a row of a worker's io_uring that end the worker, at 50 µs or more each: half a second,
    /// in which memory may come back or a debugger may go on.
    static let ringTries = 10_000
    /// A reason's example of a refused frame is replaced at most once in so long, so that a flood does not
    /// pay for it.
    static let exampleNanoseconds: UInt64 = 100_000_000
    /// Attempts of a reader at counters that a worker is writing; the second half of them pauses.
    static let readAttempts = 64

    // MARK: The admin endpoint, the log and routes

    /// Until the whole request has come: a client that is slower holds a connection for nothing.
    static let requestSeconds: Int64 = 5
    /// Until the client has taken the whole answer.
    static let answerSeconds: Int64 = 10
    /// Lost lines are told of as soon as standard error can be written again: it is tried so often.
    static let logRetrySeconds = 1.0
    /// A dump of routes that failed is tried again after so long.
    static let dumpRetryNanoseconds: UInt64 = 1_000_000_000
    /// Between two dumps so many times what the last one took: dumps take a tenth of the time at most.
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
        precondition(UInt64(settleMilliseconds) * 1_000_000 < tickNanoseconds)
        precondition(UInt64(namespaceMilliseconds) * 1_000_000 < namespaceNanoseconds)
        precondition(Backoff.nanoseconds(failures: 1) < tickNanoseconds)
    }
}
