// shuck doctor as a command: facts from files, usage, exit codes. What it judges is tested in HostPlanTests.

import Foundation
import Testing

@Suite struct DoctorCommandTests {
    private let configuration = """
        interfaces: [eth0]
        tunnels:
          - {name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26], destinations: [{prefix: 10.2.1.9}]}

        """

    /// Facts of a host whose only link is up, and whose forwarding is as given.
    private func facts(forwards: Bool, version: Int = 1) throws -> String {
        let link: [String: Any] = [
            "index": 2, "name": "eth0", "mtu": 1500, "isUp": true, "hardwareType": 1, "group": 0, "master": 0,
            "vrfTable": 0, "lower": 0, "kind": "", "otherNames": [String](),
            "state": ["flags": 65603, "carrierChanges": 0, "master": 0],
        ]
        let settings: [String: Any] = ["forwardsIPv4": forwards, "forwardsIPv6": true, "isIPv6Off": false]
        let facts: [String: Any] = [
            "links": [link], "cpus": [0], "settings": settings, "namespaces": [String: String](),
        ]
        let document: [String: Any] = [
            "version": version, "shuck": "0", "configuration": configuration, "facts": facts,
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: document), as: UTF8.self)
    }

    @Test func factsWithoutEnd() throws {
        let endless = try Shell().shuck("doctor", "--facts", "/dev/zero")
        #expect(endless.code == 1)
        #expect(endless.error == "shuck: /dev/zero has more than 512 MiB: name a smaller file\n")
    }

    @Test func pipesAreReadAndNotWaitedForWithoutEnd() throws {
        let shell = try Shell()
        try shell.write("facts.json", facts(forwards: true))
        let idle = try shell.script("mkfifo pipe; \"$SHUCK\" doctor --facts pipe")
        #expect(idle.code == 1 && idle.error == "shuck: nothing writes to the pipe pipe: name a file\n")
        let configuration = try shell.script("\"$SHUCK\" check --config pipe")
        #expect(configuration.code == 1)
        #expect((configuration.output + configuration.error).contains("a pipe to which nothing writes"))
        let late = try shell.script("(sleep 0.3; cat facts.json >pipe) & \"$SHUCK\" doctor --facts pipe")
        #expect(late.code == 0, "\(late)")
        // A writer that is there, and takes longer than shuck waits for one.
        let slow = try shell.script("(sleep 2.5; cat facts.json) | \"$SHUCK\" doctor --facts /dev/stdin")
        #expect(slow.code == 0, "\(slow)")
    }

    @Test func savedFactsGiveLinesAndAnExitCode() throws {
        let shell = try Shell()
        try shell.write("good.json", facts(forwards: true))
        try shell.write("bad.json", facts(forwards: false))
        let good = try shell.shuck("doctor", "--facts", "good.json")
        #expect(good.code == 0, "\(good)")
        #expect(good.output.contains("ok       forwarding"))
        let bad = try shell.shuck("doctor", "--facts", "bad.json")
        #expect(bad.code == 1)
        #expect(bad.output.contains("net.ipv4.ip_forward is 0"))
        #expect(bad.output.contains("> sysctl -w net.ipv4.ip_forward=1"))
        let json = try shell.shuck("doctor", "--facts", "bad.json", "--json")
        let report = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect(json.code == 1 && report?["problems"] as? Int == 1)
    }

    @Test func factsOfThisHostCanBeSavedAndJudged() throws {
        let shell = try Shell()
        try shell.write("c.yaml", configuration)
        let here = try shell.shuck("doctor", "--config", "c.yaml", "--save-facts", "facts.json")
        // It holds addresses and rules of the host.
        #expect(try shell.script("stat -c %a facts.json; ls | grep partial").output == "600\n")
        let refused = try shell.shuck("doctor", "--config", "c.yaml", "--save-facts", "none/facts.json")
        #expect(refused.code == 1 && refused.error.contains("none/facts.json could not be written"))
        let there = try shell.shuck("doctor", "--facts", "facts.json")
        #expect(here.output == there.output && here.code == there.code)
        let printed = try shell.shuck("doctor", "--config", "c.yaml", "--save-facts", "-")
        #expect(printed.output.hasPrefix("{") && printed.output.hasSuffix("}\n"))
    }

    @Test(.enabled(if: geteuid() == 0, "needs root"))
    func printedCommandsHoldInAnyDirectory() throws {
        let shell = try Shell()
        try shell.write("facts.json", facts(forwards: true))
        try shell.write("a c.yaml", configuration + "mss: {ipv4: 1460}\n")
        let sizes = try shell.shuck("doctor", "--facts", "facts.json", "--config", "a c.yaml")
        #expect(sizes.output.contains("> mkdir -p '\(shell.path("a c.d"))' && echo"), "\(sizes)")
        // Without privileges the same files are to be judged.
        let user = try shell.script(
            "setpriv --inh-caps=-all --bounding-set=-all \"$SHUCK\" doctor --config 'a c.yaml'")
        let commands = user.output.split(separator: "\n").filter { $0.contains("> sudo shuck doctor") }
        #expect(!commands.isEmpty, "\(user)")
        #expect(commands.allSatisfy { $0.hasSuffix(" --config '\(shell.path("a c.yaml"))'") }, "\(commands)")
    }

    @Test(.enabled(if: geteuid() == 0, "needs root"))
    func withoutARouteTheAssumedInterfaceIsNamed() throws {
        // A namespace with lo alone, and no /etc/shuck.
        let empty = try Shell().script(
            """
            mkdir etc
            exec unshare -nm sh -c 'mount --bind etc /etc && exec "$0" doctor' "$SHUCK"
            """)
        #expect(
            empty.error.contains(
                "no default route leaves by an Ethernet interface that is up, so eth0 is assumed\n"),
            "\(empty)")
        #expect(empty.output.contains("there is no interface eth0"))
    }

    @Test func otherFilesAreRefused() throws {
        let shell = try Shell()
        try shell.write("later.json", facts(forwards: true, version: 99))
        try shell.write("other.json", "{}")
        try shell.write("bad.yaml", "interfaces: 1")
        let later = try shell.shuck("doctor", "--facts", "later.json")
        #expect(later.code == 1 && later.error.contains("later.json has version 99 of the facts"))
        let other = try shell.shuck("doctor", "--facts", "other.json")
        #expect(other.code == 1 && other.error.contains("other.json holds no facts"))
        #expect(try shell.shuck("doctor", "--facts", "none.json").code == 1)
        let bad = try shell.shuck("doctor", "--config", "bad.yaml")
        #expect(bad.code == 1 && bad.output.hasPrefix("bad.yaml:1:"))
        #expect(try shell.shuck("doctor", "--facts", "a", "--save-facts", "b").code == 2)
        #expect(try shell.shuck("doctor", "--nonsense").code == 2)
    }
}
