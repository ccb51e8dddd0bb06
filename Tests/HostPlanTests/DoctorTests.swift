// What doctor says of facts, and docs/doctor.md, which is made of the conditions and of these cases.
// `SHUCK_WRITE=1 swift test --filter DoctorTests` writes it.

import Foundation
import IP
import Routing
import Settings
import Testing

@testable import HostPlan

@Suite struct DoctorTests {
    @Test func aHostWithoutFaultsHasOneGoodLinePerConditionAtLeast() throws {
        let diagnoses = Doctor.diagnoses(try DoctorHost.examination())
        #expect(diagnoses.allSatisfy { $0.level == .ok && $0.command == nil }, "\(diagnoses)")
        #expect(Set(diagnoses.map(\.condition)) == Set(Doctor.conditions.map(\.name)))
    }

    @Test("each broken fact is found, with the command that mends it", arguments: DoctorCase.all.indices)
    func findsWhatIsBroken(index: Int) throws {
        let one = DoctorCase.all[index]
        let diagnoses = try one.diagnoses()
        let found = diagnoses.filter { $0.level == one.level && $0.fact.contains(one.fact) }
        // One rule can stop both families, with a command for each.
        #expect(found.count == 1 || one.condition == "filter-icmp", "\(one.fact): \(diagnoses)")
        #expect(found.first?.command == one.command, "\(one.condition): \(one.fact): \(diagnoses)")
        #expect(found.first?.effect != nil)
    }

    @Test func everyConditionIsBroken() {
        let names = Doctor.conditions.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(Set(DoctorCase.all.map(\.condition)) == Set(names))
    }

    /// A loss that is certain is a problem; a rule that an earlier one may keep packets from is not.
    @Test func onlyCertainRefusalsAreProblems() throws {
        func level(_ change: (inout RuleEntry) -> Void) throws -> Diagnosis.Level? {
            let examination = try DoctorHost.examination { _, details in
                var rule = RuleEntry(isIPv4: true, priority: 90, action: .refuse(.blackhole))
                change(&rule)
                details.rules?.append(rule)
            }
            return Doctor.diagnoses(examination).filter { $0.condition == "rules" }.first?.level
        }
        #expect(try level { _ in } == .problem)
        #expect(try level { $0.inputInterface = "shuck0" } == .problem)
        #expect(try level { $0.priority = 40_000 } == .warning, "behind the table main")
        #expect(try level { $0.from = Prefix("192.0.2.0/24") } == .warning)
        #expect(try level { $0.protocolNumber = 6 } == .warning)
        #expect(try level { $0.to = Prefix("203.0.113.10/31") } == .problem)
        #expect(try level { $0.to = Prefix("203.0.113.11/32") } == .warning)
    }

    /// Routed packets meet no chain of a bridge.
    @Test func onlyChainsOfCarriedFamiliesLoseEverything() throws {
        for (family, level) in [
            ("ip", Diagnosis.Level.problem), ("ip6", .problem), ("inet", .problem), ("bridge", .warning),
        ] {
            let examination = try DoctorHost.examination { _, details in
                details.ruleset = [
                    "table \(family) t {", "chain c {",
                    "type filter hook forward priority filter; policy drop;", "}", "}",
                ]
            }
            let found = Doctor.diagnoses(examination).filter { $0.condition == "filter-policy" }
            #expect(found.map(\.level) == [level], "\(family)")
        }
    }

    @Test func aReloadGoesToTheSocketOfTheConfiguration() throws {
        for (socket, word) in [("/run/other.sock", "/run/other.sock"), ("/run/a b's", "'/run/a b'\\''s'")] {
            let examination = try DoctorHost.examination("admin: {socket: \"\(socket)\"}") { facts, _ in
                facts.links[1].mtu = 1500
            }
            let command = Doctor.diagnoses(examination).first { $0.level == .warning }?.command
            #expect(command?.hasSuffix(" && shuck reload --socket \(word)") == true, "\(command ?? "none")")
        }
    }

    @Test func whatCannotBeReadIsSaid() throws {
        let examination = try DoctorHost.examination { _, details in
            details.gaps = [.init(conditions: ["rp-filter"], text: "no /proc", command: "mount /proc")]
        }
        let found = Doctor.diagnoses(examination).filter { $0.condition == "rp-filter" }
        // Nothing else is said of it, in particular not that it is fine.
        #expect(found.map(\.level) == [.unread] && found.map(\.command) == ["mount /proc"])
    }

    @Test func savedFactsAreJudgedAlike() throws {
        for one in DoctorCase.all {
            let examination = try DoctorHost.examination(one.configuration, one.spoil)
            let document = FactsDocument(
                shuck: "1", configuration: examination.configuration.yaml, facts: examination.facts)
            let read = try JSONDecoder().decode(FactsDocument.self, from: JSONEncoder().encode(document))
            let configuration = try #require(
                Configuration.load(files: [("saved", read.configuration)]).configuration)
            let again = Examination(configuration, read.facts, dropIns: examination.dropIns)
            #expect(Doctor.diagnoses(again) == Doctor.diagnoses(examination))
        }
    }

    /// Nobody vouches for a file of facts.
    @Test func anyNumberInSavedFactsIsRefusedOrJudged() throws {
        let examination = try DoctorHost.examination { facts, details in
            for one in DoctorCase.all where one.condition == "rules" || one.condition == "placement" {
                one.spoil(&facts, &details)
            }
        }
        let document = FactsDocument(
            shuck: "1", configuration: examination.configuration.yaml, facts: examination.facts)
        let text = String(decoding: try JSONEncoder().encode(document), as: UTF8.self)
        let number = /:(-?[0-9]+)|\[(-?[0-9]+)/
        let ranges = text.ranges(of: number)
        #expect(ranges.count > 50)
        var judged = 0
        for range in ranges {
            for extreme in ["-1", "0", "129", "65536", "4294967295", "9223372036854775807"] {
                let changed = text.replacingCharacters(in: range, with: text[range].prefix(1) + extreme)
                guard let read = try? JSONDecoder().decode(FactsDocument.self, from: Data(changed.utf8)),
                    read.isPlausible
                else { continue }
                _ = Doctor.diagnoses(Examination(examination.configuration, read.facts, dropIns: ""))
                judged += 1
            }
        }
        #expect(judged > 50)
    }

    // MARK: sysctl.d(5)

    @Test func theFirstSeparatorOfASettingSeparates() {
        let file = SysctlFile(
            path: "f",
            text: """
                net.ipv4.conf.eth0/100.rp_filter = 1
                net/ipv4/conf/eth0.100/forwarding=0
                ; net.a = 1
                -net.b.c = 2
                -net.d
                net.e
                vm.swappiness = 1
                """
        ) { $0.hasPrefix("net/") }
        let settings = file.settings.map { "\($0.line) \($0.path) \($0.value ?? "-")" }
        #expect(
            settings == [
                "1 net/ipv4/conf/eth0.100/rp_filter 1", "2 net/ipv4/conf/eth0.100/forwarding 0",
                "4 net/b/c 2", "5 net/d -",
            ])
    }

    @Test func anExactSettingCountsBeforeAPatternAndTheLastCounts() {
        func files(_ texts: String...) -> [SysctlFile] {
            texts.enumerated().map { number, text in
                SysctlFile(path: "\(number)", text: text) { _ in true }
            }
        }
        let path = "net/ipv4/conf/shuck0/rp_filter"
        #expect(files("net.ipv4.conf.*.rp_filter=1").value(of: path)?.text == "1")
        #expect(files("net.ipv4.*.rp_filter=1").value(of: path) == nil)
        #expect(files("net.ipv4.conf.sh?ck*.rp_filter=1").value(of: path)?.place == "0:1")
        #expect(
            files("net.ipv4.conf.shuck0.rp_filter=2", "net.ipv4.conf.*.rp_filter=1").value(of: path)?.text
                == "2")
        #expect(
            files("net.ipv4.conf.*.rp_filter=1", "-net.ipv4.conf.shuck0.rp_filter").value(of: path) == nil)
        #expect(
            files("net.ipv4.conf.*.rp_filter=1\n\nnet.ipv4.conf.*.rp_filter=2").value(of: path)?.place
                == "0:3")
    }

    @Test func aFileTakesThePlaceOfOneWithItsNameInALaterDirectory() {
        let order = SysctlFile.order([
            ("/etc/sysctl.d", ["99-a.conf", "README", "50-b.conf"]),
            ("/usr/lib/sysctl.d", ["50-b.conf", "60-c.conf"]),
        ])
        #expect(
            order == ["/etc/sysctl.d/50-b.conf", "/usr/lib/sysctl.d/60-c.conf", "/etc/sysctl.d/99-a.conf"])
    }
}

// MARK: - docs/doctor.md

@Suite struct DoctorReferenceTests {
    private static let path = URL(filePath: #filePath).appending(path: "../../../docs/doctor.md").standardized
    private static let marker = "<!-- conditions -->\n"

    @Test func theDocumentListsEveryCondition() throws {
        let text = try String(contentsOf: Self.path, encoding: .utf8)
        let parts = text.components(separatedBy: Self.marker)
        try #require(parts.count == 2, "docs/doctor.md has one line \(Self.marker)")
        let wanted = try parts[0] + Self.marker + Self.list()
        if ProcessInfo.processInfo.environment["SHUCK_WRITE"] != nil {
            try wanted.write(to: Self.path, atomically: true, encoding: .utf8)
        }
        let isEqual = try String(contentsOf: Self.path, encoding: .utf8) == wanted
        #expect(isEqual, "SHUCK_WRITE=1 swift test --filter DoctorReferenceTests writes docs/doctor.md")
    }

    private static func list() throws -> String {
        try Doctor.conditions.map { condition in
            let examples = try DoctorCase.all.filter { $0.condition == condition.name }.flatMap { one in
                try one.diagnoses().filter { $0.level == one.level && $0.fact.contains(one.fact) }
            }
            let lines = examples.map { diagnosis in
                let level = diagnosis.level.rawValue.padding(toLength: 7, withPad: " ", startingAt: 0)
                let more = [diagnosis.effect, diagnosis.command.map { "> \($0)" }].compactMap(\.self)
                return "\(level)  \(diagnosis.fact)\n" + more.map { "         \($0)\n" }.joined()
            }
            return "\n## \(condition.name)\n\n\(condition.summary)\n\n```\n\(lines.joined())```\n"
        }.joined()
    }
}
