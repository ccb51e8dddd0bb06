// shuck bugreport: one tar archive for a support case.

import ArgumentParser
import Daemon
import Foundation

struct BugReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bugreport",
        abstract: "Collect what a support case needs in one tar archive.",
        discussion: """
            Configuration files, the effective and the running configuration, the facts and findings of \
            doctor, status, metrics twice, routes and rules, kernel log lines that name shuck, versions. \
            It changes nothing and needs no running daemon; summary.txt in the archive names what could \
            not be read and why. The archive is readable by its owner alone, and appears whole or not at \
            all. Elsewhere, `shuck doctor --facts facts.json` judges the host again, and `shuck replay` \
            takes its routes and rules. Exit codes: 0 written, 2 wrong usage, 3 it could not be written.
            """)

    @OptionGroup var file: ConfigurationOption
    @OptionGroup var socket: SocketOption

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "Archive to write (default: shuck-TIME.tar in this directory); - is standard output.",
            valueName: "file"))
    var output: String?

    @Option(help: ArgumentHelp("Time between the two readings of the metrics.", valueName: "seconds"))
    var interval: UInt32 = 10

    @Flag(
        help: """
            Replace addresses by pseudonyms: two share as many leading bits as their addresses do. Names, \
            MAC addresses, and addresses of loopback, link-local, multicast and documentation stay.
            """)
    var anonymise = false

    func validate() throws {
        guard interval <= 600 else { throw ValidationError("--interval is a number from 0 to 600") }
        if output == "" { throw ValidationError("--output takes the name of a file") }
    }

    func run() throws {
        let now = Date()
        var report = try BugReport(config: file.config, client: socket.client, interval: interval)
        if anonymise { report.anonymise(Anonymiser(pseudonyms: .random())) }
        let time = now.formatted(.iso8601)
        var archive = TarArchive(time: UInt32(clamping: Int(now.timeIntervalSince1970)))
        let folder = "shuck-bugreport/"
        let summary = (name: "summary.txt", bytes: Array(report.summary(time: time).utf8))
        for member in [summary] + report.members {
            do throws(TarArchive.Refusal) {
                try archive.add(folder + member.name, member.bytes)
            } catch {
                Output.error("shuck: \(member.name) is left out: its name is too long for the archive")
            }
        }
        let path = output ?? "shuck-\(time.filter { $0 != ":" && $0 != "-" }).tar"
        try WholeFile.write(archive.bytes, to: path, option: "-o", code: .notHere)
        for note in report.notes { Output.error("shuck: \(note)") }
        if path != "-" { try Output.print(path) }
    }
}
