// The list of nft(8) as doctor reads it: chains, hooks, sets on one line, comments, jumps.

import Testing

@testable import HostPlan

@Suite struct FilterRulesetTests {
    private let lines = """
        table inet filter { # handle 1
        \tset ports { # handle 2
        \t\ttype inet_service
        \t\telements = { 80, 443 }
        \t}

        \tchain forward { # handle 1
        \t\ttype filter hook forward priority filter; policy drop;
        \t\ticmp type { echo-request, 3 } drop comment "accept all" # handle 9
        \t\tiifname "docker*" jump docker # handle 10
        \t\tiifname != "shuck0" jump others # handle 11
        \t\ttcp flags syn / syn,ack jump {
        \t\t\tdrop
        \t\t} # handle 19
        \t\tjump mine # handle 20
        \t}

        \tchain docker { # handle 3
        \t\tdrop # handle 30
        \t}

        \tchain others { # handle 4
        \t}

        \tchain mine { # handle 5
        \t\tip protocol != 6 drop # handle 31
        \t}
        }
        table ip nat { # handle 2
        \tchain mine { # handle 1
        \t}
        }
        """.split(separator: "\n").map(String.init)

    @Test func chainsHaveTheirHookPolicyAndRules() throws {
        let chains = FilterRuleset(lines).chains
        #expect(
            chains.map(\.place) == [
                "inet filter forward", "inet filter docker", "inet filter others", "inet filter mine",
                "ip nat mine",
            ])
        let forward = try #require(chains.first)
        #expect(forward.hook == "forward" && forward.dropsByPolicy)
        #expect(forward.rules.map(\.handle) == [9, 10, 11, 0, 20])
        #expect(chains[1].hook == nil && !chains[1].dropsByPolicy)
    }

    @Test func aRuleAnswersByItsWords() throws {
        let rule = try #require(FilterRuleset(lines).chains.first?.rules.first)
        #expect(rule.refuses && !rule.accepts)
        #expect(rule.matches("icmp type", ["3"]) == true)
        #expect(rule.matches("icmp type", ["4"]) == false)
        #expect(rule.matches("icmpv6 type", ["4"]) == nil)
        let inverted = FilterRule("ip protocol != { 6, 17 } drop # handle 5")
        #expect(inverted.matches("ip protocol", ["6"]) == false)
        #expect(inverted.matches("ip protocol", ["1"]) == true)
        let state = FilterRule("ct state invalid,new drop")
        #expect(state.matches("ct state", ["invalid"]) == true && state.handle == 0)
    }

    @Test func aMapOfVerdictsAnswersPerValue() {
        let rule = FilterRule("ct state vmap { invalid : drop, related : accept, new : jump others }")
        #expect(rule.refuses("ct state", ["invalid"]) && !rule.refuses("ct state", ["related"]))
        #expect(rule.accepts("ct state", ["related"]) && !rule.accepts("ct state", ["new"]))
        #expect(rule.targets == ["others"] && rule.values("ct state") == nil)
        let named = FilterRule("iifname vmap { \"eth0\" : jump a, \"shuck0\" : goto b }")
        #expect(named.concerns("shuck0") && named.targets == ["a", "b"])
        #expect(!FilterRule("ct state vmap {").refuses("ct state", ["invalid"]))
    }

    @Test(
        "an ICMP error that connection tracking knows passes a later rule against ICMP",
        arguments: [
            ("ct state established,related accept", 0), ("ct state vmap { related : accept }", 0),
            ("ct state established accept", 1), ("ct state related counter", 1),
        ])
    func relatedErrorsPass(earlier: String, count: Int) throws {
        let lines = [
            "table inet t {", "chain c {", "type filter hook forward priority 0; policy accept;", earlier,
            "ip protocol 1 drop # handle 4", "}", "}",
        ]
        let examination = try DoctorHost.examination { _, details in details.ruleset = lines }
        let found = Doctor.diagnoses(examination).filter { $0.condition == "filter-icmp" && $0.level != .ok }
        #expect(found.count == count)
    }

    @Test func aRuleConcernsTheDevicesThatItDoesNotExclude() {
        #expect(FilterRule("iifname \"shuck*\" accept").names("shuck0"))
        #expect(!FilterRule("iifname { \"eth0\", \"eth1\" } drop").concerns("shuck0"))
        #expect(!FilterRule("iifname != \"shuck0\" drop").concerns("shuck0"))
        #expect(FilterRule("drop").concerns("shuck0") && !FilterRule("drop").names("shuck0"))
    }

    @Test func chainsAreReachedByJumpsThatConcernTheDevice() {
        let ruleset = FilterRuleset(lines)
        #expect(ruleset.chains(at: ["forward"], from: "shuck0").map(\.name) == ["forward", "mine"])
        #expect(
            ruleset.chains(at: ["forward"], from: "docker1").map(\.name) == [
                "forward", "docker", "others", "mine",
            ])
        #expect(ruleset.chains(at: ["input"], from: "shuck0").isEmpty)
    }

    @Test func tenThousandChainsAreWalkedOnce() throws {
        var lines = [
            "table ip nat {", "chain first {", "type filter hook forward priority 0; policy accept;",
        ]
        lines += (0..<10_000).map { "ip daddr 10.0.\($0 / 256).\($0 % 256) jump service\($0)" } + ["}"]
        for number in 0..<10_000 {
            lines += ["chain service\(number) {", "jump service\((number + 1) % 10_000)", "}"]
        }
        let ruleset = FilterRuleset(lines + ["}"])
        #expect(ruleset.chains(at: ["forward"], from: "shuck0").count == 10_001)
    }

    @Test func anythingIsReadWithoutAFault() {
        let fragments = [
            "table", "table inet t {", "chain c {", "{", "}", "type filter hook", "jump", "ct state", "#",
        ]
        for first in fragments {
            for second in fragments {
                for third in fragments { _ = FilterRuleset([first, second, third, "}", "}", "}"]) }
            }
        }
    }
}
