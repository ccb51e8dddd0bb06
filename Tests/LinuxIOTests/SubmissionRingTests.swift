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
        _ = setNonblocking(ends[0])
        return (Descriptor(ends[0]), Descriptor(ends[1]))
    }

    private static func setNonblocking(_ descriptor: Int32) -> Int32 {
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
        #expect(queue.submit() >= 0)
        queue.reap { found.append(Completion(tag: $0, result: $1)) }
        while found.count < count {
            #expect(queue.submitAndWait() >= 0)
            queue.reap { found.append(Completion(tag: $0, result: $1)) }
        }
        return found
    }

    @Test func writesGoToTheirPlaces() throws {
        let ring = try SubmissionRing(entries: 16, files: 64)
        let queue = ring.queue
        let first = try Self.pipe()
        let second = try Self.pipe()
        var files = [Int32](repeating: -1, count: ring.filePlaces)
        func put(_ descriptor: Int32, at place: Int) throws {
            var next = [Int32](repeating: SubmissionRing.keep, count: ring.filePlaces)
            next[place] = descriptor
            try ring.exchange(files, for: next)
            files[place] = descriptor
        }
        try put(first.write.number, at: 0)
        try put(second.write.number, at: 63)
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
                try put(second.write.number, at: 0)
                try put(-1, at: 63)
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
        let ring = try SubmissionRing(entries: 128, files: 64)
        let sink = Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC))
        let keep = SubmissionRing.keep
        try ring.exchange([-1, -1, -1, -1], for: [keep, keep, keep, sink.number])
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
        let ring = try SubmissionRing(entries: 8, files: 64)
        let wakeup = try Wakeup()
        ring.queue.queuePoll(wakeup.descriptor.number, tag: 5)
        #expect(ring.queue.submit() >= 0)
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
        ring.queue.queuePoll(wakeup.descriptor.number, tag: 6)
        #expect(Self.reap(ring.queue, 1).map(\.tag) == [6])
    }

    @Test func aPollCanBeTakenBack() throws {
        let ring = try SubmissionRing(entries: 8, files: 64)
        let wakeup = try Wakeup()
        ring.queue.queuePoll(wakeup.descriptor.number, tag: 5)
        #expect(ring.queue.submit() >= 0)
        ring.queue.queuePollRemoval(of: 5, tag: 6)
        let done = Self.reap(ring.queue, 2)
        #expect(done.contains(Completion(tag: 5, result: -ECANCELED)))
        #expect(done.contains(Completion(tag: 6, result: 0)))
    }

    /// Writes a byte to each place: which of them took it.
    private static func takers(_ ring: SubmissionRing, _ count: Int) -> [Int32] {
        let byte: [UInt8] = [1]
        return byte.withUnsafeBytes { byte in
            for place in 0..<count {
                ring.queue.queueWrite(
                    place: Int32(place), byte.baseAddress!, 1, tag: UInt64(place))
            }
            return Self.reap(ring.queue, count).sorted { $0.tag < $1.tag }.map(\.result)
        }
    }

    /// No place holds another file than before, whichever of the new ones is bad.
    @Test(arguments: 0..<4)
    func aFailedExchangeChangesNothing(bad: Int) throws {
        let ring = try SubmissionRing(entries: 16, files: 5)
        let old = try (0..<3).map { _ in try Self.pipe() }
        let new = try (0..<4).map { _ in try Self.pipe() }
        let before = old.map(\.write.number) + [-1]
        try ring.exchange([-1, -1, -1, -1], for: before)
        var wrong = new.map(\.write.number)
        wrong[bad] = 9999
        let error = #expect(throws: RegisterError.self) { try ring.exchange(before, for: wrong) }
        #expect(error?.isBroken == false)
        #expect(error?.cause.errno == EBADF)
        #expect(Self.takers(ring, 4) == [1, 1, 1, -EBADF])
        #expect(old.map { Self.read($0.read) } == ["\u{1}", "\u{1}", "\u{1}"])
        #expect(new.map { Self.read($0.read) } == ["", "", "", ""])
        // What is right is taken.
        try ring.exchange(before, for: new.map(\.write.number))
        #expect(Self.takers(ring, 4) == [1, 1, 1, 1])
        #expect(new.map { Self.read($0.read) } == ["\u{1}", "\u{1}", "\u{1}", "\u{1}"])
    }

    @Test func moreFilesThanPlacesAreRefused() throws {
        let ring = try SubmissionRing(entries: 8, files: 2)
        let sink = Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC))
        let three = [sink.number, sink.number, sink.number]
        let error = #expect(throws: RegisterError.self) {
            try ring.exchange([-1, -1, -1], for: three)
        }
        #expect(error?.isBroken == false)
        #expect(error?.cause.hint?.contains("at most 2 devices") == true)
        #expect(Self.takers(ring, 2) == [-EBADF, -EBADF])
    }

    /// A thousand devices, each with a queue.
    @Test func aThousandPlacesHold() throws {
        let ring = try SubmissionRing(entries: 8, files: 1024)
        let sink = Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC))
        try ring.exchange(
            [Int32](repeating: -1, count: 1024), for: [Int32](repeating: sink.number, count: 1024))
        let byte: [UInt8] = [1]
        byte.withUnsafeBytes { byte in
            ring.queue.queueWrite(place: 1023, byte.baseAddress!, 1, tag: 7)
            #expect(Self.reap(ring.queue, 1) == [Completion(tag: 7, result: 1)])
        }
    }

    @Test func tooManyEntriesAreRefused() {
        #expect(throws: SystemError.self) { try SubmissionRing(entries: 1 << 20, files: 64) }
    }
}

extension SubmissionQueue {
    fileprivate func queueWrite(
        place: Int32, _ bytes: UnsafeRawPointer, _ count: UInt32, tag: UInt64
    ) {
        var writes = beginWrites()
        writes.add(place: place, bytes, count, isGathered: false, tag: tag)
        #expect(writes.end() == 1)
    }

    fileprivate func queueGather(
        place: Int32, _ vectors: UnsafePointer<iovec>, _ count: UInt32, tag: UInt64
    ) {
        var writes = beginWrites()
        writes.add(place: place, vectors, count, isGathered: true, tag: tag)
        #expect(writes.end() == 1)
    }
}
