// The tuples that earlier probes of the same targets found answered, one name per line.

import Foundation
import LinuxIO

final class ResumeFile {
    /// What it held when it was opened.
    let names: Set<String>
    private static let bytesMax = 64 << 20
    private let path: String
    private let descriptor: Descriptor

    /// A file that is not there yet is made.
    init(_ path: String) throws(Failure) {
        let number = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard number >= 0 else { throw Failure(message: "\(path) cannot be opened: \(systemMessage())") }
        self.path = path
        descriptor = Descriptor(number)
        var status = stat()
        guard fstat(number, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw Failure(message: "\(path) is no regular file, so it is no resume file: name another one")
        }
        let (bytes, error) = readWhole(number, limit: Self.bytesMax)
        if let error { throw Failure(message: "\(path) cannot be read: \(systemMessage(error))") }
        names = try Self.names(bytes, path)
        // An editor may have left out the last newline.
        if let last = bytes.last, last != UInt8(ascii: "\n") { try write("\n") }
    }

    /// Names are printable ASCII. A line that is not belongs to a file of another kind, which must not be
    /// written to.
    private static func names(_ bytes: [UInt8], _ path: String) throws(Failure) -> Set<String> {
        var names: Set<String> = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            // An editor may have put a carriage return before each newline.
            let name = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
            guard name.allSatisfy({ (0x20...0x7e).contains($0) }) else {
                throw Failure(
                    message: """
                        \(path):\(index + 1): this is not the name of a tuple, so the file is no resume \
                        file: name another one
                        """)
            }
            if !name.isEmpty { names.insert(String(decoding: name, as: UTF8.self)) }
        }
        return names
    }

    /// Adds a name at once, so that an interrupted run has it.
    func add(_ name: String) throws(Failure) { try write(name + "\n") }

    private func write(_ text: String) throws(Failure) {
        guard let error = writeWhole(Array(text.utf8), to: descriptor.number).failure else { return }
        throw Failure(message: "\(path) cannot be written: \(systemMessage(error))")
    }
}
