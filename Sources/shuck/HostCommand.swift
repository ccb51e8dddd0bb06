// A program of the host, run for what it prints.

import Foundation

enum HostCommand {
    /// Runs a program found in PATH or in the system's own directories.
    /// - Returns: what it printed, or one sentence that says why there is nothing.
    static func output(_ words: [String]) -> Result<[UInt8], Failure> {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        var environment = ProcessInfo.processInfo.environment
        // A user without privileges may have no sbin there.
        environment["PATH"] = (environment["PATH"] ?? "/usr/bin:/bin") + ":/usr/sbin:/sbin"
        process.environment = environment
        let (output, errors) = (Pipe(), Pipe())
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = errors
        let command = words.joined(separator: " ")
        do {
            try process.run()
        } catch {
            return .failure(Failure(code: .notHere, message: "\(command) cannot be run: \(error)"))
        }
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        // env(1) answers 127 for a program that it does not find.
        if process.terminationStatus == 127 {
            return .failure(Failure(code: .notHere, message: "\(words[0]) is not installed (\(command))"))
        }
        guard process.terminationStatus == 0 else {
            let cause = text.split(separator: "\n").first.map { ": \($0)" } ?? ""
            return .failure(Failure(message: "\(command) failed\(cause)"))
        }
        return .success([UInt8](bytes))
    }
}
