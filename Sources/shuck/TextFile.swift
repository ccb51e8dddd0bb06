// Files that a verb reads whole.

import Foundation
import LinuxIO

enum TextFile {
    /// - Parameter path: a file, or a pipe such as the shell's `<(…)`.
    static func bytes(_ path: String) throws(Failure) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        let (bytes, error) = descriptor < 0 ? ([], errno) : readWhole(descriptor)
        if let error { throw Failure(message: "\(path) cannot be read: \(systemMessage(error))") }
        return bytes
    }

    static func text(_ path: String) throws(Failure) -> String {
        guard let text = String(validating: try bytes(path), as: UTF8.self) else {
            throw Failure(message: "\(path) is not UTF-8 text: save it as UTF-8 (iconv -t UTF-8)")
        }
        return text
    }
}
