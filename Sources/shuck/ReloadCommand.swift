// shuck reload: what SIGHUP does, but waiting for the outcome.

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
        /// What is still to come of one that was applied; absent when nothing is.
        var pending: [String]?
    }

    func run() throws {
        // A daemon waits 1 s for its workers, and opens what is new before.
        let answer = try AdminClient(socketPath: socket.socket)
            .request("POST", "/reload", seconds: 60)
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
