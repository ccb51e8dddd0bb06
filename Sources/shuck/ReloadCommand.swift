// shuck reload: what SIGHUP does, and waits for the outcome.

import ArgumentParser

struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Apply the changed configuration and wait: 0 applied, 1 refused.")

    @OptionGroup var socket: SocketOption
    @OptionGroup var format: JSONOption

    private struct Outcome: Encodable {
        var applied: Bool
        /// Why it was refused.
        var problems: [String]
        /// What of an applied configuration is still to come; absent when nothing is.
        var pending: [String]?
    }

    func run() throws {
        // The daemon opens new resources first, then waits 1 s for its workers.
        let answer = try socket.client.request("POST", "/reload", seconds: 60)
        guard answer.status == 200 || answer.status == 409 else {
            throw Failure(
                message: "the shuck at \(socket.socket) answers \(answer.status) to a reload")
        }
        let applied = answer.status == 200
        let lines = answer.body.split(separator: "\n").map(String.init)
        if format.json {
            try Output.json(
                Outcome(
                    applied: applied, problems: applied ? [] : lines,
                    pending: applied && !lines.isEmpty ? lines : nil))
        } else if applied {
            try Output.print((["applied"] + lines).joined(separator: "; "))
        } else {
            for problem in lines { try Output.print(problem) }
            Output.error("shuck: refused; the old configuration goes on")
        }
        if !applied { throw ExitCode(1) }
    }
}
