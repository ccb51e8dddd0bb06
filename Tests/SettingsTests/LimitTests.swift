// Each bound of a configuration: what is at it loads, one more is refused at its place with the remedy.

import Forwarding
import Foundation
import IP
import Testing

@testable import Settings

@Suite struct LimitTests {
    private static func text(
        interfaces: String = "[eth0]", local: String = "[192.0.2.2]", remotes: String = "[192.0.2.9]",
        destinations: String = "[{prefix: 10.2.1.9}]", more: String = ""
    ) -> String {
        """
        interfaces: \(interfaces)
        tunnels:
          - name: lvs
            local: \(local)
            remotes: \(remotes)
            destinations: \(destinations)
        \(more)
        """
    }

    private static func list(_ count: Int, _ item: (Int) -> String) -> String {
        "[" + (0..<count).map(item).joined(separator: ", ") + "]"
    }

    private static func address(_ number: Int, _ first: Int = 10) -> String {
        "\(first).\(number >> 16 & 255).\(number >> 8 & 255).\(number & 255)"
    }

    private static func expectLimit(
        _ limit: Limit, line: Int, _ path: String, _ text: (Int) -> String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        for count in [limit.value - 1, limit.value] {
            let (configuration, problems) = Configuration.load(files: [("a.yaml", text(count))])
            #expect(
                configuration != nil, "\(count): \(problems.prefix(2))", sourceLocation: sourceLocation)
        }
        let (configuration, problems) = Configuration.load(
            files: [("a.yaml", text(limit.value + 1))])
        #expect(configuration == nil, sourceLocation: sourceLocation)
        let errors = problems.filter { $0.severity == .error }
        #expect(errors.count == 1, "\(errors.prefix(3))", sourceLocation: sourceLocation)
        guard let error = errors.first else { return }
        #expect(error.line == line, "\(error)", sourceLocation: sourceLocation)
        let message =
            "\(path): \(limit.value + 1) \(limit.unit) are too many; write at most \(limit.value), "
            + "because \(limit.why); \(limit.remedy)"
        #expect(error.message == message, sourceLocation: sourceLocation)
    }

    @Test func interfaces() {
        Self.expectLimit(Limits.interfaces, line: 1, "interfaces[256]") { count in
            Self.text(interfaces: Self.list(count) { "e\($0)" })
        }
    }

    @Test func devices() {
        Self.expectLimit(Limits.devices, line: 1032, "devices[1024]") { count in
            Self.text(
                more: "devices:\n"
                    + (0..<count).map { "  - {name: d\($0)}\n" }.joined())
        }
    }

    @Test func tunnels() {
        Self.expectLimit(Limits.tunnels, line: 1027, "tunnels[1024]") { count in
            "interfaces: [eth0]\ntunnels: [\n"
                + (0..<count).map {
                    "  {name: t\($0), local: [\(Self.address($0))], remotes: [192.0.2.9], "
                        + "destinations: [{prefix: 10.2.1.9}]},\n"
                }.joined() + "]\n"
        }
    }

    @Test func ports() {
        Self.expectLimit(
            Limits.ports, line: 6, "tunnels.lvs.destinations[0].ports[4096]"
        ) { count in
            Self.text(
                destinations:
                    "[{prefix: 10.2.1.9, protocol: tcp, ports: \(Self.list(count) { "\($0 + 1)" })}]")
        }
    }

    @Test func rewrites() {
        Self.expectLimit(
            Limits.rewrites, line: 7, "inner.rewriteSources[64]"
        ) { count in
            let rules = Self.list(count) {
                "{from: \"fe80::\($0 + 1)/128\", to: \"2001:db8:9::\($0 + 1)\", interface: eth0}"
            }
            return Self.text(more: "inner: {rewriteSources: \(rules)}")
        }
    }

    @Test func workers() {
        Self.expectLimit(Limits.workers, line: 7, "workers.cpus") { count in
            Self.text(more: "workers: {cpus: \"0-\(count - 1)\"}")
        }
    }

    @Test func rings() {
        let load = { (interfaces: Int, cpus: Int) in
            Configuration.load(
                files: [
                    (
                        "a.yaml",
                        Self.text(
                            interfaces: Self.list(interfaces) { "e\($0)" },
                            more: "workers: {cpus: \"0-\(cpus - 1)\"}")
                    )
                ])
        }
        for (interfaces, cpus) in [(93, 11), (256, 4)] {
            #expect([Limits.rings.value - 1, Limits.rings.value].contains(interfaces * cpus))
            #expect(load(interfaces, cpus).configuration != nil)
        }
        #expect(load(205, 5).configuration == nil)
        let error = load(205, 5).problems.first { $0.severity == .error }
        #expect(error?.message == "workers.cpus: \(Limits.rings.refusal(of: 1025))")
        #expect(error?.line == 7)
    }

    /// How many of a tunnel's destinations, and of its prefixes, are refused; without a text, for
    /// reading a hundred thousand lines takes seconds.
    private static func refusals(destinations: Int = 1, remotes: Int = 1) -> [String] {
        let report = Report(fileNames: ["a.yaml"])
        let loader = Loader(report: report)
        let place = Position(file: 0, line: 1, column: 1)
        let prefixes = (0..<max(destinations, remotes)).map {
            Prefix(host: Address(ipv4: 0x0a00_0000 + UInt32($0)))
        }
        var tunnel = Configuration.Tunnel(name: "lvs", local: [prefixes[0]], remotes: [])
        tunnel.destinations = prefixes.prefix(destinations).map { .init(prefix: $0) }
        func list(_ count: Int) -> Value {
            let items = prefixes.prefix(count).map {
                Value(position: place, content: .scalar($0.text, plain: true))
            }
            return Value(position: place, content: .list(items))
        }
        let section = Section(
            path: "tunnels.lvs", position: place, loader: loader,
            entries: [("local", 1), ("remotes", remotes)].map { key, count in
                Value.Entry(key: key, position: place, value: list(count))
            })
        loader.note(section)
        let isRight = loader.checkCounts([TunnelDraft(tunnel, section)], Configuration())
        #expect(isRight == report.problems.isEmpty)
        return report.problems.map(\.message)
    }

    @Test func destinations() {
        for count in [Limits.destinations.value - 1, Limits.destinations.value] {
            #expect(Self.refusals(destinations: count) == [])
        }
        let message = Limits.destinations.refusal(of: 65_536)
        #expect(
            Self.refusals(destinations: 65_536) == ["tunnels.lvs.destinations: \(message)"])
    }

    @Test func prefixes() {
        // One in local.
        for count in [Limits.prefixes.value - 2, Limits.prefixes.value - 1] {
            #expect(Self.refusals(remotes: count) == [])
        }
        let message = Limits.prefixes.refusal(of: Limits.prefixes.value + 1)
        #expect(Self.refusals(remotes: Limits.prefixes.value) == ["tunnels.lvs.remotes: \(message)"])
        let deny = Self.list(Limits.prefixes.value) { Self.address($0) }
        let (configuration, problems) = Configuration.load(
            files: [("a.yaml", Self.text(more: "inner: {deny: \(deny)}"))])
        #expect(configuration == nil)
        let errors = problems.filter { $0.severity == .error }
        #expect(errors.map(\.line) == [7])
        #expect(errors.map(\.message) == ["inner.deny: \(Limits.prefixes.refusal(of: 131_074))"])
    }

    /// Rules are copied to each prefix within theirs.
    @Test func nestedPrefixes() {
        // So many destinations of one prefix, and one more within it.
        let text = { (wide: Int, narrow: Int, others: Int) in
            let rules =
                (0..<wide).map { "{prefix: 10.0.0.0/8, protocol: tcp, ports: [\($0 + 1)]}" }
                + (0..<narrow).map { "{prefix: \(Self.address($0))}" }
            // Each is in a list of its own.
            let more = (0..<others).map { "{prefix: \(Self.address($0, 11))}" }
            return Self.text(destinations: "[" + (rules + more).joined(separator: ", ") + "]")
        }
        // wide + narrow × (wide + 1)
        let (wide, narrow) = (1023, 1023)
        #expect(wide + narrow * (wide + 1) == Limits.nestedPrefixes.value - 1)
        for others in 0...2 {
            let (configuration, problems) = Configuration.load(files: [("a", text(wide, narrow, others))])
            #expect((configuration != nil) == (others < 2), "\(others)")
            let errors = problems.filter { $0.severity == .error }.map(\.message)
            let message = Limits.nestedPrefixes.refusal(of: Limits.nestedPrefixes.value + 1)
            #expect(errors == (others < 2 ? [] : ["tunnels.lvs.destinations: \(message)"]))
        }
    }

    /// Lists are compared with lists by what they hold, not one by one.
    @Test func manyPrefixesAreCheckedAgainstMany() {
        let count = 3000
        let text = { (remote: Int) in
            """
            interfaces: [eth0]
            tunnels:
              - name: a
                local: \(Self.list(count) { Self.address($0, 10) })
                remotes: \(Self.list(count) { Self.address($0, 11) })
                destinations: [{prefix: 10.200.1.9}]
              - name: b
                local: \(Self.list(count) { Self.address($0, 12) })
                remotes: [\(Self.address(remote, 12)), \(Self.address(count, 11))]
                destinations: [{prefix: 10.200.1.9}]
              - name: c
                local: [\(Self.address(count - 1, 10)), 192.0.2.2]
                remotes: [\(Self.address(count - 1, 11)), 192.0.2.9]
                destinations: [{prefix: 10.200.1.9}]
            """
        }
        let errors = { (text: String) in
            Configuration.load(files: [("a.yaml", text)]).problems
                .filter { $0.severity == .error }.map(\.description)
        }
        let overlap =
            "a.yaml:11:5: tunnels.c: overlaps tunnels.a at a.yaml:3:5 on eth0 in local "
            + "10.0.11.183/32, remote 11.0.11.183/32 and mode ipip; narrow one of them"
        #expect(errors(text(count)) == [overlap])
        #expect(
            errors(text(7)) == [
                "a.yaml:9:15: tunnels.b.remotes[0]: 12.0.0.7 is in tunnels.b.local[7], and an own "
                    + "address cannot be a remote; remove it from one of them",
                overlap,
            ])
    }

    @Test func everyBoundIsDescribed() throws {
        let root = URL(filePath: #filePath).appending(path: "../../..").standardized
        let text = try String(
            contentsOf: root.appending(path: "docs/configuration.md"), encoding: .utf8)
        for limit in Limits.table {
            #expect(text.contains("| \(limit.unit) | \(limit.value) |"), "\(limit.unit)")
        }
    }
}
