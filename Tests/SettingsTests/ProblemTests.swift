// Each way to be wrong: the exact place, a part of the message, and how many errors in all.

import Testing

@testable import Settings

/// A text that is refused, and an error in it.
struct Bad: Sendable, CustomTestStringConvertible {
    var text: String
    var place: String
    var message: String
    /// How many errors there are in all: one slip must not bring forth others.
    var count = 1
    var testDescription: String { "\(place) \(message)" }
}

private let interfacesLine = "interfaces: [eth0, eth1]\n"
private let tunnelLines = """
    tunnels:
      - name: lvs
        local: [192.0.2.2, "2001:db8:1::2"]
        remotes: [192.0.2.64/26, "2001:db8::/64"]
        destinations: [{prefix: 10.2.1.9}, {prefix: "2001:db8:2::9"}]

    """

/// What is tested stands in line 7, behind six right ones.
private func line7(_ place: String, _ text: String, _ message: String, _ count: Int = 1) -> Bad {
    whole(place, interfacesLine + tunnelLines + text + "\n", message, count)
}

/// Rules that rewrite sources; the first begins in column 26 of line 7.
private func rewrite(_ place: String, _ rules: String, _ message: String) -> Bad {
    line7(place, "inner: {rewriteSources: [\(rules)]}", message)
}

private func whole(_ place: String, _ text: String, _ message: String, _ count: Int = 1) -> Bad {
    Bad(text: text, place: place, message: message, count: count)
}

/// One tunnel in line 3; its keys start in column 6.
private func tunnel(_ place: String, _ keys: String, _ message: String, _ count: Int = 1) -> Bad {
    whole(place, "interfaces: [eth0, eth1]\ntunnels:\n  - {\(keys)}\n", message, count)
}

/// A second tunnel in line 4; the first has IPv4 on eth0 only.
private func second(_ place: String, _ keys: String, _ message: String, _ count: Int = 1) -> Bad {
    let first = "name: a, interfaces: [eth0], local: [10.9.9.1], remotes: [10.1.0.0/16]"
    return tunnel(place, "\(first)}\n  - {name: b, \(keys)", message, count)
}

/// A destination in line 6; its keys start in column 8.
private func destination(
    _ place: String, _ keys: String, _ message: String, _ count: Int = 1
) -> Bad {
    let text = """
        interfaces: [eth0]
        tunnels:
          - {name: a, local: ["2001:db8::1"], remotes: ["2001:db8:1::/64"], destinations: [
              {prefix: 10.2.1.8},
              {prefix: 10.2.1.9, protocol: tcp, ports: [80], mss: 1400},
              {\(keys)}]}
        """
    return whole(place, text, message, count)
}

private let syntax: [Bad] = [
    whole("1:1", "", "is empty"),
    whole("1:1", "# only a comment\n", "is empty"),
    whole("1:1", "- a\n", "not a mapping"),
    whole("1:1", "just text\n", "not a mapping"),
    line7("7:6", "log: [info", "did not find expected ',' or ']'"),
    line7("7:1", "\tlog: {}", "indent with spaces"),
    line7("7:8", "mode: a: b", "mapping values are not allowed"),
    line7("7:7", "mode: @x", "in quotes"),
    line7("7:7", "mode: \"x", "unexpected end of stream"),
    line7("7:7", "mode: *x", "undefined alias"),
    line7("7:1", "---\nmode: active", "another document"),
    line7("7:8", "mode: \"\u{7}\"", "U+0007"),
    line7("7:7", "mode: \u{fffd}", "UTF-8"),
    line7("7:7", "mode: !!int active", "tag"),
    line7("7:1", "[a]: 1", "a key must be a word"),
    line7("7:1", "{a: 1}: 2", "a key must be a word"),
    whole("999:3", "log:\n" + String(repeating: "  [\n", count: 1005), "Maximum nesting level"),
    whole(
        "1:38", "log: " + String(repeating: "[", count: 40) + String(repeating: "]", count: 40),
        "nested more than 32 deep", 2),
]

private let quoting: [Bad] = [
    line7("7:16", "inner: {deny: [2001:db8::]}", "in quotes: \"2001:db8::\""),
    line7("7:16", "inner: {deny: [::1]}", "in quotes: \"::1\""),
    line7("7:16", "inner: {deny: [::/0]}", "in quotes: \"::/0\""),
    line7("7:21", "inner: {deny: [::1, 2001:db8::, ::2]}", "\"2001:db8::\"", 3),
    line7("9:7", "inner:\n  deny:\n    - 2001:db8::", "in quotes: \"2001:db8::\""),
    line7("7:17", "admin: {listen: [::1]:9100}", "in quotes: \"[::1]:9100\""),
    line7("7:17", "icmp: {source6: ::1}", "in quotes: \"::1\""),
]

private let keys: [Bad] = [
    line7("7:1", "mtu: 1500", "mtu: unknown key; the keys here are interfaces, tunnels"),
    line7("7:1", "Mode: active", "did you mean mode?"),
    line7("7:1", "reversepath: {}", "did you mean reversePath?"),
    line7("7:7", "mss: {ip4: auto}", "mss.ip4: unknown key; did you mean ipv4?"),
    line7("7:5", "    remote: [10.0.0.1]", "tunnels[0].remote: unknown key; did you mean remotes?"),
    line7("7:5", "    local: [192.0.2.3]", "tunnels[0].local: written twice"),
    line7(
        "8:1", "mode: active\nmode: shadow",
        "mode: written twice in one mapping, first at line 7"),
    line7("9:1", "mode: active\nmode: shadow\nmode: active", "mode: written twice", 2),
    line7("7:21", "mss: {\"ipv4\": auto, 'ipv4': off}", "mss.ipv4: written twice"),
    line7("7:20", "log: {level: info, level: info, format: text, format: auto}", "log.level", 2),
    line7("7:47", "log: {level: info, level: info, format: text, format: auto}", "log.format", 2),
    line7("7:1", "<<: {mode: active}", "<<: unknown key"),
    line7("7:6", "log: info", "log: \"info\" is not a mapping"),
    line7("7:6", "log: [info]", "log: a list is not a mapping"),
    line7("7:1", "mode:", "mode: nothing is not known"),
]

private let interfaces: [Bad] = [
    whole("1:1", tunnelLines, "interfaces: missing; write interfaces: [eth0]"),
    whole("1:1", interfacesLine, "tunnels: missing"),
    whole("1:1", "mode: active", "interfaces: missing", 2),
    whole("1:13", "interfaces: eth0\n" + tunnelLines, "\"eth0\" is not a list; write [eth0]"),
    whole("1:1", "interfaces:\n" + tunnelLines, "interfaces: nothing is not a list"),
    whole("1:13", "interfaces: []\n" + tunnelLines, "interfaces: the list is empty"),
    whole(
        "1:20",
        "interfaces: [eth0, eth0]\n" + tunnelLines, "interfaces[1]: \"eth0\" is listed twice"),
    whole(
        "1:14",
        "interfaces: [a/b]\n" + tunnelLines, "interfaces[0]: \"a/b\" is not an interface name"),
    whole("1:14", "interfaces: [\"a b\"]\n" + tunnelLines, "leave out spaces"),
    whole("1:14", "interfaces: [sixteen-bytes-xx]\n" + tunnelLines, "write 1 to 15 bytes"),
    whole("1:14", "interfaces: [..]\n" + tunnelLines, "is not an interface name"),
    whole("1:14", "interfaces: [{a: b}]\n" + tunnelLines, "a mapping is not an interface name"),
    whole("2:10", interfacesLine + "tunnels: []", "tunnels: the list is empty"),
    whole("2:10", interfacesLine + "tunnels: {name: a}", "tunnels: a mapping is not a list"),
]

private let tunnels: [Bad] = [
    tunnel("3:5", "name: a, remotes: [10.1.0.0/16]", "tunnels.a.local: missing"),
    tunnel("3:5", "name: a, local: [10.0.0.1]", "tunnels.a.remotes: missing"),
    tunnel("3:5", "local: [10.0.0.1], remotes: [10.1.0.0/16]", "tunnels[0].name: missing"),
    tunnel("3:12", "name: \"a b\", local: [10.0.0.1], remotes: [10.1.0.0/16]", "is not a name"),
    tunnel(
        "3:23", "name: a, local: [10.0.0], remotes: [10.1.0.0/16]",
        "local[0]: \"10.0.0\" is not"),
    tunnel(
        "3:43", "name: a, local: [10.0.0.1], remotes: []",
        "tunnels.a.remotes: the list is empty"),
    tunnel(
        "3:22", "name: a, local: [], remotes: [10.1.0.0/16]",
        "tunnels.a.local: the list is empty"),
    tunnel(
        "3:44", "name: a, local: [10.0.0.1], remotes: [10.0.0.1/8]",
        "write 10.0.0.0/8, or 10.0.0.1"),
    tunnel(
        "3:44", "name: a, local: [10.0.0.1], remotes: [\"2001:db8::1/64\"]",
        "write 2001:db8::/64"),
    tunnel("3:44", "name: a, local: [10.0.0.1], remotes: [10.0.0.0/33]", "from 0 to 32"),
    tunnel("3:44", "name: a, local: [10.0.0.1], remotes: [\"2001:db8::/129\"]", "from 0 to 128"),
    tunnel(
        "3:44", "name: a, local: [10.0.0.1], remotes: [\"::ffff:10.1.1.1\"]",
        "IPv4 address as IPv6"),
    tunnel("3:44", "name: a, local: [10.0.0.1], remotes: [\"10.0.0.2\\0\"]", "is not an IPv4"),
    tunnel("3:44", "name: a, local: [10.0.0.1], remotes: [10.0.0.1]", "cannot be a remote"),
    tunnel(
        "3:47", "name: a, local: [10.0.0.0/24], remotes: [10.0.0.1]",
        "is in tunnels.a.local[0]"),
    tunnel(
        "3:72", "name: a, local: [10.0.0.1], remotes: [10.1.0.0/16], otherRemotes: deny",
        "otherRemotes: \"deny\" is not known; write drop or pass"),
    tunnel(
        "3:72", "name: a, local: [10.0.0.1], remotes: [10.1.0.0/16], modes: [ipip, ip6p]",
        "modes[1]: \"ip6p\" is not known; did you mean ipip?"),
    tunnel(
        "3:65", "name: a, local: [10.0.0.1], remotes: [10.1.0.0/16], modes: []",
        "modes: the list is empty; leave the key out for all four"),
    tunnel(
        "3:34", "name: a, interfaces: [eth0, eth9], local: [10.0.0.1], remotes: [10.1.0.0/16]",
        "interfaces[1]: \"eth9\" is not among interfaces; did you mean eth0?"),
    tunnel(
        "3:27", "name: a, interfaces: [], local: [10.0.0.1], remotes: [10.1.0.0/16]",
        "leave the key out for all interfaces"),
    second("4:5", "local: [10.9.9.1], remotes: [10.1.2.0/24]", "mode ipip; narrow one of them"),
    second(
        "4:5", "local: [10.9.9.0/24], remotes: [10.0.0.0/8]",
        "overlaps tunnels.a at bad.yaml:3:5 on eth0 in local 10.9.9.1/32, remote 10.1.0.0/16"),
    second(
        "4:72", "local: [10.9.9.1], remotes: [10.2.0.0/16], otherRemotes: pass",
        "otherRemotes: pass differs from tunnels.a at bad.yaml:3:5"),
    second("4:44", "local: [10.9.9.2], remotes: [10.9.9.1]", "cannot be a remote"),
    tunnel(
        "4:12",
        "name: a, local: [10.0.0.1], remotes: [10.1.0.0/16]}\n"
            + "  - {name: a, local: [10.0.0.2], remotes: [10.2.0.0/16]", "is the name of the one at"),
]

private let destinations: [Bad] = [
    line7("7:5", "    destinations: []", "tunnels[0].destinations: written twice"),
    tunnel(
        "3:72", "name: a, local: [10.0.0.1], remotes: [10.1.0.0/16], destinations: []",
        "destinations: the list is empty"),
    destination("6:7", "protocol: tcp", "destinations[2].prefix: missing"),
    destination("6:16", "prefix: 10.2.1.0/23", "host bits set; write 10.2.0.0/23"),
    destination("6:36", "prefix: 10.2.1.9, protocol: tpc", "is no protocol; did you mean tcp?"),
    destination("6:36", "prefix: 10.2.1.9, protocol: 256", "256 is no protocol"),
    destination("6:36", "prefix: 10.2.1.9, protocol: gre", "tunnel in the tunnel"),
    destination("6:33", "prefix: 10.2.1.9, ports: [80]", "have ports; write protocol: tcp"),
    destination("6:49", "prefix: 10.2.1.9, protocol: icmp, ports: [80]", "have ports"),
    destination("6:49", "prefix: 10.2.1.9, protocol: tcp, ports: [0]", "ports[0]: 0 is no port"),
    destination("6:49", "prefix: 10.2.1.9, protocol: tcp, ports: [65536]", "65536 is no port"),
    destination("6:49", "prefix: 10.2.1.9, protocol: tcp, ports: [9-3]", "\"9-3\" is no port"),
    destination(
        "6:48", "prefix: 10.2.1.9, protocol: tcp, ports: 80",
        "80 is not a list; write [80]"),
    destination(
        "6:48", "prefix: 10.2.1.9, protocol: tcp, ports: []",
        "leave the key out for any port"),
    destination("6:34", "prefix: 10.2.1.9, device: tun9", "\"tun9\" is not among devices"),
    destination("6:31", "prefix: 10.2.1.9, mss: 1481", "auto, off or a number from 536 to 1480"),
    destination("6:36", "prefix: \"2001:db8::1\", mss: 1441", "a number from 1220 to 1440"),
    destination("6:46", "prefix: 10.2.1.9, protocol: udp, mss: 1400", "is for TCP only"),
    destination("6:26", "prefix: 10.2.1.9, vip: true, protocol: tcp", "vip: unknown key"),
]

private let devices: [Bad] = [
    line7("7:10", "devices: []", "devices: the list is empty"),
    line7("7:11", "devices: [{mtu: 1500}]", "devices[0].name: missing"),
    line7("7:18", "devices: [{name: eth0}]", "is among interfaces"),
    line7("7:18", "devices: [{name: shuck%d}]", "is not an interface name"),
    line7("7:31", "devices: [{name: shuck0, mtu: 70000}]", "a number from 576 to 65535"),
    line7("7:31", "devices: [{name: shuck0, mtu: \"1500\"}]", "without quotes"),
    line7("7:31", "devices: [{name: shuck0, mtu: 0x5dc}]", "is not a number"),
    line7("7:31", "devices: [{name: shuck0, mtu: 01500}]", "starts with 0"),
    line7("7:33", "devices: [{name: shuck0, netns: pod}]", "is not an absolute path"),
    line7("7:33", "devices: [{name: shuck0, netns: ~/pod}]", "is not an absolute path"),
    line7("7:35", "devices: [{name: shuck0, address: 10.0.0.0/24}]", "write /32"),
    line7(
        "7:34", "devices: [{name: shuck0}, {name: shuck0}]",
        "devices[1].name: \"shuck0\" is the name of the one at bad.yaml:7:18"),
]

private let packets: [Bad] = [
    line7("7:21", "reversePath: {mode: loos}", "did you mean loose?"),
    line7("7:21", "reversePath: {mode: on}", "off, loose, loose-no-default, feasible or strict"),
    line7("7:34", "reversePath: {interfaces: {eth0: 1}}", "reversePath.interfaces.eth0: 1"),
    line7("7:24", "reversePath: {exempt: [10.0.0.1/8]}", "reversePath.exempt[0]"),
    line7("7:13", "mss: {ipv4: 535}", "mss.ipv4: 535 is out of range; write auto, off or a number"),
    line7("7:13", "mss: {ipv4: 1481}", "536 to 1480"),
    line7("7:13", "mss: {ipv4: -5}", "out of range"),
    line7("7:13", "mss: {ipv4: 99999999999999999999}", "out of range"),
    line7("7:13", "mss: {ipv6: 1219}", "1220 to 1440"),
    line7("7:13", "mss: {ipv6: 1441}", "1220 to 1440"),
    line7("7:13", "mss: {ipv6: full}", "\"full\" is not a number"),
    line7("7:16", "mss: {replies: tc}", "off or nft"),
    line7("7:14", "outer: {ecn: uniform}", "standard, copy or pipe"),
    line7("7:15", "outer: {dscp: copy}", "pipe or uniform"),
    line7("7:14", "outer: {ttl: {}}", "a mapping is not known"),
    line7("7:30", "outer: {fragments: {timeout: 30}}", "30 has no unit"),
    line7("7:30", "outer: {fragments: {timeout: 30 s}}", "\"30 s\" is not a duration"),
    line7("7:30", "outer: {fragments: {timeout: 10m}}", "out of range; write 1s to 5m"),
    line7("7:29", "outer: {fragments: {memory: 4M}}", "is not a size"),
    line7("7:29", "outer: {fragments: {memory: 1KiB}}", "out of range"),
    line7("7:29", "outer: {fragments: {memory: 99999999999GiB}}", "is not a size"),
    line7("7:19", "inner: {martians: maybe}", "drop or pass"),
    line7("7:15", "inner: {deny: 10.0.0.0/8}", "write [10.0.0.0/8]"),
    line7(
        "7:33",
        "inner: {rewriteSources: [{from: 10.0.0.1, to: \"2001:db8::1\", interface: eth0}]}",
        "10.0.0.1\" is IPv4; only IPv6 sources are rewritten"),
    rewrite(
        "7:33", "{from: \"fe80::/10\", to: \"2001:db8::1\", interface: eth0}",
        "is more than one address; write one, as fe80::/128"),
    rewrite(
        "7:33", "{from: \"ff02::1\", to: \"2001:db8::1\", interface: eth0}",
        "is nobody's source"),
    rewrite(
        "7:33", "{from: \"::\", to: \"2001:db8::1\", interface: eth0}",
        "is nobody's source"),
    rewrite(
        "7:48", "{from: \"fe80::1\", to: \"fe80::2\", interface: eth0}",
        "is link-local, which no router forwards; write a global one"),
    rewrite(
        "7:48", "{from: \"fe80::1\", to: \"ff0e::2\", interface: eth0}",
        "is no unicast address"),
    rewrite(
        "7:48", "{from: \"fe80::1\", to: \"2001:db8::/64\", interface: eth0}",
        "is more than one address; write one, as 2001:db8::/128"),
    rewrite(
        "7:48", "{from: \"fe80::1\", to: 192.0.2.1, interface: eth0}",
        "is IPv4; only IPv6 sources are rewritten, so write IPv6"),
    rewrite(
        "7:26", "{from: \"fe80::1\", interface: eth0}",
        "inner.rewriteSources[0].to: missing; write to: \"2001:db8::1\""),
    rewrite(
        "7:74", "{from: \"fe80::1\", to: \"2001:db8::1\", interface: eth9}",
        "\"eth9\" is not among interfaces"),
    rewrite(
        "7:48", "{from: \"fe80::1\", to: \"2001:db8:1::2\", interface: eth0}",
        "2001:db8:1::2 is in tunnels.lvs.local; write an address that nothing else has"),
    rewrite(
        "7:48", "{from: \"fe80::1\", to: \"2001:db8:2::9\", interface: eth0}",
        "2001:db8:2::9 is in tunnels.lvs.destinations"),
    rewrite(
        "7:103",
        "{from: \"fe80::1\", to: \"2001:db8::1\", interface: eth0}, "
            + "{from: \"fe80::2\", to: \"2001:db8::1\", interface: eth1}",
        "is also that of the rule at bad.yaml:7:26, so answers could not be told apart"),
    rewrite(
        "7:81",
        "{from: \"fe80::1\", to: \"2001:db8::1\", interface: eth0}, "
            + "{from: \"fe80::1\", to: \"2001:db8::2\", interface: eth0}",
        "never matches, since the rule at bad.yaml:7:26 has the same from and interface"),
]

private let daemon: [Bad] = [
    line7("7:23", "icmp: {ratePerSecond: -1}", "0 to 1000000"),
    line7("7:15", "icmp: {burst: 0}", "1 to 1000000"),
    line7("7:17", "icmp: {source4: \"2001:db8::1\"}", "is not an IPv4 address"),
    line7("7:17", "icmp: {source6: 10.0.0.1}", "write auto or an IPv6 address"),
    line7("7:28", "limits: {packetsPerSecond: 1000000001}", "write off or a number from 1"),
    line7("7:21", "limits: {perRemote: 0}", "write off or a number from 1"),
    line7("7:17", "workers: {cpus: \"0-3,3\"}", "each once"),
    line7("7:17", "workers: {cpus: [0, 1]}", "is not a CPU list"),
    line7("7:17", "workers: {cpus: 9999}", "is not a CPU list"),
    line7("7:21", "workers: {busyPoll: 50}", "has no unit"),
    line7("7:21", "workers: {busyPoll: 2s}", "write 0us to 1s"),
    line7("7:21", "workers: {coalesce: 1}", "write on or off"),
    line7("7:10", "consume: xdp", "auto, bpf, socket or off"),
    line7("7:7", "mode: shaddow", "did you mean shadow?"),
    line7("7:9", "probes: [10.0.0.1]", "probes: a list is not supported by this version"),
    line7("7:17", "admin: {socket: shuck.sock}", "is not an absolute path"),
    line7(
        "7:17", "admin: {socket: /" + String(repeating: "x", count: 107) + "}",
        "at most 107 bytes"),
    line7("7:17", "admin: {listen: 9100}", "is not HOST:PORT"),
    line7("7:15", "admin: {mode: 1777}", "is not a mode; write three octal digits"),
    line7("7:15", "admin: {mode: 0680}", "is not a mode"),
    line7("7:15", "admin: {mode: \"00600\"}", "is not a mode"),
    line7("7:16", "admin: {group: a b}", "is not a group; write null, a name or a number"),
    line7("7:23", "admin: {listenStatus: maybe}", "on or off"),
    line7("7:17", "admin: {listen: \"*:9100\"}", "is not HOST:PORT"),
    line7("7:17", "admin: {listen: \"::1:9100\"}", "is not HOST:PORT"),
    line7("7:17", "admin: {listen: localhost:0}", "is not HOST:PORT"),
    line7("7:14", "log: {level: warn}", "did you mean"),
    line7("7:15", "log: {format: xml}", "auto, text, json or journal"),
]

private let all =
    syntax + quoting + keys + interfaces + tunnels + destinations + devices + packets + daemon

@Suite struct ProblemTests {
    @Test(arguments: all)
    func isRefusedAtItsPlace(_ bad: Bad) {
        let (configuration, problems) = Configuration.load(files: [("bad.yaml", bad.text)])
        let errors = problems.filter { $0.severity == .error }
        #expect(configuration == nil)
        #expect(errors.count == bad.count, "\(errors)")
        #expect(
            errors.contains {
                $0.description.hasPrefix("bad.yaml:\(bad.place): ")
                    && $0.message.contains(bad.message)
            }, "\(errors)")
    }

    @Test func everyProblemIsReportedAtOnceInOrder() {
        let text = "mode: x\ninterfaces: [eth0]\nlog: {level: y}\ntunnels: [{name: 1 1}]\nfoo: 1\n"
        let (_, problems) = Configuration.load(files: [("a", text)])
        #expect(
            problems.map { "\($0.line):\($0.column)" } == [
                "1:7", "3:14", "4:11", "4:11", "4:11", "4:18", "5:1",
            ])
    }

    @Test func warningsSaySo() {
        let text =
            "interfaces: [eth0]\ntunnels: [{name: a, local: [10.0.0.1], remotes: [0.0.0.0/0]}]"
        let (configuration, problems) = Configuration.load(files: [("f.yaml", text)])
        #expect(configuration != nil)
        #expect(
            problems.map(\.description) == [
                "f.yaml:2:11: warning: tunnels.a.destinations: missing, so any inner destination is "
                    + "let in; write the prefixes that are served here",
                "f.yaml:2:50: warning: tunnels.a.remotes[0]: 0.0.0.0/0 lets anyone encapsulate; "
                    + "write the balancers' prefixes",
            ])
    }

    @Test("remotes around an own address are the nodes' network: a warning, for an overlay may share it")
    func remotesHoldNeighbours() {
        func warnings(_ remotes: String) -> [String] {
            let text = """
                interfaces: [eth0]
                tunnels: [{name: a, local: [192.0.2.2], remotes: [\(remotes)],
                  destinations: [{prefix: 10.0.0.1}]}]

                """
            let (configuration, problems) = Configuration.load(files: [("f.yaml", text)])
            #expect(configuration != nil)
            return problems.map(\.description)
        }
        #expect(
            warnings("192.0.2.64/28, 192.0.2.0/24") == [
                "f.yaml:2:66: warning: tunnels.a.remotes[1]: 192.0.2.0/24 holds 192.0.2.2 of "
                    + "tunnels.a.local[0], so other nodes as well; IP-in-IP between nodes (an overlay "
                    + "such as Calico's) would be taken for the balancers'; write the balancers' prefixes"
            ])
        #expect(warnings("192.0.2.64/28, 192.0.2.3, 172.16.0.0/12") == [])
    }

    @Test(arguments: [
        ("reversePath: {interfaces: {eth7: loose}}", "7:28", "eth7 is not among interfaces"),
        ("devices: [{name: shuck0, mtu: 1000}]", "7:31", "switches IPv6 off"),
    ])
    func isAcceptedWithAWarning(_ text: String, _ place: String, _ message: String) {
        let whole = interfacesLine + tunnelLines + text
        let (configuration, problems) = Configuration.load(files: [("f", whole)])
        #expect(configuration != nil)
        #expect(problems.count == 1 && problems[0].severity == .warning)
        #expect(problems.first?.description.hasPrefix("f:\(place): warning: ") == true)
        #expect(problems.first?.message.contains(message) == true)
    }

    @Test func aFamilyOnOneSideOnlyIsWarnedOf() {
        let text = """
            interfaces: [eth0]
            tunnels:
              - {name: a, local: [10.0.0.1, "2001:db8::1"], remotes: [10.1.0.0/16],
                 destinations: [{prefix: 10.2.1.9}, {prefix: 10.2.1.9}]}
            """
        let (_, problems) = Configuration.load(files: [("f", text)])
        #expect(problems.map { "\($0.line):\($0.column)" } == ["3:33", "4:41"])
        #expect(problems[0].message.contains("remotes has no IPv6 address"))
        #expect(problems[1].message.contains("never matches, since the one at f:4:21 is equal"))
    }

    @Test("a name that a drop-in gives twice is a slip, also where the main file has it")
    func aDropInGivesANameOnce() {
        let tunnel =
            "{name: a, local: [192.0.2.2], remotes: [192.0.2.64/26], destinations: [{prefix: 10.0.0.1}]}"
        func problems(_ dropIn: String) -> [String] {
            let main = "interfaces: [eth0]\ntunnels: [\(tunnel)]\n"
            return Configuration.load(files: [("m", main), ("d", dropIn)]).problems.map(\.description)
        }
        #expect(problems("devices: [{name: shuck0, mtu: 1400}]\n") == [])
        #expect(
            problems("devices:\n- {name: shuck0}\n- {name: shuck0}\n") == [
                "d:3:10: devices[1].name: \"shuck0\" is the name of the one at d:2:10 too; choose another"
            ])
        // The first of the two is laid over the main file's tunnel.
        let twice = problems("tunnels:\n- {name: a, modes: [ipip]}\n- \(tunnel)\n")
        #expect(
            twice.contains(
                "d:3:10: tunnels[1].name: \"a\" is the name of the one at d:2:10 too; choose another"),
            "\(twice)")
    }
}
