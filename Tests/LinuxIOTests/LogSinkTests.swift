// Lines of the log: in order where they can be written, counted where they cannot, and never waited for.

import Glibc
import Testing

@testable import Daemon
@testable import LinuxIO

@Suite("Log lines")
struct LogSinkTests {
    private func pipe() throws -> (read: Descriptor, write: Descriptor) {
        var ends: [Int32] = [0, 0]
        try #require(Glibc.pipe(&ends) == 0)
        return (Descriptor(ends[0]), Descriptor(ends[1]))
    }

    /// Reads until a line with this text has come: all lines.
    private func lines(_ descriptor: Descriptor, until last: String) throws -> [String] {
        try lines(descriptor) { $0.last?.contains(last) ?? false }
    }

    /// Reads until the lines are what was waited for: all of them.
    private func lines(
        _ descriptor: Descriptor, until isEnough: ([String]) -> Bool
    ) throws -> [String] {
        var text = ""
        var chunk = [UInt8](repeating: 0, count: 65536)
        while !text.hasSuffix("\n") || !isEnough(text.split(separator: "\n").map(String.init)) {
            var polled = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
            try #require(poll(&polled, 1, 30_000) == 1, "in vain behind \(text.suffix(200))")
            let count = read(descriptor.number, &chunk, chunk.count)
            try #require(count > 0)
            text += String(decoding: chunk[..<count], as: UTF8.self)
        }
        return text.split(separator: "\n").map(String.init)
    }

    @Test("lines come whole and in order")
    func inOrder() throws {
        let (reader, writer) = try pipe()
        let sink = LogSink(descriptor: writer.number)
        for number in 0..<100 { sink.write("line \(number)") }
        #expect(try lines(reader, until: "line 99") == (0..<100).map { "line \($0)" })
        #expect(sink.droppedLines == 0 && sink.failure == nil)
    }

    @Test("a pipe that nobody reads costs lines and no time; a reader learns how many")
    func aFullPipe() throws {
        let (reader, writer) = try pipe()
        let sink = LogSink(descriptor: writer.number)
        sink.setNotice { "notice: \($0)" }
        let line = String(repeating: "x", count: 1000)
        let before = Host.monotonicNanoseconds()
        for number in 0..<1000 { sink.write("\(number) \(line)") }
        // Blocked for ever it would be; a busy host may take its time.
        #expect(Host.monotonicNanoseconds() - before < 20_000_000_000)
        let dropped = sink.droppedLines
        #expect(dropped > 500 && dropped < 1000)
        #expect(sink.failure == "nobody reads it")
        // And the end of the process waits no longer than it is told to.
        sink.finish(seconds: 0.05)
        // While the pipe still had room some lines came through behind others that did not.
        func lost(_ lines: [String]) -> [UInt64] {
            lines.filter { $0.hasPrefix("notice: ") }.compactMap { UInt64($0.split(separator: " ")[1]) }
        }
        let told = try lines(reader) { lost($0).reduce(0, +) == dropped }
        #expect(told.count == 1000 - Int(dropped) + lost(told).count)
        #expect(
            told.last?.hasSuffix(
                " log lines were lost, standard error could not be written: nobody read it") == true)
        sink.write("again")
        #expect(try lines(reader, until: "again") == ["again"])
        #expect(sink.failure == nil && sink.droppedLines == dropped)
    }

    @Test("a full disk costs lines; once it has room, the number of them is written")
    func aFullDisk() throws {
        // /dev/full by another name: dup2 makes the same descriptor a pipe later.
        let full = Descriptor(open("/dev/full", O_WRONLY | O_CLOEXEC))
        try #require(full.number >= 0)
        let sink = LogSink(descriptor: full.number)
        for number in 0..<3 { sink.write("line \(number)") }
        sink.finish(seconds: 30)
        #expect(sink.droppedLines == 3)
        #expect(sink.failure == "No space left on device")
        let (reader, writer) = try pipe()
        try #require(dup2(writer.number, full.number) >= 0)
        // Of itself, with no further line.
        let told = try lines(reader, until: "lost")
        #expect(
            told == ["3 log lines were lost, standard error could not be written: No space left on device"],
            "\(told)")
        sink.write("again")
        #expect(try lines(reader, until: "again") == ["again"])
        #expect(sink.failure == nil)
    }

    @Test("a reader that is gone costs lines, and not the process")
    func aReaderThatIsGone() throws {
        signal(SIGPIPE, SIG_IGN)
        let writer = try pipe().write
        let sink = LogSink(descriptor: writer.number)
        sink.write("line")
        sink.finish(seconds: 30)
        #expect(sink.droppedLines == 1)
        #expect(sink.failure == "Broken pipe")
        // It tries again each second, also once the number is another test's pipe: it must have told.
        let null = Descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC))
        try #require(dup2(null.number, writer.number) >= 0)
        for _ in 0..<3000 where sink.failure != nil { usleep(10_000) }
        #expect(sink.failure == nil)
    }

    @Test("times are RFC 3339 with the offset from UTC")
    func timestamps() throws {
        var parts = tm()
        (parts.tm_year, parts.tm_mon, parts.tm_mday) = (126, 0, 9)
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (4, 5, 6)
        for (offset, text) in [(0, "+00:00"), (20_700, "+05:45"), (-12_600, "-03:30")] {
            parts.tm_gmtoff = offset
            #expect(Host.timestamp(parts, milliseconds: 7) == "2026-01-09T04:05:06.007" + text)
        }
    }
}
