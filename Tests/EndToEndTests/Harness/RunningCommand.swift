// Runs commands: output kept in files, a time limit on each, nothing left behind.

import Foundation
import Glibc

/// What went wrong, in one sentence.
struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

struct CommandResult {
    let arguments: [String]
    /// The exit code, or 128 and the signal's number.
    let status: Int32
    let output: String
    let errors: String

    /// The output, if it went well.
    @discardableResult
    func get() throws -> String {
        if status == 0 { return output }
        throw Failure("\(arguments.joined(separator: " ")): status \(status): \(errors)\(output)")
    }
}

/// A child process. Foundation's own would hand on the blocked signals of whatever thread the
/// test runs on, and a command that cannot be interrupted is not one that can be ended.
final class RunningCommand {
    let arguments: [String]
    let processID: pid_t
    private let directory: String
    private var status: Int32?

    /// - Parameter directory: where its output is kept; must not be another command's.
    init(_ arguments: [String], directory: String, input: String = "/dev/null") throws {
        self.arguments = arguments
        self.directory = directory
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        for (number, name) in [(Int32(1), "output"), (2, "errors")] {
            let path = "\(directory)/\(name)"
            posix_spawn_file_actions_addopen(
                &actions, number, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0o600)
        }
        processID = try Self.spawn(arguments, &actions)
    }

    deinit { end() }

    private static func spawn(
        _ arguments: [String], _ actions: inout posix_spawn_file_actions_t
    ) throws -> pid_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        var variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) }
        defer { for pointer in words + variables { free(pointer) } }
        words.append(nil)
        variables.append(nil)
        var child = pid_t()
        let result = posix_spawnp(&child, arguments[0], &actions, &attributes, words, variables)
        guard result == 0 else {
            throw Failure("\(arguments[0]): \(String(cString: strerror(result)))")
        }
        return child
    }

    var output: String { text("output") }
    var errors: String { text("errors") }

    private func text(_ name: String) -> String {
        let data = FileManager.default.contents(atPath: "\(directory)/\(name)") ?? Data()
        return String(decoding: data, as: UTF8.self)
    }

    var isRunning: Bool { poll() == nil }

    /// Its status once it has ended.
    private func poll() -> Int32? {
        if let status { return status }
        var word: Int32 = 0
        guard waitpid(processID, &word, WNOHANG) == processID else { return nil }
        // WIFEXITED and WEXITSTATUS of wait(2), which are macros.
        status = word & 0x7f == 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
        return status
    }

    func signal(_ number: Int32) {
        if isRunning { kill(processID, number) }
    }

    /// Waits for its end; one that takes longer is killed, and an error.
    @discardableResult
    func wait(seconds: Double = 60) throws -> CommandResult {
        do {
            try eventually("the end of \(arguments.joined(separator: " "))", seconds) {
                !isRunning
            }
        } catch {
            end()
            throw Failure("\(error): \(errors)\(output)")
        }
        return CommandResult(
            arguments: arguments, status: status ?? -1, output: output, errors: errors)
    }

    /// Kills it, if it is still there.
    func end() {
        guard isRunning else { return }
        kill(processID, SIGKILL)
        while isRunning { usleep(1000) }
    }
}

/// Waits until something holds; that it never does is an error.
func eventually(
    _ what: String, _ seconds: Double = 30, _ holds: () throws -> Bool
) throws {
    let end = DispatchTime.now() + seconds
    var pause: UInt32 = 500
    while try !holds() {
        guard DispatchTime.now() < end else {
            throw Failure("waited \(seconds) s in vain for \(what)")
        }
        usleep(pause)
        pause = min(pause * 2, 20_000)
    }
}
