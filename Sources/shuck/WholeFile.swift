// A file that appears whole or not at all; `-` is standard output.

import Foundation
import LinuxIO

enum WholeFile {
    /// Writes a file that only its owner may read (mode 0600). A regular file is written beside its place
    /// and renamed; a device or a pipe is written to directly.
    /// - Parameters:
    ///   - option: names the file on the command line.
    ///   - code: exit code when it cannot be written.
    static func write(_ bytes: [UInt8], to path: String, option: String, code: Failure.Code) throws(Failure) {
        do throws(Refusal) {
            try write(bytes, path)
        } catch {
            throw Failure(code: code, message: error.message(option))
        }
    }

    private static func write(_ bytes: [UInt8], _ path: String) throws(Refusal) {
        var status = stat()
        if path == "-" { return try put(bytes, STDOUT_FILENO, "standard output") }
        if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            let number = open(path, O_WRONLY | O_CLOEXEC)
            guard number >= 0 else { throw Refusal(path: path, error: errno) }
            defer { close(number) }
            return try put(bytes, number, path)
        }
        let partial = "\(path).\(getpid()).partial"
        let number = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw Refusal(path: path, error: errno) }
        do throws(Refusal) {
            defer { close(number) }
            try put(bytes, number, path)
            // Some file systems say only now that there is no room.
            guard fchmod(number, 0o600) == 0, fsync(number) == 0 else {
                throw Refusal(path: path, error: errno)
            }
        } catch {
            unlink(partial)
            throw error
        }
        guard rename(partial, path) == 0 else {
            let failure = Refusal(path: path, error: errno)
            unlink(partial)
            throw failure
        }
    }

    private static func put(_ bytes: [UInt8], _ number: Int32, _ path: String) throws(Refusal) {
        if let error = writeWhole(bytes, to: number).failure { throw Refusal(path: path, error: error) }
    }

    private struct Refusal: Error {
        let path: String
        let error: Int32

        func message(_ option: String) -> String {
            let hint =
                switch error {
                case ENOSPC, EDQUOT: "; free space, or name another place with \(option)"
                case EPIPE: "; its reader ended before the end"
                case EACCES, EPERM, EROFS: "; name another place with \(option)"
                default: ""
                }
            return "\(path) could not be written: \(systemMessage(error))\(hint)"
        }
    }
}
