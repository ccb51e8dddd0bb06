// The tuples that earlier probes of the same targets found answered, one name per line.

import Foundation
import LinuxIO

final class ResumeFile {
    /// What it held when it was opened.
    let names: Set<String>
    private let path: String
    private let descriptor: Descriptor

    /// A file that is not there yet is made.
    init(_ path: String) throws(Failure) {
        let number = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard number >= 0 else { throw Failure(message: "\(path) cannot be opened: \(systemMessage())") }
        self.path = path
        descriptor = Descriptor(number)
        let (bytes, error) = readWhole(number)
        if let error { throw Failure(message: "\(path) cannot be read: \(systemMessage(error))") }
        names = Set(String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init))
    }

    /// Adds a name at once, so that an interrupted run has it.
    func add(_ name: String) throws(Failure) {
        guard let error = writeWhole(Array((name + "\n").utf8), to: descriptor.number).failure else { return }
        throw Failure(message: "\(path) cannot be written: \(systemMessage(error))")
    }
}
