// Files of probe targets: the tuples that follow, and each way to be wrong with its exact place.

import IP
import Probing
import Testing

@testable import Settings

private let good = """
    outerSources: [192.0.2.1, "2001:db8:1::1"]
    innerSources: [198.51.100.1, "2001:db8:c::1"]
    realservers:
      - {name: node1, addresses: [192.0.2.2, "2001:db8:1::2"]}
      - {name: node2, addresses: [192.0.2.3]}
    services:
      - {name: web, addresses: [203.0.113.4, "2001:db8:f::4"], ports: [80, 443]}
      - {name: dns, addresses: ["2001:db8:f::6"], protocol: udp, ports: [53], realservers: [node2]}
      - {name: ping, addresses: [203.0.113.6], protocol: icmp, realservers: [node1]}

    """

private func wrong(_ text: String) -> [String] {
    let (targets, problems) = ProbeTargets.load(name: "t.yaml", text: text)
    #expect(targets == nil)
    return problems.map(\.description)
}

@Suite struct ProbeTargetTests {
    @Test func everyServiceIsAskedOfEveryRealserver() throws {
        let (targets, problems) = ProbeTargets.load(name: "t.yaml", text: good)
        #expect(problems.isEmpty)
        let tuples = try #require(targets).tuples
        #expect(targets?.tupleCount == tuples.count)
        let texts = tuples.map { tuple in
            "\(tuple.service) \(tuple.realserver) \(tuple.flow.mode) \(tuple.flow.probeProtocol) "
                + "\(tuple.flow.port)"
        }
        #expect(
            texts == [
                "web node1 ipip tcp 80", "web node1 ipip6 tcp 80", "web node2 ipip tcp 80",
                "web node1 ipip tcp 443", "web node1 ipip6 tcp 443", "web node2 ipip tcp 443",
                "web node1 ip6ip tcp 80", "web node1 ip6ip6 tcp 80", "web node2 ip6ip tcp 80",
                "web node1 ip6ip tcp 443", "web node1 ip6ip6 tcp 443", "web node2 ip6ip tcp 443",
                "dns node2 ip6ip udp 53", "ping node1 ipip icmp 0", "ping node1 ipip6 icmp 0",
            ])
        let first = try #require(tuples.first).flow
        let addresses = [
            first.outerSource, first.outerDestination, first.innerSource, first.innerDestination,
        ]
        #expect(addresses.map(\.text) == ["192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.4"])
    }

    @Test func modesLeaveTuplesOut() throws {
        let (targets, _) = ProbeTargets.load(name: "t.yaml", text: good + "modes: [ipip, ip6ip6]\n")
        let modes = try #require(targets).tuples.map(\.flow.mode)
        #expect(modes.count == 7)
        #expect(targets?.tupleCount == 7)
        #expect(Set(modes) == [.ipip, .ip6ip6])
    }

    @Test(arguments: [
        (
            "192.0.2.3]", "192.0.2.300]",
            "5:31: realservers.node2.addresses[0]: \"192.0.2.300\" is not an "
                + "address; write an IPv4 or IPv6 address"
        ),
        (
            "[192.0.2.1, ", "[0.0.0.0, ",
            "1:16: outerSources[0]: \"0.0.0.0\" is no host's address; write one that is"
        ),
        (
            "ports: [80, 443]", "ports: [80, 65536]",
            "7:72: services.web.ports[1]: 65536 is out of range; "
                + "write a number from 1 to 65535 (port)"
        ),
        (", ports: [53]", "", "8:5: services.dns.ports: missing; write ports: [443], or protocol: icmp"),
        (
            "protocol: icmp", "protocol: icmp, ports: [1]",
            "9:67: services.ping.ports: ICMP has no ports; remove the key, or write protocol: tcp"
        ),
        (
            "realservers: [node2]", "realservers: [node]",
            "8:89: services.dns.realservers[0]: \"node\" is "
                + "not among realservers; did you mean node1?"
        ),
        (
            "protocol: udp", "protocol: sctp",
            "8:57: services.dns.protocol: \"sctp\" is not known; write tcp, udp or icmp"
        ),
        (
            "192.0.2.1, ", "192.0.2.1, 192.0.2.9, ",
            "1:15: outerSources: a list holds 2 IPv4 addresses; write one of each family"
        ),
        (
            "[198.51.100.1, \"2001:db8:c::1\"]", "[198.51.100.1]",
            "7:42: services.web.addresses[1]: "
                + "innerSources has no IPv6 address to ask 2001:db8:f::4 from; add one, or leave this out"
        ),
        (
            "[192.0.2.1, \"2001:db8:1::1\"]", "[192.0.2.1]",
            "4:42: realservers.node1.addresses[1]: "
                + "outerSources has no IPv6 address to ask 2001:db8:1::2 from; add one, or leave this out"
        ),
        (
            "name: node2", "name: node1",
            "5:12: realservers[1].name: \"node1\" is the name of the one at "
                + "t.yaml:4:12 too; choose another"
        ),
        ("services:", "service:", "6:1: service: unknown key; did you mean services?"),
    ])
    func everyProblemHasItsPlaceAndRemedy(_ right: String, _ bad: String, _ problem: String) {
        let problems = wrong(good.replacing(right, with: bad))
        #expect(problems.contains("t.yaml:\(problem)"), "\(problems)")
    }

    /// 256 ports on 256 realservers are as many as there may be.
    @Test func tuplesAreBounded() throws {
        func text(ports: Int) -> String {
            let hosts = (0..<256).map { "  - {name: node\($0), addresses: [192.0.2.\($0 == 0 ? 1 : $0)]}" }
            let numbers = (1...ports).map(String.init).joined(separator: ", ")
            return """
                outerSources: [192.0.2.1]
                innerSources: [198.51.100.1]
                realservers:
                \(hosts.joined(separator: "\n"))
                services:
                  - {name: web, addresses: [203.0.113.4], ports: [\(numbers)]}

                """
        }
        let (targets, _) = ProbeTargets.load(name: "t.yaml", text: text(ports: 256))
        #expect(try #require(targets).tupleCount == 65_536)
        #expect(
            wrong(text(ports: 257)) == [
                "t.yaml:261:3: services: they make 65792 tuples of service, port and realserver, more than "
                    + "65536; split the file"
            ])
    }

    @Test func whatNobodyWouldAskIsWrong() {
        let text = good.replacing(", \"2001:db8:1::2\"", with: "") + "modes: [ipip6, ip6ip6]\n"
        let remedy = "add modes, or addresses of their family"
        #expect(wrong(text) == ["t.yaml:7:3: services: none can be asked in these modes; \(remedy)"])
    }

    @Test func filesThatAreNone() {
        let keys = "outerSources, innerSources, realservers and services"
        #expect(wrong("") == ["t.yaml:1:1: the file is empty; write \(keys)"])
        #expect(wrong("- a\n") == ["t.yaml:1:1: the file is not a mapping; write \(keys)"])
        #expect(wrong("a: [\n").count == 1)
    }
}
