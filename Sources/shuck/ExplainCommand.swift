// shuck explain: what a reason for a drop means, its causes, and what to type.

import ArgumentParser
import Daemon
import Foundation
import Settings

struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say what a reason for a drop means, its usual causes, and what to type.",
        discussion: """
            Without a reason, list all, in their order of precedence: a frame that is wrong in two ways \
            has the first. The filter is for tcpdump on Ethernet; it reads inner packets behind outer \
            headers without options. Needs no running daemon and no privilege.
            """)

    @Argument(help: "A reason, as status, metrics and verdicts name it.")
    var reason: String?

    @OptionGroup var format: JSONOption

    private struct Report: Encodable {
        struct Command: Encodable {
            var command: String
            var shows: String
        }
        var reason: String
        var meaning: String
        var causes: [String]
        var commands: [Command]
        var filter: String

        init(_ help: ReasonHelp) {
            reason = help.reason.name
            meaning = help.meaning
            causes = help.causes
            commands = help.commands.map { Command(command: $0.text, shows: $0.shows) }
            filter = help.filter
        }
    }

    func run() throws {
        guard let reason else {
            if format.json { return try Output.json(ReasonHelp.all.map(Report.init)) }
            let rows = ReasonHelp.all.map { help in
                [Table.Cell(help.reason.name, .plain), Table.Cell(help.meaning, .plain)]
            }
            let lines = Table(titles: ["REASON", "MEANING"], rows: rows).lines(.standardOutput)
            return try Output.print(lines.joined(separator: "\n"))
        }
        guard let help = ReasonHelp.all.first(where: { $0.reason.name == reason }) else {
            let near = ValueSyntax.nearest(reason, among: ReasonHelp.all.map(\.reason.name))
            let remedy = near.map { "did you mean \($0)?" } ?? "shuck explain lists all"
            throw ValidationError("\(Output.visible(reason)) is no reason; \(remedy)")
        }
        try format.json ? Output.json(Report(help)) : Output.print(text(help, .standardOutput))
    }

    private func text(_ help: ReasonHelp, _ painter: Painter) -> String {
        var lines = [painter.paint(help.reason.name, .bold), "    \(help.meaning)", ""]
        lines += [painter.paint("Usual causes", .bold)] + help.causes.map { "    \($0)" } + [""]
        lines.append(painter.paint("What to type", .bold))
        lines += help.commands.flatMap { ["    \($0.text)", "        \($0.shows)"] }
        return lines.joined(separator: "\n")
    }
}
