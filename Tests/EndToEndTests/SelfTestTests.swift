// shuck selftest: it passes, it fails where something is broken, and it leaves nothing.

import Foundation
import Testing

private struct Report: Decodable {
    struct Test: Decodable {
        let name: String
        let outcome: String
        let checks: Int
        let failures: [String]
    }
    let tests: [Test]
    let interrupted: Bool

    var failed: [String] { tests.filter { $0.outcome == "failed" }.map(\.name) }
}

extension EndToEnd {
    @Suite struct SelfTestTests {
        /// A selftest with a folder of its own for what it writes.
        private final class Run {
            let command: RunningCommand
            let folder: String

            /// - Parameter wrapper: a command that runs it.
            init(_ options: String..., folder: String? = nil, wrapper: [String] = []) throws {
                self.folder = folder ?? NSTemporaryDirectory() + "selftest\(UUID().uuidString.prefix(8))"
                let output = self.folder + "/output\(UUID().uuidString.prefix(8))"
                try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
                command = try RunningCommand(
                    ["env", "TMPDIR=\(self.folder)/"] + wrapper + [Tools.shuck, "selftest"] + options,
                    directory: output)
            }

            deinit {
                command.end()
                try? FileManager.default.removeItem(atPath: folder)
            }

            /// What it has in its folder: nothing, once it has ended.
            var left: [String] {
                let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
                return names.filter { $0.hasPrefix("shuck-selftest-") }
            }

            /// Processes that serve there.
            var daemons: [pid_t] {
                let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
                return names.compactMap { pid_t($0) }.filter { process in
                    let words = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") ?? Data()
                    return String(decoding: words, as: UTF8.self).contains("\(folder)/shuck-selftest-")
                }
            }

            func report(seconds: Double = 60) throws -> (status: Int32, report: Report) {
                let result = try command.wait(seconds: seconds)
                let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
                return (result.status, report)
            }

            func expectNothingLeft() throws {
                #expect(left == [])
                #expect(daemons == [])
            }
        }

        @Test func everythingPassesHere() throws {
            let run = try Run()
            let result = try run.command.wait(seconds: 60)
            #expect(result.status == 0, "\(result.output)\(result.errors)")
            let lines = result.output.split(separator: "\n")
            #expect(lines.dropFirst().dropLast().allSatisfy { $0.hasPrefix("ok ") }, "\(result.output)")
            // What the documents show.
            let last = try #require(lines.last)
            for document in ["README.md", "docs/selftest.md"] {
                let text = try String(contentsOfFile: "\(Tools.root)/\(document)", encoding: .utf8)
                #expect(text.contains("\n\(last)\n"), "\(document) does not end with \(last)")
            }
            let rows = try String(contentsOfFile: "\(Tools.root)/docs/selftest.md", encoding: .utf8)
            for line in lines.dropFirst().dropLast() {
                let name = line.dropFirst(9).prefix(30).split(separator: " ")
                let kind = name.count > 1 ? name.dropLast().joined(separator: " ") : String(name[0])
                #expect(rows.contains("\n| `\(kind)"), "docs/selftest.md has no row \(kind)")
            }
            try run.expectNothingLeft()
        }

        /// As `shuck selftest | head -1`.
        @Test func aReaderThatGoesLeavesNothing() throws {
            let run = try Run(wrapper: ["sh", "-c", "\"$@\" | head -1", "sh"])
            let result = try run.command.wait()
            #expect(result.output.split(separator: "\n").count == 1, "\(result)")
            #expect(result.errors == "")
            try run.expectNothingLeft()
        }

        @Test func aFallbackIsSaid() throws {
            try Rig.with { rig in
                let wrapper = try PlainWritesTests.refusing(rig, "io_uring_setup", "EPERM")
                let run = try Run("--filter", "udp", wrapper: wrapper)
                let result = try run.command.wait()
                #expect(result.status == 0, "\(result)")
                let lines = result.output.split(separator: "\n")
                #expect(lines.first?.contains(": plain writes, claim ") == true, "\(result.output)")
                #expect(lines[1].hasPrefix("note: "), "\(result.output)")
            }
        }

        /// Breaks the node while the selftest waits, and lets it go on.
        private static func broken(_ filter: String, _ script: String) throws -> (
            status: Int32, report: Report
        ) {
            let run = try Run("--filter", filter, "--json", "--pause")
            try eventually("the selftest to wait") {
                guard run.command.isRunning else { throw Failure(run.command.errors) }
                return run.command.errors.contains("shuck status --socket")
            }
            let path = try #require(
                run.command.errors.split(separator: "\n").first { $0.hasPrefix("node: ") }?
                    .split(separator: "=").last)
            let shell = try RunningCommand(
                ["nsenter", "--net=\(path)", "sh", "-ec", script], directory: run.folder + "/script")
            try shell.wait().get()
            run.command.signal(SIGCONT)
            let (status, report) = try run.report()
            try run.expectNothingLeft()
            return (status, report)
        }

        /// Each fault and the only tests that may fail.
        @Test(arguments: [
            (
                "udp",
                "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }; "
                    + "add rule ip t c iifname shuck0 ip daddr 203.0.113.4 drop'", ["udp ipip"]
            ),
            (
                "icmp", "ip route add 198.51.100.0/24 via 10.2.1.9", ["icmp ipip", "icmp ipip6"]
            ),
            ("mss answers", "ip -6 route del 2001:db8:f::4", ["mss answers ip6ip"]),
            ("allowlist remotes", "ip route replace 203.0.113.4/32 dev lo", ["allowlist remotes"]),
        ])
        func aBrokenNodeFails(filter: String, script: String, failing: [String]) throws {
            let (status, report) = try Self.broken(filter, script)
            #expect(status == 1)
            #expect(report.failed == failing)
            #expect(report.tests.filter { $0.outcome == "failed" }.allSatisfy { !$0.failures.isEmpty })
        }

        @Test func whyPacketsDoNotComeIsSaid() throws {
            let (_, report) = try Self.broken("udp ipip", "ip route add 198.51.100.0/24 via 10.2.1.9")
            let failures = report.tests.flatMap(\.failures)
            #expect(failures.contains("ipip: 40 of 40 datagrams were not answered"))
            #expect(failures.contains("ipip: shuck dropped 40 packets"))
        }

        /// To the group, as a terminal sends it.
        @Test(arguments: [SIGINT, SIGTERM])
        func anInterruptionLeavesNothing(signal: Int32) throws {
            let run = try Run("--json", wrapper: ["setsid"])
            try eventually("the daemon") { !run.daemons.isEmpty }
            usleep(300_000)
            kill(-run.command.processID, signal)
            let (status, report) = try run.report(seconds: 10)
            #expect(status == 1)
            #expect(report.interrupted && report.failed == [])
            try run.expectNothingLeft()
        }

        /// The daemon ends with it, and the next run removes the rest.
        @Test func theNextRunRemovesWhatAKilledOneLeft() throws {
            let killed = try Run("--keep", "--filter", "not-ours")
            try eventually("the end of the tests") { killed.command.errors.contains("nsenter") }
            killed.command.signal(SIGKILL)
            try killed.command.wait()
            try eventually("the end of the daemon") { killed.daemons.isEmpty }
            let left = try #require(killed.left.first)
            let next = try Run("--filter", "not-ours", folder: killed.folder)
            let result = try next.command.wait()
            #expect(result.status == 0)
            #expect(
                result.errors == "shuck: removed \(killed.folder)/\(left), which a killed selftest left\n")
            try next.expectNothingLeft()
        }

        @Test func keepServesUntilASignal() throws {
            let run = try Run("--keep", "--filter", "not-ours")
            try eventually("the end of the tests") { run.command.errors.contains("shuck status") }
            let line = try #require(run.command.errors.split(separator: "\n").last)
            let status = try RunningCommand(
                [Tools.shuck] + line.split(separator: " ").dropFirst().map(String.init),
                directory: run.folder + "/status"
            ).wait()
            #expect(status.status == 0, "\(status)")
            run.command.signal(SIGINT)
            #expect(try run.command.wait(seconds: 10).status == 0)
            try run.expectNothingLeft()
        }

        @Test func whoMayNotIsToldWhatIsMissing() throws {
            let folder = NSTemporaryDirectory() + "selftest\(getpid())"
            defer { try? FileManager.default.removeItem(atPath: folder) }
            let user = try RunningCommand(
                ["setpriv", "--reuid", "65534", "--clear-groups", Tools.shuck, "selftest"], directory: folder
            ).wait()
            #expect(user.status == 3)
            #expect(user.errors == "shuck: network namespaces need root: sudo shuck selftest\n")
            let unknown = try RunningCommand(
                [Tools.shuck, "selftest", "--filter", "nonsense"], directory: folder
            ).wait()
            #expect(unknown.status == 2)
            #expect(
                unknown.errors.contains("no test has nonsense in its name; the names begin with allowlist,"))
        }
    }
}
