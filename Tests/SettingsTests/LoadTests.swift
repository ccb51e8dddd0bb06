// What right files become: values, defaults, the policy, merged drop-ins, and text again.

import Forwarding
import IP
import Testing

@testable import Settings

/// Every key, mostly with another value than its default.
let everyKey = """
    interfaces: [eth0, bond1.20]
    tunnels:
      - name: lvs
        interfaces: [eth0]
        local: [192.0.2.2, "2001:db8::2"]
        remotes: [192.0.2.64/26, "2001:db8:1::/64"]
        otherRemotes: pass
        modes: [ipip, ip6ip6]
        destinations:
          - {prefix: 10.2.1.9/32, protocol: tcp, ports: [80, 443, "8000-8010"], device: pod1,
             mss: 1400}
          - {prefix: "2001:db8:2::/64", protocol: 132}
          - prefix: 10.2.1.10
            mss: off
      - {name: any.2, local: [198.51.100.0/24], remotes: [203.0.113.7]}
    devices:
      - {name: shuck0, mtu: 9000, netns: null, address: 127.0.0.42/32}
      - name: pod1
        netns: /run/netns/pod1
        address: "fd00::1"
    reversePath:
      mode: loose-no-default
      interfaces: {eth0: Off, bond1.20: feasible}
      exempt: [10.9.0.0/16]
    mss: {ipv4: 1300, ipv6: NO, replies: off}
    outer:
      ecn: copy
      dscp: uniform
      ttl: uniform
      fragments: {memory: 524288, timeout: 1m}
    inner:
      martians: pass
      deny: [10.0.0.0/8, "fe80::/10"]
      rewriteSources:
        - {from: "fe80::1234:5678:9abc/128", to: "2603:1062:0:1:fe80:1234:5678:9abc",
           interface: bond1.20}
    icmp: {ratePerSecond: 0, burst: 7, source4: 192.0.2.2, source6: "2001:db8::2"}
    limits: {packetsPerSecond: 250000, perRemote: off}
    workers: {cpus: "8,0-3", busyPoll: 50us, coalesce: no}
    consume: off
    mode: shadow
    probes: []
    admin: {socket: "/run/a b.sock", listen: "[::1]:9100"}
    log: {level: trace, format: json}

    """

private let minimal = """
    interfaces: [eth0]
    tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26]}]

    """

private func load(_ texts: String...) -> (configuration: Configuration?, problems: [Problem]) {
    Configuration.load(files: texts.enumerated().map { (name: "f\($0)", text: $1) })
}

@Suite struct LoadTests {
    @Test func aMinimalFileHasTheDefaults() throws {
        let (loaded, problems) = load(minimal)
        let tunnel = Configuration.Tunnel(
            name: "lvs", interfaces: ["eth0"], local: [Prefix("192.0.2.2")!],
            remotes: [Prefix("192.0.2.64/26")!])
        #expect(loaded == Configuration(interfaces: ["eth0"], tunnels: [tunnel]))
        #expect(problems.allSatisfy { $0.severity == .warning })
        let configuration = try #require(loaded)
        #expect(configuration.devices == [.init(name: "shuck0")])
        #expect(configuration.devices[0].mtu == 1500)
        #expect(configuration.devices[0].address.text == "127.0.0.42/32")
        #expect(configuration.outer.fragments.memory == 4 << 20)
        #expect(configuration.outer.fragments.timeout == .seconds(30))
        #expect(configuration.admin.socket == "/run/shuck/shuck.sock")
    }

    @Test func everyKeyIsRead() throws {
        let (loaded, problems) = load(everyKey)
        let configuration = try #require(loaded, "\(problems)")
        let lvs = configuration.tunnels[0]
        #expect(lvs.interfaces == ["eth0"])
        #expect(lvs.otherRemotes == .pass)
        #expect(lvs.modes == [.ipip, .ip6ip6])
        #expect(
            lvs.destinations == [
                .init(
                    prefix: Prefix("10.2.1.9")!, protocolNumber: 6,
                    ports: [80...80, 443...443, 8000...8010], device: "pod1", mss: .fixed(1400)),
                .init(prefix: Prefix("2001:db8:2::/64")!, protocolNumber: 132, device: "shuck0"),
                .init(prefix: Prefix("10.2.1.10")!, device: "shuck0", mss: .off),
            ])
        #expect(configuration.tunnels[1].interfaces == ["eth0", "bond1.20"])
        #expect(configuration.devices.map(\.name) == ["shuck0", "pod1"])
        #expect(configuration.devices.map(\.mtu) == [9000, 1500])
        #expect(configuration.devices[1].address.text == "fd00::1/128")
        #expect(configuration.reversePath.mode == .looseNoDefault)
        #expect(configuration.reversePath.interfaces == ["eth0": .off, "bond1.20": .feasible])
        #expect(configuration.reversePath.exempt.map(\.text) == ["10.9.0.0/16"])
        #expect(configuration.mss.ipv4 == .fixed(1300))
        #expect(configuration.mss.ipv6 == .off)
        #expect(configuration.outer.ecn == .copy)
        #expect(configuration.outer.dscp == .uniform)
        #expect(configuration.outer.ttl == .uniform)
        #expect(configuration.outer.fragments.memory == 524288)
        #expect(configuration.outer.fragments.timeout == .seconds(60))
        #expect(configuration.inner.martians == .pass)
        #expect(configuration.inner.deny.map(\.text) == ["10.0.0.0/8", "fe80::/10"])
        #expect(
            configuration.inner.rewriteSources == [
                .init(
                    from: Prefix("fe80::1234:5678:9abc")!,
                    to: Address("2603:1062:0:1:fe80:1234:5678:9abc")!, interface: "bond1.20")
            ])
        #expect(configuration.policy.rewrites.map(\.interface) == [1])
        #expect(configuration.icmp.ratePerSecond == 0)
        #expect(configuration.icmp.burst == 7)
        #expect(configuration.icmp.source4?.text == "192.0.2.2")
        #expect(configuration.icmp.source6?.text == "2001:db8::2")
        #expect(configuration.workers.cpus == [0, 1, 2, 3, 8])
        #expect(configuration.workers.busyPoll == .microseconds(50))
        #expect(configuration.workers.coalesce == false)
        #expect(configuration.consume == .off)
        #expect(configuration.mode == .shadow)
        #expect(configuration.admin.socket == "/run/a b.sock")
        #expect(configuration.admin.listen == .init(host: "::1", port: 9100))
        #expect(configuration.log.level == .trace)
        #expect(configuration.log.format == .json)
    }

    @Test(arguments: [minimal, everyKey])
    func theEffectiveTextLoadsAgainToTheSame(_ text: String) throws {
        let configuration = try #require(load(text).configuration)
        let (again, problems) = load(configuration.yaml)
        #expect(again == configuration, "\(problems) \(configuration.yaml)")
        #expect(again?.yaml == configuration.yaml)
    }

    @Test func emptyMappingsAndAliasesAreAccepted() throws {
        #expect(load("admin:\nicmp: {}\n" + minimal).configuration == load(minimal).configuration)
        let aliased = """
            interfaces: &all [eth0]
            tunnels: [{name: lvs, interfaces: *all, local: [192.0.2.2], remotes: [192.0.2.64/26]}]
            """
        #expect(load(aliased).configuration == load(minimal).configuration)
    }

    @Test func ipv6NeedsNoQuotesWhereYAMLNeedsNone() {
        let text = minimal + "inner: {deny: [2001:db8::2, fe80::/10]}"
        let deny = load(text).configuration?.inner.deny
        #expect(deny?.map(\.text) == ["2001:db8::2/128", "fe80::/10"])
    }

    @Test func tunnelsThatShareOnlyLocalAreFine() {
        let text = """
            interfaces: [eth0, eth1]
            tunnels:
              - {name: a, local: [10.9.9.1], remotes: [10.1.0.0/16]}
              - {name: b, local: [10.9.9.1], remotes: [10.2.0.0/16]}
              - {name: c, local: ["2001:db8::1"], remotes: ["2001:db8:1::/64"], modes: [ipip6]}
              - {name: d, local: ["2001:db8::1"], remotes: ["2001:db8:1::/64"], modes: [ip6ip6]}
              - {name: e, interfaces: [eth0], local: [10.9.9.2], remotes: [10.2.0.0/16]}
              - {name: f, interfaces: [eth1], local: [10.9.9.2], remotes: [10.2.0.0/16]}
            """
        #expect(load(text).problems.filter { $0.severity == .error }.isEmpty)
    }

    @Test func aByteOrderMarkAndWindowsLineEndsAreRead() {
        let text = "\u{feff}" + minimal.replacing("\n", with: "\r\n") + "log: {level: x}\r\n"
        #expect(load(text).problems.last?.description.hasPrefix("f0:3:14: log.level") == true)
    }

    @Test func noFileIsAProblem() {
        let (configuration, problems) = Configuration.load(files: [])
        #expect(configuration == nil && problems.count == 1)
    }
}

@Suite struct PolicyTests {
    @Test func namesBecomeIndices() throws {
        let policy = try #require(load(everyKey).configuration).policy
        #expect(
            policy.interfaces == [
                .init(name: "eth0", reversePath: .off), .init(name: "bond1.20", reversePath: .feasible),
            ])
        #expect(
            policy.devices == [
                .init(name: "shuck0", mtu: 9000), .init(name: "pod1", mtu: 1500, isElsewhere: true),
            ])
        #expect(policy.tunnels.map(\.interfaces) == [[0], [0, 1]])
        #expect(policy.tunnels[0].destinations.map(\.device) == [1, 0, 0])
        #expect(policy.tunnels[0].passOtherRemotes && !policy.tunnels[1].passOtherRemotes)
        #expect(policy.mssIPv4 == .fixed(1300) && policy.mssIPv6 == .off)
        #expect(policy.ecn == .copy && policy.dscp == .uniform && policy.ttl == .uniform)
        #expect(!policy.dropMartians)
        #expect(policy.denySources.count == 2 && policy.exemptSources.count == 1)
    }

    @Test func whatIsMadeByHandMayLeaveNamesOut() {
        let tunnel = Configuration.Tunnel(
            name: "a", local: [.allIPv4], remotes: [.allIPv4],
            destinations: [.init(prefix: .allIPv4)])
        let policy = Configuration(interfaces: ["x", "y"], tunnels: [tunnel]).policy
        #expect(policy.tunnels[0].interfaces == [0, 1])
        #expect(policy.tunnels[0].destinations[0].device == 0)
    }
}

@Suite struct MergeTests {
    @Test func mappingsMergeAndScalarsAndListsAreReplaced() throws {
        let (loaded, problems) = load(
            everyKey, "mss: {ipv4: auto}\ninner: {deny: [10.7.0.0/16]}\nadmin:\n", "mode: active")
        let configuration = try #require(loaded, "\(problems)")
        #expect(configuration.mss.ipv4 == .auto && configuration.mss.ipv6 == .off)
        #expect(configuration.inner.deny.map(\.text) == ["10.7.0.0/16"])
        #expect(configuration.inner.martians == .pass)
        #expect(configuration.mode == .active)
        #expect(configuration.admin.socket == "/run/a b.sock")
    }

    @Test func theLaterFileWins() {
        #expect(load(minimal, "mode: shadow", "mode: active").configuration?.mode == .active)
    }

    @Test func namedMappingsMergeByNameAndDestinationsAppend() throws {
        let pod = """
            devices: [{name: shuck0, mtu: 1400}, {name: pod2}]
            tunnels:
              - {name: lvs, destinations: [{prefix: 10.2.1.11, device: pod2}]}
              - {name: new, local: [192.0.2.3], remotes: [192.0.2.64/26]}
            """
        let (loaded, problems) = load(everyKey, pod)
        let configuration = try #require(loaded, "\(problems)")
        #expect(configuration.tunnels.map(\.name) == ["lvs", "any.2", "new"])
        #expect(configuration.tunnels[0].destinations.count == 4)
        #expect(configuration.tunnels[0].destinations[3].device == "pod2")
        #expect(configuration.tunnels[0].modes == [.ipip, .ip6ip6])
        #expect(configuration.devices.map(\.name) == ["shuck0", "pod1", "pod2"])
        #expect(configuration.devices[0].mtu == 1400)
    }

    @Test func anEmptyListInTheMainFileWaitsForDropIns() {
        let main = """
            interfaces: [eth0]
            tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26], destinations: []}]
            """
        #expect(load(main).configuration == nil)
        let pod = "tunnels: [{name: lvs, destinations: [{prefix: 10.2.1.9}]}]"
        #expect(load(main, pod).configuration?.tunnels[0].destinations.count == 1)
    }

    @Test func eachProblemStandsInItsOwnFile() {
        let (_, problems) = load(
            minimal + "mss: {ipv4: 1}\n", "# a comment\nmss: {ipv6: 1}\n",
            "tunnels:\n  - {name: lvs, destinations: [{prefix: x}]}\n", "mode: [\n", "- a\n")
        #expect(
            problems.map { "\($0.file):\($0.line):\($0.column)" } == [
                "f0:3:13", "f1:2:13", "f2:2:41", "f3:1:7", "f4:1:1",
            ])
    }

    @Test func aFileThatIsNotYAMLHidesNoneOfTheRestAndIsNotMissed() {
        let (configuration, problems) = load("interfaces: [eth0\n", "mode: x")
        #expect(configuration == nil)
        #expect(problems.map(\.file) == ["f0", "f1"])
    }
}

@Suite struct DifferenceTests {
    private func differences(_ old: String, _ new: String) throws -> [String] {
        let old = try #require(load(old).configuration)
        let new = try #require(load(new).configuration)
        return new.differences(from: old)
    }

    @Test func equalConfigurationsHaveNone() throws {
        #expect(try differences(everyKey, everyKey).isEmpty)
    }

    @Test(arguments: [
        (
            "192.0.2.64/26", "192.0.2.64/27",
            [
                "tunnels.lvs.remotes: [192.0.2.64/26, \"2001:db8:1::/64\"] -> "
                    + "[192.0.2.64/27, \"2001:db8:1::/64\"]"
            ]
        ),
        ("ipv4: 1300", "ipv4: auto", ["mss.ipv4: 1300 -> auto"]),
        ("eth0: Off, ", "", ["reversePath.interfaces.eth0: off -> (none)"]),
        ("mtu: 9000", "mtu: 1500", ["devices.shuck0.mtu: 9000 -> 1500"]),
        ("name: any.2", "name: other", ["tunnels.any.2: removed", "tunnels.other: added"]),
        ("timeout: 1m", "timeout: 90s", ["outer.fragments.timeout: 1m -> 90s"]),
        (
            "cpus: \"8,0-3\"", "cpus: \"0-3\"",
            ["workers.cpus: \"0-3,8\" -> \"0-3\" (needs a restart)"]
        ),
        ("\"[::1]:9100\"", "null", ["admin.listen: \"[::1]:9100\" -> null (needs a restart)"]),
        (
            "prefix: 10.2.1.10", "prefix: 10.2.1.11",
            [
                "tunnels.lvs.destinations: removed "
                    + "{prefix: 10.2.1.10/32, protocol: any, device: shuck0, mss: off}",
                "tunnels.lvs.destinations: added "
                    + "{prefix: 10.2.1.11/32, protocol: any, device: shuck0, mss: off}",
            ]
        ),
    ])
    func oneChangeIsOneLine(_ old: String, _ new: String, _ lines: [String]) throws {
        let changed = everyKey.replacing(old, with: new)
        #expect(try differences(everyKey, changed) == lines)
    }

    @Test func whatARunningOneCannotTakeUpIsNamed() throws {
        let new = try #require(load(everyKey).configuration)
        let old = try #require(load(minimal).configuration)
        #expect(new.differences(from: old).count > 20)
        let keys = new.changesNeedingRestart(from: old).map { $0.prefix { $0 != ":" } }
        #expect(keys == ["workers.cpus", "admin.socket", "admin.listen"])
    }

    @Test func anotherOrderIsADifference() throws {
        let tunnels = [
            "{name: a, local: [10.9.9.1], remotes: [10.1.0.0/16]}",
            "{name: b, local: [10.9.9.2], remotes: [10.1.0.0/16]}",
        ]
        let texts = [tunnels, tunnels.reversed()].map {
            "interfaces: [eth0]\ntunnels: [\($0.joined(separator: ", "))]"
        }
        #expect(try differences(texts[0], texts[1]) == ["tunnels: order [a, b] -> [b, a]"])
    }

    /// The first that matches counts.
    @Test func anotherOrderOfDestinationsIsADifference() throws {
        let destinations = ["{prefix: 10.2.1.9}", "{prefix: 10.2.1.0/24}"]
        let texts = [destinations, destinations.reversed()].map {
            "interfaces: [eth0]\ntunnels: [{name: a, local: [10.9.9.1], remotes: [10.1.0.0/16], "
                + "destinations: [\($0.joined(separator: ", "))]}]"
        }
        #expect(
            try differences(texts[0], texts[1]) == ["tunnels.a.destinations: order changed"])
    }
}

@Suite struct TextTests {
    @Test(arguments: [
        "0.0.0.0/0", "192.0.2.1/32", "10.0.0.0/8", "::/0", "2001:db8::/32", "fe80::1/128",
    ])
    func prefixesComeBack(_ text: String) { #expect(Prefix(text)?.text == text) }

    @Test(arguments: [
        "", "/", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/8/8", "1.2.3",
        "010.0.0.0", "fe80::1%eth0", "::ffff:10.0.0.1", "::ffff:0:0/96", "10.0.0.0/33", " 10.0.0.1",
        "2001:db8::/129", "2001:db8::1/32", "eth0", "10.0.0.1\0",
    ])
    func whatIsNoPrefixIsNil(_ text: String) { #expect(Prefix(text) == nil) }

    @Test func aBareAddressIsAHostPrefix() {
        #expect(Prefix("192.0.2.1") == Prefix(host: Address("192.0.2.1")!))
        #expect(Address("2001:DB8:0::1")?.text == "2001:db8::1")
        #expect(Address("192.0.2.1")?.isIPv4 == true)
    }

    @Test(arguments: ["0us", "5us", "1500us", "5ms", "30s", "90s", "1m", "2h"])
    func durationsComeBack(_ text: String) {
        #expect(ValueSyntax.duration(text).map(ValueSyntax.durationText) == text)
    }

    @Test(arguments: ["0", "1", "64KiB", "4MiB", "1GiB", "1025"])
    func sizesComeBack(_ text: String) { #expect(ValueSyntax.size(text).map(ValueSyntax.sizeText) == text) }
}
