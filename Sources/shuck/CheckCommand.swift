// shuck check: prints every problem of a configuration, or the effective configuration.

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
            Problems go to standard output as FILE:LINE:COLUMN: message, with exit code 1. \
            Warnings go to standard error, and so does a line that says that the configuration is \
            good; they do not change the exit code. This host gives warnings too: interfaces that it \
            lacks, and interrupts, NUMA nodes and frequency governors that would slow workers. \
            --no-host checks a configuration of other hosts.
            """)

    @OptionGroup var file: ConfigurationOption

    @Flag(
        help: """
            Print the differences from the running daemon's configuration, those that need a restart \
            marked, then what a reload would open, change and close on this host. Nothing when equal.
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
        /// Only with `--diff`: the actions of a reload on this host, in order.
        var actions: [String]?
        /// What would slow the workers on this host; absent when nothing would.
        var placement: [String]?
        /// Kernel tunnels that share addresses with ours; absent when there are none.
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
        let advice = configuration.advice()
        let placement = advice.filter { $0.what == .worker }.map(\.description)
        let overlays = advice.filter { $0.what != .worker }.map(\.description)
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
