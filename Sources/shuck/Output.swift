// Where words go: standard error, JSON for scripts, and files that are written line by line.

import Foundation

enum Output {
    /// One line on standard error.
    static func error(_ line: String) {
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }

    /// A document for scripts on standard output: the same bytes for the same facts.
    static func json(_ document: some Encodable) throws {
        print(try jsonText(document, [.prettyPrinted]))
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

    init(path: String) throws(Failure) {
        self.path = path
        let opened = path == "-" ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "we")
        guard let opened else {
            throw Failure(message: "\(path) cannot be written: \(systemMessage())")
        }
        file = opened
    }

    func write(_ line: String) { fputs(line, file) }

    /// Says what a full disk or a closed pipe kept from being written.
    func close() throws(Failure) {
        let failed = ferror(file) != 0
        guard fclose(file) == 0, !failed else {
            throw Failure(message: "\(path) could not be written to its end: \(systemMessage())")
        }
    }
}

/// What `errno` says.
func systemMessage() -> String { String(cString: strerror(errno)) }
