// shuck check: every problem of a configuration, or what it comes to.

import ArgumentParser
import Daemon
import Foundation
import HostPlan
import Settings

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Print every problem of the configuration, or the effective configuration.",
        discussion: """
            Problems go to standard output as FILE:LINE:COLUMN: message, with exit code 1; \
            warnings go to standard error and refuse nothing, and so does one line that says that \
            the configuration is good. An interface that this host lacks \
            is a warning, and so is what would slow workers on this host's interfaces: \
            interrupts, NUMA nodes and frequency governors. With --no-host nothing of this host \
            is looked at, for a configuration of other hosts.
            """)

    @OptionGroup var file: ConfigurationOption

    @Flag(
        help: """
            Print what differs from the running daemon's configuration, and which of it needs a restart, \
            then what a reload would open, change and close on this host; nothing when equal.
            """)
    var diff = false

    @Flag(help: "Check the text alone: no warning of what this host lacks.")
    var noHost = false

    @Option(
        help: ArgumentHelp(
            "With --diff: the daemon's unix socket (default: \(AdminClient.defaultPath)).",
            valueName: "path"))
    var socket: String?

    @OptionGroup var format: JSONOption

    func validate() throws {
        if socket != nil && !diff { throw ValidationError("--socket is of use only with --diff") }
    }

    private struct Report: Encodable {
        var problems: [Problem]
        /// YAML; absent when there is an error, or with `--diff`.
        var configuration: String?
        /// Only with `--diff`.
        var differences: [String]?
        /// Only with `--diff`: what a reload would do to this host, in order.
        var actions: [String]?
        /// What of this host would slow the workers; absent when nothing would.
        var placement: [String]?
        /// Tunnels of the kernel's that share addresses with ours; absent when there are none.
        var overlays: [String]?
    }

    func run() throws {
        let (configuration, problems) =
            noHost
            ? ConfigurationFiles.load(file.config) : ConfigurationFiles.loadForHost(file.config)
        var report = Report(problems: problems)
        if !format.json { try show(problems) }
        if let configuration {
            if !noHost { lookAtHost(configuration, &report) }
            if diff {
                let old = try running()
                report.differences = configuration.differences(from: old)
                report.actions = noHost ? nil : try configuration.actions(replacing: old).map(\.text)
            } else {
                report.configuration = configuration.yaml
            }
        }
        if format.json {
            try Output.json(report)
        } else {
            for line in (report.differences ?? []) + (report.actions ?? []) { try Output.print(line) }
            try Output.print(report.configuration ?? "", terminator: "")
        }
        guard configuration != nil else { throw ExitCode(1) }
        if !format.json {
            let warnings = problems.count == 1 ? "1 warning" : "\(problems.count) warnings"
            Output.error("shuck: \(file.config) is good" + (problems.isEmpty ? "" : ", with \(warnings)"))
        }
    }

    private func lookAtHost(_ configuration: Configuration, _ report: inout Report) {
        let (placement, overlays) = (configuration.placementWarnings(), configuration.overlayWarnings())
        if !placement.isEmpty { report.placement = placement }
        if !overlays.isEmpty { report.overlays = overlays }
        if format.json { return }
        for warning in overlays + placement { Output.error("warning: this host: \(warning)") }
    }

    private func show(_ problems: [Problem]) throws {
        for problem in problems {
            if problem.severity == .error {
                try Output.print("\(problem)")
            } else {
                Output.error("\(problem)")
            }
        }
    }

    private func running() throws -> Configuration {
        let path = socket ?? AdminClient.defaultPath
        let text = try AdminClient(socketPath: path).get("/config")
        let (configuration, problems) = Configuration.load(files: [("running", text)])
        guard let configuration else {
            let first = problems.first { $0.severity == .error }
            throw Failure(
                message: """
                    the running configuration cannot be read by this version: \
                    \(first?.message ?? "it is empty")
                    """)
        }
        return configuration
    }
}
