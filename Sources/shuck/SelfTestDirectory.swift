// The directory of a self-test's daemon, and what of earlier ones remained.

import Foundation
import LinuxIO

/// Is removed with the instance. It is locked meanwhile, so that others see that its owner lives.
final class SelfTestDirectory {
    let path: String
    private let lock: Descriptor
    private static let prefix = "shuck-selftest-"
    private static let parent: String = {
        let folder = NSTemporaryDirectory()
        // The path of a unix socket has at most 107 bytes.
        return folder.utf8.count < 70 ? folder : "/tmp/"
    }()

    init() throws(Failure) {
        while true {
            let path = try Self.make()
            let lock = Descriptor(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC))
            // Another self-test that begins may have taken it for a leftover before it was locked.
            guard flock(lock.number, LOCK_EX) == 0, Host.status(of: path) != nil else { continue }
            self.path = path
            self.lock = lock
            return
        }
    }

    private static func make() throws(Failure) -> String {
        // mkdtemp(3) puts letters of its own in the place of six.
        var template = Array((parent + prefix + String(repeating: "X", count: 6)).utf8CString)
        return try template.withUnsafeMutableBufferPointer { template throws(Failure) in
            guard let path = template.baseAddress, mkdtemp(path) != nil else {
                throw Failure(message: "\(parent) takes no directory: \(systemMessage())")
            }
            return String(cString: path)
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) throws(Failure) {
        let bytes = Array(text.utf8)
        guard FileManager.default.createFile(atPath: "\(path)/\(name)", contents: Data(bytes)) else {
            throw Failure(message: "\(path)/\(name) cannot be written: \(systemMessage())")
        }
    }

    func text(_ name: String) -> String {
        String(decoding: FileManager.default.contents(atPath: "\(path)/\(name)") ?? Data(), as: UTF8.self)
    }

    /// Removes what self-tests left that were killed: their directories, and processes that serve there.
    /// - Returns: the directories.
    static func removeLeftovers() -> [String] {
        Host.entries(parent).filter { $0.hasPrefix(prefix) }.map { parent + $0 }.filter { path in
            let lock = Descriptor(open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC))
            guard lock.number >= 0, lock.status?.st_uid == geteuid(),
                flock(lock.number, LOCK_EX | LOCK_NB) == 0
            else { return false }
            for process in Host.entries("/proc").compactMap({ pid_t($0) }) {
                let words = Host.read("/proc/\(process)/cmdline")?.split(separator: "\0") ?? []
                let isShuck = words.first?.split(separator: "/").last == "shuck"
                if isShuck, words.contains(where: { $0.hasPrefix(path + "/") }) { kill(process, SIGKILL) }
            }
            try? FileManager.default.removeItem(atPath: path)
            return true
        }
    }
}
