// shuck check, and what all verbs have in common: usage, version, help.

import Foundation
import Testing

@Suite struct CheckTests {
    private let good = """
        interfaces: [lo]
        tunnels:
          - name: lvs
            local: [192.0.2.2]
            remotes: [192.0.2.64/26]
            destinations: [{prefix: 10.2.1.9}]
        outer: {fragments: {memory: 0}}

        """

    private func shell(_ text: String) throws -> Shell {
        let shell = try Shell()
        try shell.write("c.yaml", text)
        return shell
    }

    @Test func aGoodFileGivesTheEffectiveConfiguration() throws {
        let shell = try shell(good)
        let outcome = try shell.shuck("check", "--config", "c.yaml")
        #expect(outcome.code == 0)
        #expect(outcome.error == "shuck: c.yaml is good\n")
        #expect(outcome.output.hasPrefix("# The effective configuration"))
        #expect(outcome.output.contains("\n    remotes: [192.0.2.64/26]\n"))
        #expect(outcome.output.contains("\nconsume: auto\n"))
        // It is itself a configuration, and the same one.
        try shell.write("again.yaml", outcome.output)
        let again = try shell.shuck("check", "--config", "again.yaml")
        #expect(again.code == 0)
        #expect(again.output == outcome.output)
    }

    @Test func everyProblemOnALineOfStandardOutput() throws {
        let bad = good.replacing("192.0.2.2", with: "192.0.2.256")
            .replacing("prefix: 10.2.1.9", with: "prefix: 10.2.1.9, port: 80")
        let outcome = try shell(bad).shuck("check", "--config", "c.yaml")
        #expect(outcome.code == 1)
        #expect(outcome.error == "")
        let lines = outcome.output.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.first?.hasPrefix("c.yaml:4:13: tunnels.lvs.local[0]: ") == true, "\(lines)")
        #expect(lines.last?.hasPrefix("c.yaml:6:39: ") == true, "\(lines)")
    }

    @Test func warningsGoToStandardErrorAndRefuseNothing() throws {
        let text = good.replacing("[lo]", with: "[lo, shuck-none0]")
        let outcome = try shell(text).shuck("check", "--config", "c.yaml")
        #expect(outcome.code == 0)
        #expect(
            outcome.error == """
                c.yaml:1:18: warning: interfaces[1]: this host has no "shuck-none0"; \
                shuck run waits for it
                shuck: c.yaml is good, with 1 warning

                """)
        #expect(outcome.output.contains("interfaces: [lo, shuck-none0]"))
        let elsewhere = try shell(text).shuck("check", "--no-host", "--config", "c.yaml")
        #expect(elsewhere.code == 0)
        #expect(elsewhere.error == "shuck: c.yaml is good\n")
    }

    @Test func dropInsAreMergedAndNamed() throws {
        let shell = try shell(good)
        try FileManager.default.createDirectory(
            atPath: shell.path("c.d"), withIntermediateDirectories: false)
        try shell.write("c.d/10.yaml", "mss: {ipv4: 1300}\n")
        let outcome = try shell.shuck("check", "--config", "c.yaml")
        #expect(outcome.output.contains("ipv4: 1300"))
        try shell.write("c.d/20.yaml", "mss: {ipv4: 1}\n")
        let refused = try shell.shuck("check", "--config", "c.yaml")
        #expect(refused.code == 1)
        #expect(refused.output.hasPrefix("c.d/20.yaml:1:13: mss.ipv4: "), "\(refused.output)")
    }

    @Test func missingAndUnreadableFiles() throws {
        let shell = try shell(good)
        let outcome = try shell.shuck("check", "--config", "none.yaml")
        #expect(outcome.code == 1)
        #expect(
            outcome.output
                == "none.yaml:1:1: there is no such file; give one with --config FILE\n")
        try shell.write("c.yaml", [0xff, 0xfe, 0xfd])
        let notText = try shell.shuck("check", "--config", "c.yaml")
        #expect(notText.code == 1)
        #expect(
            notText.output
                == "c.yaml:1:1: it is not UTF-8 text: save it as UTF-8 (iconv -t UTF-8)\n")
        try FileManager.default.createDirectory(
            atPath: shell.path("folder"), withIntermediateDirectories: false)
        let folder = try shell.shuck("check", "--config", "folder")
        #expect(folder.code == 1)
        #expect(folder.output == "folder:1:1: it cannot be read: Is a directory\n")
        let endless = try shell.shuck("check", "--config", "/dev/zero")
        #expect(endless.code == 1)
        #expect(
            endless.output == "/dev/zero:1:1: it has more than 64 MiB: no configuration is that long\n")
    }

    @Test("a file that may not be read is said to be that", .enabled(if: geteuid() == 0, "needs root"))
    func aFileThatMayNotBeRead() throws {
        let shell = try shell(good)
        try FileManager.default.setAttributes(
            [.posixPermissions: 0], ofItemAtPath: shell.path("c.yaml"))
        let outcome = try shell.script(
            """
            drop=-dac_override,-dac_read_search
            exec setpriv --bounding-set $drop --inh-caps $drop "$SHUCK" check --config c.yaml
            """)
        #expect(outcome.code == 1)
        #expect(
            outcome.output == """
                c.yaml:1:1: this user may not read it: run as root, or give read permission \
                (ls -l c.yaml)

                """)
    }

    @Test func asJSON() throws {
        struct Report: Decodable {
            struct Entry: Decodable {
                var file: String
                var line: Int
                var column: Int
                var severity: String
                var message: String
            }
            var problems: [Entry]
            var configuration: String?
            var differences: [String]?
        }
        func report(_ text: String) throws -> (Report, Int32) {
            let outcome = try shell(text).shuck("check", "--config", "c.yaml", "--json")
            #expect(outcome.error == "")
            return (
                try JSONDecoder().decode(Report.self, from: Data(outcome.outputBytes)),
                outcome.code
            )
        }
        let (fine, code) = try report(good.replacing("[lo]", with: "[shuck-none0]"))
        #expect(code == 0)
        #expect(fine.problems.map(\.severity) == ["warning"])
        #expect(fine.configuration?.contains("interfaces: [shuck-none0]") == true)
        let (bad, badCode) = try report(good + "bogus: 1\n")
        #expect(badCode == 1)
        #expect(bad.configuration == nil && bad.differences == nil)
        #expect(bad.problems.count == 1)
        #expect(bad.problems.first?.file == "c.yaml")
        #expect(bad.problems.first?.line == 8)
        #expect(bad.problems.first?.column == 1)
        #expect(bad.problems.first?.message.hasPrefix("bogus: unknown key") == true)
    }

    @Test func wrongUsageIsTwo() throws {
        let shell = try shell(good)
        for arguments in [
            ["check", "--bogus"], ["check", "--config"], ["frobnicate"], ["status", "extra"],
            ["check", "--socket", "s.sock"], ["replay"], ["reload", "--socket", ""],
            ["status", "--socket", String(repeating: "x", count: 108)],
        ] {
            let outcome = try shell.run(arguments)
            #expect(outcome.code == 2, "\(arguments)")
            #expect(outcome.error.hasPrefix("Error: "), "\(arguments): \(outcome.error)")
            #expect(outcome.output == "", "\(arguments)")
        }
    }

    @Test func helpAndVersionAreFine() throws {
        let shell = try Shell()
        let version = try shell.shuck("--version")
        #expect(version.code == 0)
        #expect(version.output.split(separator: ".").count == 3)
        for verb in ["run", "check", "reload", "status", "replay"] {
            let help = try shell.shuck(verb, "--help")
            #expect(help.code == 0)
            #expect(help.output.contains("USAGE: shuck \(verb)"))
        }
    }

    @Test func everyOptionOfReplayIsDescribed() throws {
        let root = URL(filePath: #filePath).appending(path: "../../..").standardized
        let page = try String(contentsOf: root.appending(path: "docs/replay.md"), encoding: .utf8)
        let help = try Shell().shuck("replay", "--help").output
        let words = help.split { !$0.isLetter && $0 != "-" }
        let options = Set(words.filter { $0.hasPrefix("--") }).subtracting(["--version", "--help"])
        #expect(options.count == 10)
        for option in options { #expect(page.contains("`\(option)"), "\(option)") }
    }
}
