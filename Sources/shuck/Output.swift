// Where words go: standard output and error, JSON for scripts, and files that are written line by line.

import Foundation
import LinuxIO

enum Output {
    /// Text on standard output, all of it, or a failure that says why not.
    static func print(_ text: String, terminator: String = "\n") throws(Failure) {
        guard let number = write(text + terminator, to: STDOUT_FILENO) else { return }
        if number == EPIPE { endForClosedPipe() }
        throw Failure(
            message: "standard output could not be written: \(String(cString: strerror(number)))")
    }

    /// One line on standard error. That it cannot be written changes no outcome.
    static func error(_ line: String) { _ = write(line + "\n", to: STDERR_FILENO) }

    /// A document for scripts on standard output: the same bytes for the same facts.
    static func json(_ document: some Encodable) throws {
        try print(try jsonText(document, [.prettyPrinted]))
    }

    /// Ends as tools do whose reader has gone, `head` for one: silently, by SIGPIPE.
    static func endForClosedPipe() -> Never {
        signal(SIGPIPE, SIG_DFL)
        var pipe = sigset_t()
        sigemptyset(&pipe)
        sigaddset(&pipe, SIGPIPE)
        sigprocmask(SIG_UNBLOCK, &pipe, nil)
        raise(SIGPIPE)
        exit(128 + SIGPIPE)
    }

    /// Lets a write to a reader that is gone fail rather than end the process, and makes sure that
    /// no file that is opened later becomes standard output or error. Call it first.
    static func prepare() {
        signal(SIGPIPE, SIG_IGN)
        for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
            // The wrong way round, so that using it is an error: it was closed.
            _ = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
        }
    }

    /// Writes all of a text.
    /// - Returns: errno when that fails.
    private static func write(_ text: String, to descriptor: Int32) -> Int32? {
        writeWhole(Array(text.utf8), to: descriptor).failure
    }

    static func jsonText(
        _ document: some Encodable, _ formatting: JSONEncoder.OutputFormatting = []
    ) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting.union([.sortedKeys, .withoutEscapingSlashes])
        return String(decoding: try encoder.encode(document), as: UTF8.self)
    }
}

/// A text file that grows line by line; `-` is standard output.
final class LineFile {
    private let path: String
    private let file: UnsafeMutablePointer<FILE>
    /// errno of the first write that failed.
    private var failure: Int32?

    init(path: String) throws(Failure) {
        self.path = path
        let opened = path == "-" ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "we")
        guard let opened else {
            throw Failure(message: "\(path) cannot be written: \(systemMessage())")
        }
        file = opened
    }

    func write(_ line: String) {
        if fputs(line, file) < 0, failure == nil { failure = errno }
    }

    /// Says what a full disk or a closed pipe kept from being written.
    func close() throws(Failure) {
        if fclose(file) != 0, failure == nil { failure = errno }
        guard let failure else { return }
        if failure == EPIPE && path == "-" { Output.endForClosedPipe() }
        throw Failure(
            message: """
                \(path) could not be written to its end: \(String(cString: strerror(failure)))
                """)
    }
}

/// What `errno` says.
func systemMessage() -> String { String(cString: strerror(errno)) }
