// Runs the built shuck as a user does, in a directory of its own.

import Foundation

/// What a run left behind.
struct Outcome {
    var code: Int32
    var output: String
    var error: String
    /// Standard output as bytes.
    var outputBytes: [UInt8]
}

/// A scratch directory, and shuck run in it. Gone with the instance.
final class Shell {
    let directory: URL
    private var runs = 0

    /// Where this test bundle lies, so does the executable.
    private static let executable = URL(fileURLWithPath: "/proc/self/exe")
        .resolvingSymlinksInPath().deletingLastPathComponent().appending(path: "shuck")

    init() throws {
        directory = FileManager.default.temporaryDirectory
            .appending(path: "shuck-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func path(_ name: String) -> String { directory.appending(path: name).path }

    func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }

    func write(_ name: String, _ bytes: [UInt8]) throws {
        try Data(bytes).write(to: directory.appending(path: name))
    }

    func read(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: directory.appending(path: name)))
    }

    func text(_ name: String) throws -> String { String(decoding: try read(name), as: UTF8.self) }

    func lines(_ name: String) throws -> [String] {
        try text(name).split(separator: "\n").map(String.init)
    }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path(name)) }

    func shuck(_ arguments: String...) throws -> Outcome { try run(arguments) }

    func run(_ arguments: [String]) throws -> Outcome {
        try run(Self.executable, arguments)
    }

    /// Runs lines of sh(1), in which `"$SHUCK"` is the executable.
    func script(_ text: String) throws -> Outcome {
        try run(
            URL(fileURLWithPath: "/bin/sh"),
            ["-c", "SHUCK=$0; \(text)", Self.executable.path])
    }

    /// Into files rather than pipes: nothing can fill up and wait.
    private func run(_ executable: URL, _ arguments: [String]) throws -> Outcome {
        runs += 1
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        process.currentDirectoryURL = directory
        process.standardInput = FileHandle.nullDevice
        let names = ["output-\(runs)", "error-\(runs)"]
        for name in names { try write(name, []) }
        process.standardOutput = try FileHandle(
            forWritingTo: directory.appending(path: names[0]))
        process.standardError = try FileHandle(
            forWritingTo: directory.appending(path: names[1]))
        try process.run()
        process.waitUntilExit()
        return Outcome(
            code: process.terminationStatus, output: try text(names[0]),
            error: try text(names[1]), outputBytes: try read(names[0]))
    }
}
