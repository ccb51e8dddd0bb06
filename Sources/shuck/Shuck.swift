// The command line: one file a verb, and in one place how an error becomes an exit code.

import ArgumentParser
import Captures
import Daemon
import Foundation

@main
struct Shuck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shuck",
        abstract: "Strips the outer IP header in user space and injects the inner packet.",
        discussion: """
            Exit codes: 0 fine, 1 the answer is bad, 2 wrong usage, 3 not permitted or not \
            supported here.
            """,
        version: Build.version,
        subcommands: [
            RunCommand.self, CheckCommand.self, ReloadCommand.self, StatusCommand.self,
            ReplayCommand.self,
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Output.error("shuck: \(failure.message)")
            exit(withError: failure.code.exitCode)
        } catch let failure as CaptureError {
            Output.error("shuck: \(failure.message)")
            exit(withError: ExitCode(1))
        } catch where exitCode(for: error) == .validationFailure {
            // ArgumentParser would leave with 64, sysexits.h EX_USAGE.
            Output.error(fullMessage(for: error))
            exit(withError: ExitCode(2))
        } catch {
            exit(withError: error)
        }
    }
}

/// Why a verb could not give what it was asked for, in one sentence.
struct Failure: Error {
    enum Code: Int32 {
        case badAnswer = 1
        /// Not permitted or not supported here.
        case notHere = 3

        var exitCode: ExitCode { ExitCode(rawValue) }
    }

    var code = Code.badAnswer
    var message: String
}

struct ConfigurationOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Configuration file; *.yaml of its .d directory are merged over it.",
            valueName: "file"))
    var config = ConfigurationFiles.defaultPath
}

struct SocketOption: ParsableArguments {
    @Option(help: ArgumentHelp("The daemon's unix socket.", valueName: "path"))
    var socket = AdminClient.defaultPath
}

struct JSONOption: ParsableArguments {
    @Flag(help: "Print JSON, for scripts.")
    var json = false
}
