// Standard output and standard error: text for people, JSON for scripts.

import Foundation
import LinuxIO

enum Output {
    /// Writes all of a text to standard output, or says why not.
    static func print(_ text: String, terminator: String = "\n") throws(Failure) {
        do throws(Unwritten) {
            try write(text, terminator: terminator)
        } catch {
            throw failure(error)
        }
    }

    /// Standard output takes no more.
    struct Unwritten: Error { let errno: Int32 }

    /// Writes all of a text to standard output. Ends no process: for those that have something to remove.
    static func write(_ text: String, terminator: String = "\n") throws(Unwritten) {
        if let error = writeWhole(Array((text + terminator).utf8), to: STDOUT_FILENO).failure {
            throw Unwritten(errno: error)
        }
    }

    /// What a verb throws then. Ends the process silently if the reader has gone.
    static func failure(_ error: Unwritten) -> Failure {
        if error.errno == EPIPE { endForClosedPipe() }
        return Failure(message: "standard output could not be written: \(systemMessage(error.errno))")
    }

    /// Writes a line to standard error. A failure changes no outcome, so it is ignored.
    static func error(_ line: String) {
        _ = writeWhole(Array((visible(line, keepsNewlines: true) + "\n").utf8), to: STDERR_FILENO)
    }

    /// Writes control characters as `\u{1b}`. A message quotes arguments and files, and a terminal would obey
    /// what they hold.
    static func visible(_ text: String, keepsNewlines: Bool = false) -> String {
        var visible = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if scalar.properties.generalCategory == .control, !(keepsNewlines && scalar == "\n") {
                visible += "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars
            } else {
                visible.append(scalar)
            }
        }
        return String(visible)
    }

    /// Prints a document for scripts: the same bytes for the same facts.
    static func json(_ document: some Encodable) throws {
        try print(try jsonText(document, [.prettyPrinted]))
    }

    static func jsonText(
        _ document: some Encodable, _ formatting: JSONEncoder.OutputFormatting = []
    ) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting.union([.sortedKeys, .withoutEscapingSlashes])
        return String(decoding: try encoder.encode(document), as: UTF8.self)
    }

    /// Ends the process silently, by SIGPIPE: what tools do when their reader (`head`) has gone.
    static func endForClosedPipe() -> Never {
        signal(SIGPIPE, SIG_DFL)
        var pipe = sigset_t()
        sigemptyset(&pipe)
        sigaddset(&pipe, SIGPIPE)
        sigprocmask(SIG_UNBLOCK, &pipe, nil)
        raise(SIGPIPE)
        exit(128 + SIGPIPE)
    }

    /// Prepares the standard descriptors; call it first. A write to a closed pipe fails instead of ending
    /// the process, and no file that is opened later becomes standard output or standard error.
    static func prepare() {
        signal(SIGPIPE, SIG_IGN)
        for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
            // In the wrong direction, so that using it is still an error.
            _ = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
        }
    }
}
