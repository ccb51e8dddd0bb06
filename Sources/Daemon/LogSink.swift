// Where lines for standard error go: a bounded queue, and one thread that alone writes it.
// A write to a pipe or a disk may wait for ever and may fail. O_NONBLOCK would prevent the wait, but it
// is a property of the open file that the shell and other processes share; a file opened again has
// another offset, and a socket cannot be opened again. A thread of its own works for all of them.

import Foundation
import Glibc
import LinuxIO

final class LogSink: @unchecked Sendable {
    // @unchecked: everything that changes is touched under `condition` alone, `isMidLine` by one thread.

    static let standardError = LogSink(descriptor: STDERR_FILENO)

    /// Bytes that may wait to be written: some thousand lines.
    static let capacity = 256 << 10

    private enum Entry {
        case line(String)
        /// So many lines did not fit in behind the entry before.
        case lost(UInt64)
    }

    private let descriptor: Int32
    private let condition = NSCondition()
    private var queue: [Entry] = []
    /// Of `queue` and of the entry that is being written.
    private var waitingBytes = 0
    private var isWriting = false
    private var thread: WorkerThread?
    private var dropped: UInt64 = 0
    /// Lost lines that the reader has not been told of.
    private var untold: UInt64 = 0
    private var cause: Int32 = 0
    /// The form of the line that says how many were lost.
    private var notice: @Sendable (String) -> String = { $0 }
    /// A line was cut off by an error: the next one begins behind a newline.
    private var isMidLine = false

    init(descriptor: Int32) { self.descriptor = descriptor }

    func setNotice(_ form: @escaping @Sendable (String) -> String) {
        condition.withLock { notice = form }
    }

    /// Lines that were never written, since the start.
    var droppedLines: UInt64 { condition.withLock { dropped } }

    /// Why lines are lost at this time; nil when they are not.
    var failure: String? {
        condition.lock()
        defer { condition.unlock() }
        if untold > 0 { return String(cString: strerror(cause)) }
        let isFull = queue.contains { if case .lost = $0 { true } else { false } }
        return isFull ? "nobody reads it" : nil
    }

    /// Queues one line without its newline; never waits. What does not fit is counted instead.
    func write(_ line: String) {
        condition.lock()
        defer { condition.unlock() }
        if thread == nil { thread = try? WorkerThread(name: "shuck-log") { [self] in run() } }
        guard thread != nil, waitingBytes + line.utf8.count < Self.capacity else {
            dropped += 1
            if case .lost(let count) = queue.last {
                queue[queue.count - 1] = .lost(count + 1)
            } else {
                queue.append(.lost(1))
            }
            return
        }
        waitingBytes += line.utf8.count + 1
        queue.append(.line(line))
        condition.broadcast()
    }

    /// Waits until all is written, but no longer than so: for the end of the process.
    func finish(seconds: Double) {
        let limit = Date(timeIntervalSinceNow: seconds)
        condition.lock()
        defer { condition.unlock() }
        while isWriting || queue.contains(where: { if case .line = $0 { true } else { false } }) {
            guard condition.wait(until: limit) else { return }
        }
    }

    // MARK: the thread

    private func run() {
        // Signals are for the control thread.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)
        while true {
            let entries = take()
            for entry in entries {
                switch entry {
                case .line(let line):
                    deliver(line)
                    condition.withLock { waitingBytes -= line.utf8.count + 1 }
                case .lost(let count):
                    fail(count, cause: EAGAIN)
                    _ = tell()
                }
            }
            if entries.isEmpty { _ = tell() }
        }
    }

    /// Waits for entries; none when it is time to try again to tell of lost lines.
    private func take() -> [Entry] {
        condition.lock()
        defer { condition.unlock() }
        isWriting = false
        condition.broadcast()
        while queue.isEmpty {
            if untold == 0 {
                condition.wait()
            } else if !condition.wait(until: Date(timeIntervalSinceNow: Timing.logRetrySeconds)) {
                break
            }
        }
        isWriting = true
        defer { queue = [] }
        return queue
    }

    private func fail(_ count: UInt64, cause: Int32) {
        condition.withLock {
            untold += count
            self.cause = cause
        }
    }

    private func deliver(_ line: String) {
        let failure = tell() ?? put(line)
        guard let failure else { return }
        fail(1, cause: failure)
        condition.withLock { dropped += 1 }
    }

    /// Says how many lines were lost, if some were.
    /// - Returns: errno when that cannot be written.
    private func tell() -> Int32? {
        let (count, form, reason) = condition.withLock { (untold, notice, cause) }
        if count == 0 { return nil }
        let why = reason == EAGAIN ? "nobody read it" : String(cString: strerror(reason))
        let text = "\(count) log lines were lost, standard error could not be written: \(why)"
        if let failure = put(form(text)) { return failure }
        condition.withLock { untold -= count }
        return nil
    }

    /// Writes a line to its end, however long that takes.
    /// - Returns: errno when it cannot be written.
    private func put(_ line: String) -> Int32? {
        let text = (isMidLine ? "\n" : "") + line + "\n"
        let (written, failure) = writeWhole(Array(text.utf8), to: descriptor)
        isMidLine = failure != nil && (isMidLine || written > 0)
        return failure
    }
}
