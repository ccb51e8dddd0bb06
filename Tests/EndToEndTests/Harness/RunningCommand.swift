// Runs commands: output kept in files, a time limit on each, nothing left behind.

import Foundation
import Glibc
import LinuxIO

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

/// A child process with its output in files. Foundation's own would hand on the blocked signals of whatever
/// thread the test runs on.
final class RunningCommand {
    let arguments: [String]
    private let directory: String
    private let child: ChildProcess

    /// - Parameter directory: where its output is kept; must not be another command's.
    init(_ arguments: [String], directory: String, input: String = "/dev/null") throws {
        self.arguments = arguments
        self.directory = directory
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        child = try ChildProcess(
            arguments, input: input, output: ("\(directory)/output", "\(directory)/errors"))
    }

    var processID: pid_t { child.processID }
    var output: String { text("output") }
    var errors: String { text("errors") }

    private func text(_ name: String) -> String {
        let data = FileManager.default.contents(atPath: "\(directory)/\(name)") ?? Data()
        return String(decoding: data, as: UTF8.self)
    }

    var isRunning: Bool { child.isRunning }

    func signal(_ number: Int32) { child.signal(number) }

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
            arguments: arguments, status: child.status() ?? -1, output: output, errors: errors)
    }

    /// Kills it, if it is still there.
    func end() { child.end() }
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
