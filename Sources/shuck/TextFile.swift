// Files that a verb reads whole.

import Foundation
import LinuxIO

enum TextFile {
    /// A list of a million routes has about 150 MiB.
    private static let bytesMax = 512 << 20

    /// - Parameter path: a file, or a pipe such as the shell's `<(…)`.
    static func bytes(_ path: String) throws(Failure) -> [UInt8] {
        let (bytes, error) = readFile(path, limit: bytesMax)
        switch error {
        case nil: return bytes
        case EFBIG:
            throw Failure(message: "\(path) has more than \(bytesMax >> 20) MiB: name a smaller file")
        case ETIMEDOUT: throw Failure(message: "nothing writes to the pipe \(path): name a file")
        case let error?: throw Failure(message: "\(path) cannot be read: \(systemMessage(error))")
        }
    }

    static func text(_ path: String) throws(Failure) -> String {
        guard let text = String(validating: try bytes(path), as: UTF8.self) else {
            throw Failure(message: "\(path) is not UTF-8 text: save it as UTF-8 (iconv -t UTF-8)")
        }
        return text
    }
}
