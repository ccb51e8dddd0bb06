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
        let (bytes, error) = readWhole(number, limit: Self.bytesMax)
        if let error { throw Failure(message: "\(path) cannot be read: \(systemMessage(error))") }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Failure(message: "\(path) is not UTF-8 text, so it is no resume file: name another one")
        }
        // An editor may have left out the last newline, or have put a carriage return before each.
        names = Set(text.split(whereSeparator: \.isNewline).map(String.init))
        if let last = bytes.last, last != UInt8(ascii: "\n") { try write("\n") }
    }

    /// Adds a name at once, so that an interrupted run has it.
    func add(_ name: String) throws(Failure) { try write(name + "\n") }

    private func write(_ text: String) throws(Failure) {
        guard let error = writeWhole(Array(text.utf8), to: descriptor.number).failure else { return }
        throw Failure(message: "\(path) cannot be written: \(systemMessage(error))")
    }
}
