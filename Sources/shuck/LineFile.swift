// A text file that is written line by line; `-` is standard output.

import Foundation

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

    /// Throws if a write failed: a full disk, a closed pipe.
    func close() throws(Failure) {
        if fclose(file) != 0, failure == nil { failure = errno }
        guard let failure else { return }
        if failure == EPIPE && path == "-" { Output.endForClosedPipe() }
        throw Failure(message: "\(path) could not be written to its end: \(systemMessage(failure))")
    }
}
