// Writes and polls through an io_uring: tags, results, and what cannot be done.

import CLinux
import Glibc
import Testing

@testable import LinuxIO

@Suite struct SubmissionRingTests {
    private struct Completion: Equatable {
        let tag: UInt64
        let result: Int32
    }

    /// Both ends of a pipe; reading never waits.
    private static func pipe() throws -> (read: Descriptor, write: Descriptor) {
        var ends: [Int32] = [0, 0]
        try check("pipe", "pipe") { Glibc.pipe(&ends) }
        _ = clinux_nonblocking(ends[0])
        return (Descriptor(ends[0]), Descriptor(ends[1]))
    }

    private static func clinux_nonblocking(_ descriptor: Int32) -> Int32 {
        fcntl(descriptor, F_SETFL, O_NONBLOCK)
    }

    private static func read(_ descriptor: Descriptor) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(descriptor.number, &buffer, buffer.count)
        return String(decoding: buffer[..<max(count, 0)], as: UTF8.self)
    }

    /// Waits for so many completions.
    private static func reap(_ queue: SubmissionQueue, _ count: Int) -> [Completion] {
        var found: [Completion] = []
        queue.submit()
        queue.reap { found.append(Completion(tag: $0, result: $1)) }
        while found.count < count {
            queue.submitAndWait()
            queue.reap { found.append(Completion(tag: $0, result: $1)) }
        }
        return found
    }

    @Test func writesGoToTheirPlaces() throws {
        let ring = try SubmissionRing(entries: 16)
        let queue = ring.queue
        let first = try Self.pipe()
        let second = try Self.pipe()
        try ring.register(first.write.number, at: 0)
        try ring.register(second.write.number, at: SubmissionRing.filePlaces - 1)
        var one = Array("one".utf8)
        var two = Array("and two".utf8)
        try one.withUnsafeMutableBytes { one in
            try two.withUnsafeMutableBytes { two in
                let parts = [
                    iovec(iov_base: two.baseAddress, iov_len: 4),
                    iovec(iov_base: two.baseAddress! + 4, iov_len: 3),
                ]
                parts.withUnsafeBufferPointer { parts in
                    queue.queueWrite(place: 0, one.baseAddress!, 3, tag: 11)
                    queue.queueGather(place: 63, parts.baseAddress!, 2, tag: 1 << 63)
                    let done = Self.reap(queue, 2)
                    #expect(done.contains(Completion(tag: 11, result: 3)))
                    #expect(done.contains(Completion(tag: 1 << 63, result: 7)))
                }
                #expect(Self.read(first.read) == "one")
                #expect(Self.read(second.read) == "and two")
                // Another file at a place, and none.
                try ring.register(second.write.number, at: 0)
                try ring.register(-1, at: 63)
                queue.queueWrite(place: 0, one.baseAddress!, 3, tag: 1)
                queue.queueWrite(place: 63, one.baseAddress!, 3, tag: 2)
                let done = Self.reap(queue, 2)
                #expect(done.contains(Completion(tag: 1, result: 3)))
                #expect(done.contains(Completion(tag: 2, result: -EBADF)))
                #expect(Self.read(second.read) == "one")
            }
        }
    }

    @Test func aFullBatchCompletes() throws {
        let ring = try SubmissionRing(entries: 128)
        let sink = Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC))
        try ring.register(sink.number, at: 3)
        let bytes = [UInt8](repeating: 1, count: 64)
        bytes.withUnsafeBytes { bytes in
            for _ in 0..<50 {
                for tag in 0..<128 {
                    ring.queue.queueWrite(
                        place: 3, bytes.baseAddress!, UInt32(tag % 64), tag: UInt64(tag))
                }
                let done = Self.reap(ring.queue, 128)
                #expect(Set(done.map(\.tag)) == Set(0..<128))
                #expect(done.allSatisfy { $0.result == Int32($0.tag % 64) })
            }
        }
    }

    @Test func aPollWakes() throws {
        let ring = try SubmissionRing(entries: 8)
        let wakeup = try Wakeup()
        ring.queue.queuePoll(wakeup.descriptor.number, tag: 5)
        ring.queue.submit()
        var early = 0
        ring.queue.reap { _, _ in early += 1 }
        #expect(early == 0)
        let thread = try WorkerThread(name: "waker") {
            usleep(5_000)
            wakeup.signal()
        }
        let done = Self.reap(ring.queue, 1)
        thread.join()
        #expect(done.map(\.tag) == [5])
        #expect(done[0].result & POLLIN != 0)
        // Once: it is not armed again by itself.
        wakeup.clear()
        wakeup.signal()
        ring.queue.submit()
        ring.queue.reap { _, _ in early += 1 }
        #expect(early == 0)
    }

    @Test func aPollCanBeTakenBack() throws {
        let ring = try SubmissionRing(entries: 8)
        let wakeup = try Wakeup()
        ring.queue.queuePoll(wakeup.descriptor.number, tag: 5)
        ring.queue.submit()
        ring.queue.queuePollRemoval(of: 5, tag: 6)
        let done = Self.reap(ring.queue, 2)
        #expect(done.contains(Completion(tag: 5, result: -ECANCELED)))
        #expect(done.contains(Completion(tag: 6, result: 0)))
    }

    @Test func aPlaceBeyondTheLastIsRefused() throws {
        let ring = try SubmissionRing(entries: 8)
        #expect(throws: SystemError.self) {
            try ring.register(1, at: SubmissionRing.filePlaces)
        }
        #expect(throws: SystemError.self) { try ring.register(9999, at: 0) }
    }

    @Test func tooManyEntriesAreRefused() {
        #expect(throws: SystemError.self) { try SubmissionRing(entries: 1 << 20) }
    }
}
