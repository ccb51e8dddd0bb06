// shuck selftest: real traffic through this binary, in namespaces of its own.

import ArgumentParser
import Foundation
import LinuxIO
import SelfTesting

struct SelfTestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selftest",
        abstract: "Pass real traffic through this binary, in network namespaces of its own.",
        discussion: """
            Builds client, balancer, node and pod as network namespaces, runs this binary on the node, and \
            sends TCP, UDP, ICMP and packets that must be dropped through every encapsulation. It touches \
            nothing else of this host and leaves nothing behind, also when a signal ends it. Needs root, \
            network namespaces and /dev/net/tun. Exit codes: 0 all is as it must be, 1 something is not, 2 \
            wrong usage, 3 not permitted or not supported here. docs/selftest.md describes the tests.
            """)

    @Option(help: ArgumentHelp("Only tests whose name contains this text.", valueName: "name"))
    var filter: String?

    @Flag(help: "Keep network and daemon after the tests, until Ctrl-C.")
    var keep = false

    // Stops itself before the tests, so that somebody can break something; SIGCONT goes on.
    @Flag(help: .private)
    var pause = false

    @OptionGroup var format: JSONOption

    func validate() throws {
        guard let filter, chosen(hasIPv6: true).isEmpty else { return }
        let names = Set(SelfTest.names.compactMap { $0.split(separator: " ").first }).sorted()
        throw ValidationError(
            "no test has \(Output.visible(filter)) in its name; the names begin with "
                + names.joined(separator: ", "))
    }

    private func chosen(hasIPv6: Bool) -> [SelfTest] {
        SelfTest.all(hasIPv6: hasIPv6).filter { test in
            filter.map { test.name.localizedCaseInsensitiveContains($0) } ?? true
        }
    }

    func run() throws {
        try checkHost()
        for path in SelfTestDirectory.removeLeftovers() {
            Output.error("shuck: removed \(path), which a killed selftest left")
        }
        do {
            let interruption = try Interruption()
            let report = try report(interruption)
            if !report.isGood { throw ExitCode(1) }
        } catch let error as SystemError {
            throw Failure(code: .notHere, message: "\(error)")
        } catch is Interrupted {
            throw Failure(message: "interrupted before the first test")
        } catch let error as Output.Unwritten {
            throw Output.failure(error)
        }
    }

    private func checkHost() throws(Failure) {
        guard geteuid() == 0 else {
            throw Failure(code: .notHere, message: "network namespaces need root: sudo shuck selftest")
        }
        let missing = Host.missingCapabilities()
        guard missing.isEmpty else {
            throw Failure(
                code: .notHere, message: "\(missing.joined(separator: " and ")) is missing: grant it")
        }
        guard access("/dev/net/tun", R_OK | W_OK) == 0 else {
            throw Failure(
                code: .notHere,
                message: """
                    there is no /dev/net/tun: load the driver (modprobe tun), or in a container pass the \
                    device (--device /dev/net/tun)
                    """)
        }
        guard access("/proc/self/ns/net", F_OK) == 0 else {
            throw Failure(code: .notHere, message: "this kernel has no network namespaces (CONFIG_NET_NS)")
        }
    }

    /// Builds, tests and removes.
    private func report(_ interruption: Interruption) throws -> SelfTestReport {
        let lab = try SelfTestLab(interruption)
        // Whatever ends this, the end of the lab removes the rest.
        return try withExtendedLifetime(lab) {
            try lab.start(NodeConfiguration())
            let status = try lab.status()
            var report = SelfTestReport(
                version: status.version, kernel: Host.sysctl("kernel.osrelease") ?? "",
                engine: status.engine, claim: status.interfaces.first?.claimActive.rawValue ?? "none",
                notes: status.notes)
            if !format.json { try show(report) }
            if pause {
                tellPlaces(lab)
                kill(getpid(), SIGSTOP)
            }
            try run(lab, &report)
            try Output.write(
                format.json ? try Output.jsonText(report, [.prettyPrinted]) : report.summary)
            if keep && !report.interrupted {
                tellPlaces(lab)
                while !interruption.isRaised {
                    _ = Host.waitReadable([interruption.descriptor.number], milliseconds: -1)
                }
            }
            return report
        }
    }

    private func run(_ lab: SelfTestLab, _ report: inout SelfTestReport) throws {
        for test in chosen(hasIPv6: lab.hasIPv6) {
            do {
                let result = try result(test, lab)
                report.add(result)
                if !format.json { try show(result) }
            } catch is Interrupted {
                report.interrupted = true
                return
            }
        }
    }

    private func result(_ test: SelfTest, _ lab: SelfTestLab) throws -> SelfTestResult {
        let start = Host.monotonicNanoseconds()
        var checks = Checks()
        do {
            try test.run(lab, &checks)
        } catch let skipped as SelfTest.Skipped {
            return SelfTestResult(name: test.name, skipped: skipped.reason)
        } catch let interrupted as Interrupted {
            throw interrupted
        } catch {
            checks.expect(false, (error as? Failure)?.message ?? "\(error)")
        }
        return SelfTestResult(
            name: test.name, seconds: Double(Host.monotonicNanoseconds() - start) / 1e9, checks: checks.count,
            failures: checks.failures)
    }

    // MARK: Text

    private func tellPlaces(_ lab: SelfTestLab) {
        for (place, path) in lab.paths { Output.error("\(place): nsenter --net=\(path)") }
        Output.error("shuck status --socket \(lab.socket)")
    }

    private func show(_ report: SelfTestReport) throws {
        try Output.write(
            "shuck \(report.version) on Linux \(report.kernel): \(report.engine), claim \(report.claim)")
        for note in report.notes { try Output.write("note: \(note)") }
    }

    private func show(_ result: SelfTestResult) throws {
        let painter = Painter.standardOutput
        let style: Style =
            switch result.outcome {
            case .ok: .good
            case .failed: .bad
            case .skipped: .attention
            }
        let outcome = result.outcome.rawValue.padding(toLength: 7, withPad: " ", startingAt: 0)
        let name = result.name.padding(toLength: 30, withPad: " ", startingAt: 0)
        let facts =
            result.reason
            ?? String(format: "%5.2f s  %d check", result.seconds, result.checks)
            + (result.checks == 1 ? "" : "s")
        try Output.write("\(painter.paint(outcome, style))  \(name)  \(facts)")
        for failure in result.failures { try Output.write("         \(failure)") }
    }
}
