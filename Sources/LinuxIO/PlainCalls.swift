// What a worker does without io_uring: each write is a system call, and poll(2) waits for the rest.

import CLinux
import Glibc

/// What `SubmissionQueue` does without a ring. A worker's own thread alone uses it.
@usableFromInline final class PlainCalls {
    /// The descriptor at each place that `SubmissionRing.exchange` fills; -1: none.
    private var files: [Int32]
    private var polls: [pollfd] = []
    /// Of each poll, by its place in `polls`.
    private var pollTags: [UInt64] = []
    private var timer: (nanoseconds: UInt64, tag: UInt64)?
    private var completions: [(tag: UInt64, result: Int32)] = []

    init(files count: Int) { files = [Int32](repeating: -1, count: count) }

    /// - Parameter new: a descriptor per place; -1 empties the place, IORING_REGISTER_FILES_SKIP leaves it.
    func exchange(for new: [Int32]) {
        for (place, descriptor) in new.enumerated() where descriptor != Int32(IORING_REGISTER_FILES_SKIP) {
            files[place] = descriptor
        }
    }

    /// - Parameter count: of bytes, or of iovec structures where `isGathered`.
    /// - Returns: the bytes written, or -errno, as a completion of io_uring has it.
    @usableFromInline func write(
        place: Int32, _ memory: UnsafeRawPointer, _ count: UInt32, isGathered: Bool
    ) -> Int32 {
        let descriptor = files[Int(place)]
        let written =
            isGathered
            ? writev(descriptor, memory.assumingMemoryBound(to: iovec.self), Int32(count))
            : Glibc.write(descriptor, memory, Int(count))
        return written < 0 ? -errno : Int32(truncatingIfNeeded: written)
    }

    @usableFromInline func queuePoll(_ descriptor: Int32, tag: UInt64) {
        polls.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
        pollTags.append(tag)
    }

    @usableFromInline func removePoll(_ tag: UInt64) {
        guard let place = pollTags.firstIndex(of: tag) else { return }
        polls.remove(at: place)
        pollTags.remove(at: place)
    }

    @usableFromInline func queueTimer(at nanoseconds: UInt64, tag: UInt64) { timer = (nanoseconds, tag) }

    /// Looks which polls and whether the timer are due, and takes those off; each was armed for once.
    /// - Parameter sleeps: until one of them is.
    /// - Returns: how many are due; or -errno.
    @usableFromInline func look(sleeps: Bool) -> Int32 {
        var milliseconds: Int32 = sleeps ? -1 : 0
        if sleeps, let timer {
            let now = Host.monotonicNanoseconds()
            milliseconds = timer.nanoseconds > now ? Int32((timer.nanoseconds - now) / 1_000_000 + 1) : 0
        }
        let ready = poll(&polls, nfds_t(polls.count), milliseconds)
        guard ready >= 0 else { return -errno }
        for place in polls.indices.reversed() where polls[place].revents != 0 {
            let events = Int32(polls[place].revents)
            completions.append((pollTags[place], events & Int32(POLLNVAL) != 0 ? -EBADF : events))
            polls.remove(at: place)
            pollTags.remove(at: place)
        }
        if let due = timer, due.nanoseconds <= Host.monotonicNanoseconds() {
            completions.append((due.tag, -ETIME))
            timer = nil
        }
        return Int32(completions.count)
    }

    /// Calls `body` with tag and result of each poll or timer that was due.
    @usableFromInline func reap(_ body: (UInt64, Int32) -> Void) {
        let due = completions
        completions.removeAll(keepingCapacity: true)
        for one in due { body(one.tag, one.result) }
    }
}
