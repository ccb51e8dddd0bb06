// shuck status: the running daemon's facts, once or every second.

import ArgumentParser
import Daemon
import Foundation

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "One screen: what is active beside what was asked for, rates, drops, workers.",
        discussion: "Exit code 1 when a worker has ended.")

    @OptionGroup var socket: SocketOption

    @Flag(help: "Show it anew each second, until interrupted.")
    var watch = false

    @OptionGroup var format: JSONOption

    /// What `/status` answered: the text, and what this version reads out of it.
    private struct Fetched {
        var text: String
        var report: StatusReport
    }

    func run() throws {
        var last = try fetch()
        if !format.json {
            // Rates need two looks; half a second is long enough to be counted in.
            usleep(500_000)
        } else if !watch {
            print(last.text, terminator: "")
            return try judge(last.report)
        }
        while true {
            let next = try fetch()
            show(next, after: last.report)
            guard watch else { return try judge(next.report) }
            last = next
            sleep(1)
        }
    }

    private func fetch() throws -> Fetched {
        let text = try AdminClient(socketPath: socket.socket).get("/status")
        do {
            let report = try JSONDecoder().decode(StatusReport.self, from: Data(text.utf8))
            return Fetched(text: text, report: report)
        } catch {
            throw Failure(
                message: """
                    the shuck at \(socket.socket) is another version than this one \
                    (\(Build.version)): its status cannot be read
                    """)
        }
    }

    private func show(_ next: Fetched, after last: StatusReport) {
        if format.json { return print(next.text, terminator: "") }
        let painter = Painter.standardOutput
        let screen = StatusScreen(now: next.report, before: last, painter: painter).text
        // Home, then clear to the end: written at once, so that nothing flickers.
        let clear = watch && isatty(STDOUT_FILENO) == 1 ? "\u{1b}[H\u{1b}[J" : ""
        FileHandle.standardOutput.write(Data((clear + screen).utf8))
    }

    private func judge(_ report: StatusReport) throws {
        if report.workers.contains(where: { $0.state != "running" }) { throw ExitCode(1) }
    }
}
