// A file that appears whole or not at all; `-` is standard output.

import Foundation
import LinuxIO

enum WholeFile {
    /// Writes a file that only its owner may read (mode 0600). A regular file is written beside its place
    /// and renamed; a device or a pipe is written to directly.
    static func write(_ bytes: [UInt8], to path: String) throws(Failure) {
        var status = stat()
        if path == "-" { return try put(bytes, STDOUT_FILENO, "standard output") }
        if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            let number = open(path, O_WRONLY | O_CLOEXEC)
            guard number >= 0 else { throw refused(path, errno) }
            defer { close(number) }
            return try put(bytes, number, path)
        }
        let partial = "\(path).\(getpid()).partial"
        let number = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw refused(path, errno) }
        do throws(Failure) {
            defer { close(number) }
            try put(bytes, number, path)
            // Some file systems say only now that there is no room.
            guard fchmod(number, 0o600) == 0, fsync(number) == 0 else { throw refused(path, errno) }
        } catch {
            unlink(partial)
            throw error
        }
        guard rename(partial, path) == 0 else {
            let failure = refused(path, errno)
            unlink(partial)
            throw failure
        }
    }

    private static func put(_ bytes: [UInt8], _ number: Int32, _ path: String) throws(Failure) {
        if let error = writeWhole(bytes, to: number).failure { throw refused(path, error) }
    }

    private static func refused(_ path: String, _ error: Int32) -> Failure {
        let hint =
            switch error {
            case ENOSPC, EDQUOT: "; free space, or name another place with -o"
            case EPIPE: "; its reader ended before the end of the report"
            case EACCES, EPERM, EROFS: "; name another place with -o"
            default: ""
            }
        return Failure(
            code: .notHere, message: "\(path) could not be written: \(systemMessage(error))\(hint)")
    }
}
