// The command line: its verbs, and how an error becomes an exit code.

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
            DoctorCommand.self, ExplainCommand.self, CaptureCommand.self, ProbeCommand.self,
            ReplayCommand.self,
            UpgradeCommand.self, BugReportCommand.self, SelfTestCommand.self, SelfTestChild.self,
            EngineCommand.self,
        ])

    static func main() {
        Output.prepare()
        do {
            try lead()
        } catch {
            // Help and the version end up here, too: their text could not be written.
            Output.error("shuck: \(error.message)")
            Foundation.exit(error.code.rawValue)
        }
    }

    /// Runs a verb, and ends with the exit code of what it throws.
    private static func lead() throws(Failure) {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            throw failure
        } catch let failure as CaptureError {
            if failure.errno == EPIPE { Output.endForClosedPipe() }
            throw Failure(message: failure.message)
        } catch {
            // Not ArgumentParser's `exit(withError:)`: it loses what it cannot write.
            let (code, text) = (exitCode(for: error), fullMessage(for: error))
            // Without a text for a verb that ends with a code of its own.
            if code == .success && !text.isEmpty {
                try Output.print(text)
            } else if !text.isEmpty {
                Output.error(text)
            }
            // ArgumentParser would leave with 64, sysexits.h EX_USAGE.
            Foundation.exit(code == .validationFailure ? 2 : code.rawValue)
        }
    }
}
