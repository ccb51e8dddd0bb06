// shuck status: the running daemon's facts, once or every second.

import ArgumentParser
import Daemon
import Foundation
import IP
import Routing
import Settings

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "One screen: what is active beside what was asked for, rates, drops, workers.",
        discussion: """
            The first line says whether it forwards as asked, and if not why. Exit code 1 when it \
            does not; with --why when the source is refused on an interface that was asked for.
            """)

    @OptionGroup var socket: SocketOption

    @Flag(help: "Show it anew each second, until interrupted.")
    var watch = false

    @Option(
        help: ArgumentHelp(
            "Say by which rule, table and route an inner source is accepted or refused.",
            valueName: "address"))
    var why: String?

    @Option(
        help: ArgumentHelp(
            "With --why: where it comes in (default: every configured interface).",
            valueName: "name"))
    var interface: String?

    @Option(
        help: ArgumentHelp(
            "With --why: the inner destination, which rules with `from` meet.",
            valueName: "address"))
    var destination: String?

    @OptionGroup var format: JSONOption

    func validate() throws {
        if why == nil && (interface != nil || destination != nil) {
            throw ValidationError("--interface and --destination go with --why")
        }
        if why != nil && watch { throw ValidationError("--why is answered once: without --watch") }
        let addresses = [("--why", why), ("--destination", destination)]
        for (option, text) in addresses where text.map({ Address($0) == nil }) ?? false {
            throw ValidationError("\(option) takes an IPv4 or IPv6 address")
        }
        if let why, let destination, Address(why)?.isIPv4 != Address(destination)?.isIPv4 {
            throw ValidationError("--destination is an address of the source's family")
        }
    }

    /// What `/status` answered: the text, and what this version reads out of it.
    private struct Fetched {
        var text: String
        var report: StatusReport
    }

    func run() throws {
        if let why { return try explain(why) }
        var last = try fetch()
        if !format.json {
            // Rates need two looks; half a second is long enough to be counted in.
            usleep(500_000)
        } else if !watch {
            try Output.print(last.text, terminator: "")
            return try judge(last.report)
        }
        while true {
            let next = try fetch()
            try show(next, after: last.report)
            guard watch else { return try judge(next.report) }
            last = next
            sleep(1)
        }
    }

    private func explain(_ source: String) throws {
        var query = URLComponents()
        query.path = "/why"
        query.queryItems = [("source", source), ("interface", interface), ("destination", destination)]
            .compactMap { name, value in value.map { URLQueryItem(name: name, value: $0) } }
        let answer = try AdminClient(socketPath: socket.socket).request("GET", query.string ?? "/why")
        guard answer.status == 200,
            let found = try? JSONDecoder().decode(RouteAnswer.self, from: Data(answer.body.utf8))
        else {
            if answer.status == 404, let interface {
                throw ValidationError("--interface \(interface) is not configured")
            }
            throw Failure(
                message: "the shuck at \(socket.socket) has no /why: it is another version")
        }
        try Output.print(format.json ? answer.body : WhyScreen(found).text, terminator: "")
        if !found.verdicts.allSatisfy(\.isAccepted) { throw ExitCode(1) }
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

    private func show(_ next: Fetched, after last: StatusReport) throws {
        if format.json { return try Output.print(next.text, terminator: "") }
        let painter = Painter.standardOutput
        let screen = StatusScreen(now: next.report, before: last, painter: painter).text
        // Home, then clear to the end: written at once, so that nothing flickers.
        let clear = watch && isatty(STDOUT_FILENO) == 1 ? "\u{1b}[H\u{1b}[J" : ""
        try Output.print(clear + screen, terminator: "")
    }

    private func judge(_ report: StatusReport) throws {
        if !report.ready { throw ExitCode(1) }
    }
}
