// shuck status: a screen of the running daemon's facts, once or every second.

import ArgumentParser
import Daemon
import Foundation
import IP
import Settings

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "One screen: what is active beside what was asked for, rates, drops, workers.",
        discussion: """
            The first line says whether the daemon forwards as asked, and if not, why. Exit code 1 \
            when it does not; with --why, when the source is refused on one of the interfaces.
            """)

    @OptionGroup var socket: SocketOption

    @Flag(help: "Show it again each second, until interrupted.")
    var watch = false

    @Option(
        help: ArgumentHelp(
            "Say which rule, table and route accept or refuse an inner source.",
            valueName: "address"))
    var why: String?

    @Option(
        help: ArgumentHelp(
            "With --why: where it comes in (default: every configured interface).",
            valueName: "name"))
    var interface: String?

    @Option(
        help: ArgumentHelp(
            "With --why: the inner destination; `ip rule from` matches it, since the reverse-path "
                + "lookup swaps the roles.",
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

    func run() throws {
        if let why { return try explain(why) }
        // Rates need two reports; half a second apart is enough.
        var last = format.json ? nil : try fetch().report
        if !format.json { usleep(500_000) }
        repeat {
            let (text, report) = try fetch()
            try Output.print(format.json ? text : screen(report, after: last ?? report), terminator: "")
            last = report
            if watch { sleep(1) }
        } while watch
        if last?.ready != true { throw ExitCode(1) }
    }

    private func explain(_ source: String) throws {
        var query = URLComponents()
        query.path = "/why"
        query.queryItems = [("source", source), ("interface", interface), ("destination", destination)]
            .compactMap { name, value in value.map { URLQueryItem(name: name, value: $0) } }
        let answer = try socket.client.request("GET", query.string ?? "/why")
        if answer.status == 404, let interface {
            throw ValidationError("--interface \(interface) is not configured")
        }
        guard answer.status == 200,
            let found = try? JSONDecoder().decode(RouteAnswer.self, from: Data(answer.body.utf8))
        else {
            throw Failure(message: "the shuck at \(socket.socket) has no /why: it is another version")
        }
        try Output.print(format.json ? answer.body : found.screen, terminator: "")
        if !found.verdicts.allSatisfy(\.isAccepted) { throw ExitCode(1) }
    }

    /// What `/status` answers, and what this version reads out of it.
    private func fetch() throws -> (text: String, report: StatusReport) {
        let text = try socket.client.get("/status")
        do {
            return (text, try JSONDecoder().decode(StatusReport.self, from: Data(text.utf8)))
        } catch {
            throw Failure(
                message: """
                    the shuck at \(socket.socket) is another version than this one \
                    (\(Build.version)): its status cannot be read
                    """)
        }
    }

    private func screen(_ report: StatusReport, after last: StatusReport) -> String {
        let screen = StatusScreen(now: report, before: last, painter: .standardOutput)
        // Home, then clear to the end; with the text in one write, so that nothing flickers.
        let clear = watch && isatty(STDOUT_FILENO) == 1 ? "\u{1b}[H\u{1b}[J" : ""
        return clear + screen.text
    }
}
