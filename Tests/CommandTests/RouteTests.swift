// shuck replay --routes: what `ip -j route` says, as the reverse path sees it.

import Testing

@Suite struct RouteTests {
    /// The reasons of frames of all four modes, "" for injected, against files of routes and rules.
    private func reasons(
        _ files: [String], rules: [String] = [], configuration: String = "",
        interface: String = "eth0"
    ) throws -> (reasons: [String], error: String) {
        let shell = try Shell()
        try shell.write("c.yaml", Sample.configuration + configuration)
        try shell.write(
            "in.pcap", CaptureText.pcap(Record.numbered(Sample.allModes), link: 101))
        var names: [String] = []
        for (index, text) in files.enumerated() {
            names.append("r\(index).json")
            try shell.write(names[index], text)
        }
        var ruleNames: [String] = []
        for (index, text) in rules.enumerated() {
            ruleNames.append("l\(index).json")
            try shell.write(ruleNames[index], text)
        }
        let outcome = try shell.run(
            [
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                "--verdicts", "-", "--interface", interface, "--routes",
            ] + names + (rules.isEmpty ? [] : ["--rules"] + ruleNames))
        let reasons = outcome.output.split(separator: "\n").map { line -> String in
            guard let range = line.range(of: #""reason":""#) else { return "" }
            return String(line[range.upperBound...].prefix { $0 != "\"" })
        }
        return (outcome.code == 0 ? reasons : ["exit code \(outcome.code)"], outcome.error)
    }

    private let all = ["", "", "", ""]
    private let noIPv4 = ["ip_rpfilter", "", "ip_rpfilter", ""]
    private let noIPv6 = ["", "ip_rpfilter", "", "ip_rpfilter"]

    /// As iproute2 6.1 prints them, `ip -j route show table all` with both families.
    private let whole = """
        [{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},\
        {"dst":"192.0.2.0/24","dev":"eth0","protocol":"kernel","scope":"link",\
        "prefsrc":"192.0.2.2","flags":[]},\
        {"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local","protocol":"kernel",\
        "scope":"host","prefsrc":"127.0.0.1","flags":[]},\
        {"type":"broadcast","dst":"192.0.2.255","dev":"eth0","table":"local","flags":[]},\
        {"dst":"fd00::/64","dev":"eth0","protocol":"kernel","metric":256,"flags":[],\
        "pref":"medium"},\
        {"dst":"default","gateway":"fd00::1","dev":"eth0","metric":1024,"flags":[],\
        "pref":"medium"},\
        {"type":"unreachable","dst":"default","dev":"lo","table":"unspec",\
        "metric":4294967295,"flags":[],"pref":"medium"},\
        {"type":"unreachable","dst":"::ffff:0.0.0.0/96","dev":"lo","metric":1024,"flags":[],\
        "pref":"medium"},\
        {"type":"multicast","dst":"ff00::/8","dev":"eth0","table":"local","metric":256,\
        "flags":[],"pref":"medium"}]

        """

    @Test func bothFamiliesInOneFile() throws {
        let (found, error) = try reasons([whole])
        #expect(found == all)
        #expect(!error.contains("reverse path"), "\(error)")
        // The same routes, for what came in on another interface.
        #expect(
            try reasons([whole], interface: "eth1").reasons
                == ["ip_rpfilter", "ip_rpfilter", "ip_rpfilter", "ip_rpfilter"])
        #expect(
            try reasons(
                [whole], configuration: "reversePath: {interfaces: {eth1: loose}}\n",
                interface: "eth1"
            ).reasons == all)
    }

    @Test func oneFileAFamily() throws {
        let four = #"[{"dst":"default","dev":"eth0","scope":"link","flags":[]}]"#
        let six = #"[{"dst":"default","dev":"eth0","metric":1024,"pref":"medium"}]"#
        #expect(try reasons([four, six]).reasons == all)
        #expect(try reasons([six, four]).reasons == all)
        let (found, error) = try reasons([four])
        #expect(found == noIPv6)
        #expect(error.contains("shuck: --routes hold none of IPv6: no inner IPv6 source has"))
        // Without a hint of its own, a default is of the family of the file's other routes.
        let bare = #"[{"dst":"default","dev":"eth0"},{"dst":"fd00::/64","dev":"eth0"}]"#
        #expect(try reasons([bare]).reasons == noIPv4)
    }

    @Test func multipathAndMetric() throws {
        func routes(_ metric: Int, _ other: String = "eth1") -> String {
            """
            [{"dst":"198.51.100.0/24","metric":\(metric),"flags":[],"nexthops":[
              {"gateway":"192.0.2.1","dev":"eth1","weight":1,"flags":[]},
              {"gateway":"192.0.2.9","dev":"eth0","weight":1,"flags":[]}]},
             {"dst":"198.51.100.0/24","dev":"\(other)","metric":20},
             {"dst":"2001:db8:9::/64","metric":1,"flags":[],"pref":"medium","nexthops":[
              {"gateway":"fe80::1","dev":"eth1","weight":1,"flags":[]},
              {"gateway":"fe80::2","dev":"eth0","weight":1,"flags":[]}]}]
            """
        }
        #expect(try reasons([routes(10)]).reasons == all)
        // Now the other route is preferred.
        #expect(try reasons([routes(30)]).reasons == noIPv4)
        #expect(
            try reasons([routes(30)], configuration: "reversePath: {mode: feasible}\n").reasons
                == all)
        // Behind a device that is no uplink are pods, whatever the mode.
        for mode in ["strict", "feasible", "loose", "off"] {
            #expect(
                try reasons(
                    [routes(30, "other7")], configuration: "reversePath: {mode: \(mode)}\n"
                ).reasons == ["ip_local_source", "", "ip_local_source", ""], "\(mode)")
        }
    }

    /// As `ip -j route` prints routes that FRR installs, without and with -d, and `ip -j nexthop`.
    @Test func nexthopObjects() throws {
        let routes = """
            [{"dst":"default","nhid":20,"flags":[]},
             {"dst":"default","nhid":12,"metric":1024,"flags":[],"pref":"medium"}]
            """
        func nexthops(_ device: String) -> String {
            """
            [{"id":10,"gateway":"192.0.2.1","dev":"eth1","scope":"link","flags":[]},
             {"id":11,"gateway":"192.0.3.1","dev":"\(device)","scope":"link","flags":[]},
             {"id":12,"gateway":"2001:db8:1::1","dev":"\(device)","scope":"link","flags":[]},
             {"id":13,"blackhole":null,"flags":[]},
             {"id":20,"group":[{"id":10},{"id":11,"weight":2}],"flags":[]}]
            """
        }
        let none = [String](repeating: "ip_rpfilter", count: 4)
        #expect(try reasons([routes, nexthops("eth0")]).reasons == all)
        #expect(try reasons([nexthops("eth0"), routes]).error.contains("nhid") == false)
        #expect(try reasons([nexthops("eth7"), routes]).reasons == none)
        let (found, error) = try reasons([routes])
        #expect(found == none)
        #expect(
            error.contains(
                """
                shuck: 2 routes use nexthop objects that no file holds, as nhid 20, and lead nowhere here: \
                add the output of `ip -j nexthop` to --routes
                """), "\(error)")
        // -d tells of single ones, and of a group its members' numbers.
        let detailed = """
            [{"type":"unicast","dst":"default","nhid":12,"table":"main","protocol":"boot","metric":1024,
              "flags":[],"pref":"medium","nh_info":{"id":12,"gateway":"2001:db8:1::1","dev":"eth0"}},
             {"type":"blackhole","dst":"198.51.100.0/24","nhid":13,"table":"main","flags":[],
              "nh_info":{"id":13,"scope":"global","blackhole":null}},
             {"type":"unicast","dst":"default","dev":"eth0","table":"main","flags":[]}]
            """
        #expect(try reasons([detailed]).reasons == noIPv4)
        // Where the kernel says both, as nexthop_compat_mode has it.
        let both = """
            [{"dst":"default","nhid":20,"flags":[],"nexthops":[{"dev":"eth0","flags":[]}]},
             {"dst":"default","nhid":12,"dev":"eth0","metric":1024,"pref":"medium"}]
            """
        #expect(try reasons([both]).reasons == all)
        #expect(try reasons([both]).error.isEmpty == false)
    }

    /// What the kernel does not answer with, the daemon does not have.
    @Test func deadRoutesAndSourcePrefixes() throws {
        let dead = """
            [{"dst":"default","dev":"eth0","flags":["dead","linkdown"]},
             {"dst":"::/0","dev":"eth0","metric":1,"flags":["dead"],"pref":"medium"},
             {"dst":"0.0.0.0/0","dev":"eth1","metric":9,"flags":[]},
             {"dst":"::/0","dev":"eth1","metric":9,"flags":["linkdown"],"pref":"medium"}]
            """
        #expect(try reasons([dead], interface: "eth1").reasons == all)
        // Of several nexthops IPv4 counts the dead, IPv6 does not; when all are dead none does.
        func hops(_ other: String) -> String {
            """
            [{"dst":"default","flags":[],"nexthops":[{"dev":"eth0","flags":["dead"]},
              {"via":{"family":"inet6","host":"fe80::1"},"dev":"eth1","flags":[\(other)]}]},
             {"dst":"::/0","flags":[],"pref":"medium","nexthops":[{"dev":"eth0","flags":["dead"]},
              {"dev":"eth1","flags":[\(other)]}]}]
            """
        }
        #expect(try reasons([hops("")]).reasons == noIPv6)
        let none = [String](repeating: "ip_rpfilter", count: 4)
        #expect(try reasons([hops(#""dead""#)]).reasons == none)
        let specific = """
            [{"dst":"0.0.0.0/0","dev":"eth0"},
             {"dst":"::/0","from":"2001:db8:7::/64","dev":"eth0","metric":1,"pref":"medium"}]
            """
        let (found, error) = try reasons([specific])
        #expect(found == noIPv6)
        #expect(error.contains("shuck: 1 IPv6 routes with a source prefix are not followed"))
    }

    /// Groups and VRFs, and of cooked v2 captures the interfaces' names.
    @Test func links() throws {
        let links = """
            [{"ifindex":7,"ifname":"eth0","flags":["UP"],"group":"7","master":"red","mtu":1500},
             {"ifindex":9,"ifname":"eth1","flags":["UP"],"group":"default","mtu":1500},
             {"ifindex":8,"ifname":"red","group":"default",
              "linkinfo":{"info_kind":"vrf","info_data":{"table":100}}}]
            """
        let routes = #"""
            [{"dst":"0.0.0.0/0","dev":"eth0","table":100},{"dst":"::/0","dev":"eth0","table":100}]
            """#
        let vrf = """
            [{"priority":0,"src":"all","table":"local"},
             {"priority":1000,"src":"all","l3mdev":null},
             {"priority":32766,"src":"all","table":"main"}]
            """
        let (found, error) = try reasons([routes, links], rules: [vrf])
        #expect(found == noIPv4, "\(error)")
        let missing = try reasons([routes], rules: [vrf]).error
        #expect(missing.contains("no file tells of VRFs; add the output of"))
        let main = #"[{"dst":"0.0.0.0/0","dev":"eth0"},{"dst":"::/0","dev":"eth0"}]"#
        let group = four(#""src":"all","table":"main","suppress_ifgroup":"7""#)
            .replacing(#"{"priority":32766,"src":"all","table":"main"},"#, with: "")
        #expect(try reasons([main, links], rules: [group]).reasons == noIPv4)
        #expect(try reasons([main], rules: [group]).reasons == all)
    }

    @Test func eachPacketsOwnInterface() throws {
        let shell = try Shell()
        try shell.write("c.yaml", Sample.configuration)
        let packets = [0, 1].map {
            (interface: $0, time: UInt64(1), bytes: Link.ethernet.frame(Sample.allModes[0]))
        }
        let routes = #"[{"dst":"0.0.0.0/0","dev":"eth1"},{"dst":"::/0","dev":"eth1"}]"#
        let links = #"[{"ifindex":3,"ifname":"eth0"},{"ifindex":4,"ifname":"eth1"}]"#
        try shell.write("r.json", routes)
        try shell.write("l.json", links)
        let named = CaptureText.pcapng(interfaces: [(1, "eth0"), (1, "eth1")], packets: packets)
        let frames = [3, 4].map { index -> Record in
            var bytes = Link.cooked2.frame(Sample.allModes[0])
            bytes.replaceSubrange(4..<8, with: be32(index))
            return Record(bytes: bytes)
        }
        let cooked = CaptureText.pcap(frames, link: 276)
        func verdicts(_ capture: [UInt8], _ more: [String]) throws -> ([String], String) {
            try shell.write("in.pcap", capture)
            let outcome = try shell.run(
                [
                    "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                    "--verdicts", "-",
                ] + more)
            let lines = outcome.output.split(separator: "\n")
            return (lines.map { $0.contains("inject") ? "inject" : "drop" }, outcome.error)
        }
        #expect(try verdicts(named, ["--routes", "r.json"]).0 == ["drop", "inject"])
        #expect(try verdicts(cooked, ["--routes", "r.json", "l.json"]).0 == ["drop", "inject"])
        let (unnamed, error) = try verdicts(cooked, ["--routes", "r.json"])
        #expect(unnamed == ["drop", "drop"])
        #expect(error.contains("2 interfaces without names, and are taken as eth0's: add the output of"))
        // What is said on the command line counts for all.
        #expect(
            try verdicts(named, ["--interface", "eth1", "--routes", "r.json"]).0
                == ["inject", "inject"])
    }

    @Test func tables() throws {
        func routes(_ table: String) -> String {
            """
            [{"dst":"0.0.0.0/0","dev":"eth0","table":\(table)},
             {"dst":"::/0","dev":"eth0","table":\(table)}]
            """
        }
        for table in [#""main""#, "254", #""254""#] {
            #expect(try reasons([routes(table)]).reasons == all, "\(table)")
        }
        // IPv6 has no rule for it.
        #expect(try reasons([routes(#""default""#)]).reasons == noIPv6)
        // Only rules would lead there.
        for table in [#""100""#, "100", #""uplink""#] {
            #expect(
                try reasons([routes(table)]).reasons
                    == ["ip_rpfilter", "ip_rpfilter", "ip_rpfilter", "ip_rpfilter"], "\(table)")
        }
    }

    // MARK: rules

    /// A table of a name, to which rules lead.
    private let uplink = #"""
        [{"dst":"default","dev":"eth0","table":"uplink","gateway":"192.0.2.1"},
         {"dst":"::/0","dev":"eth0","table":"uplink"},
         {"dst":"0.0.0.0/0","dev":"eth1"},{"dst":"::/0","dev":"eth1"}]
        """#

    /// The kernel's own IPv4 list with one rule more, as iproute2 6.1 prints it.
    private func four(_ rule: String) -> String {
        """
        [{"priority":0,"src":"all","table":"local"},{"priority":100,\(rule)},
         {"priority":32766,"src":"all","table":"main"},
         {"priority":32767,"src":"all","table":"default"}]
        """
    }

    /// The IPv4 packet: UDP from 198.51.100.7 to port 443 of 10.2.1.9.
    @Test(
        "each selector of ip -j rule",
        arguments: [
            (#""src":"all""#, true), (#""src":"10.2.1.0","srclen":24"#, true),
            (#""src":"10.2.1.8""#, false),
            (#""src":"all","dst":"198.51.100.0","dstlen":24"#, true),
            (#""not":null,"src":"all","dst":"198.51.100.0","dstlen":24"#, false),
            (#""src":"all","iif":"lo""#, true),
            (#""src":"all","iif":"eth7","iif_detached":null"#, false),
            (#""src":"all","oif":"eth0""#, false), (#""src":"all","tos":"0x10""#, false),
            (#""src":"all","tos":"AF11""#, false), (#""src":"all","ipproto":"udp""#, true),
            (#""src":"all","ipproto":"ipproto-6""#, false),
            (#""src":"all","sport":443"#, true), (#""src":"all","sport":80"#, false),
            (#""src":"all","sport_start":1,"sport_end":443"#, true),
            (#""src":"all","fwmark":"0x1","fwmask":"0xff""#, false),
            (#""src":"all","fwmark":"0","fwmask":"0x1""#, true),
            (#""src":"all","uid_start":0,"uid_end":0"#, true),
            (#""src":"all","uid_start":1,"uid_end":9"#, false),
            (#""src":"all","tun_id":5"#, false),
            (#""src":"all","suppress_prefixlen":0"#, false),
            (#""src":"all","suppress_ifgroup":"default""#, false),
            (#""src":"all","suppress_ifgroup":"7""#, true),
        ])
    func selector(rule: String, isTaken: Bool) throws {
        let (found, error) = try reasons([uplink], rules: [four(rule + #","table":"uplink""#)])
        #expect(found == (isTaken ? noIPv6 : Array(repeating: "ip_rpfilter", count: 4)), "\(error)")
        #expect(error.contains("shuck: --rules hold none of IPv6: the kernel's own are taken"))
    }

    @Test func actionsOfRules() throws {
        for (rule, isTaken) in [
            (#""src":"all","goto":32766"#, true), (#""src":"all","nop":null"#, false),
            (#""src":"all","action":"prohibit""#, false), (#""src":"all","l3mdev":null"#, false),
            (#""src":"all","goto":200,"unresolved":null"#, false),
        ] {
            // Behind it stands one that leads away.
            let away = four(rule).replacing(
                #"{"priority":32766"#,
                with: #"{"priority":101,"src":"all","action":"blackhole"},{"priority":32766"#)
            let main = #"[{"dst":"0.0.0.0/0","dev":"eth0"},{"dst":"::/0","dev":"eth0"}]"#
            #expect(try reasons([main], rules: [away]).reasons == (isTaken ? all : noIPv4), "\(rule)")
        }
    }

    @Test func rulesOfBothFamilies() throws {
        let six = """
            [{"priority":0,"src":"all","table":"local"},
             {"priority":50,"src":"all","table":"uplink"},
             {"priority":32766,"src":"all","table":"main"}]
            """
        let list = four(#""src":"all","table":"uplink""#)
        let (found, error) = try reasons([uplink], rules: [list, six])
        #expect(found == all)
        #expect(error.split(separator: "\n").count == 1, "\(error)")
        let (twice, why) = try reasons([uplink], rules: [six, six])
        #expect(twice == ["exit code 1"] && why.contains("l1.json is a second list of IPv6 rules"))
    }

    @Test func whatIsNotRules() throws {
        let cases = [
            ("", "l0.json is not what `ip -j rule` prints: "),
            (#"[{"priority":1,"src":"all","color":"red"}]"#, #"the selector "color" is not known"#),
            (#"[{"priority":1,"src":"10.0.0.1","dst":"::1"}]"#, "not a prefix of the file's family"),
            (#"[{"priority":"x"}]"#, #"rule 0: "priority" is "x", not a number"#),
            (#"[{"priority":1,"tos":"mine"}]"#, #"the TOS "mine" is not known"#),
            (#"[{"priority":1,"tos":"AF万1"}]"#, #"the TOS "AF万1" is not known"#),
            (#"[{"priority":1,"ipproto":"mine"}]"#, #"the protocol "mine" is not known"#),
            (#"[{"priority":1,"action":"nat"}]"#, #"the action "nat" is not known"#),
        ]
        for (text, message) in cases {
            let (found, error) = try reasons([uplink], rules: [text])
            #expect(found == ["exit code 1"])
            #expect(error.contains(message), "\(error)")
        }
    }

    @Test func kinds() throws {
        func routes(_ type: String) -> String {
            """
            [{"dst":"::/0","dev":"eth0"}, {"dst":"0.0.0.0/0","dev":"eth0"},
             {"type":"\(type)","dst":"198.51.100.7","dev":"eth0"}]
            """
        }
        #expect(
            try reasons([routes("local")]).reasons
                == ["ip_local_source", "", "ip_local_source", ""])
        #expect(
            try reasons([routes("broadcast")]).reasons
                == ["ip_invalid_source", "", "ip_invalid_source", ""])
        // What a `throw` route leaves, no table behind main holds.
        for type in ["blackhole", "unreachable", "prohibit", "throw"] {
            #expect(try reasons([routes(type)]).reasons == noIPv4, "\(type)")
        }
        #expect(try reasons([routes("nat")]).reasons == all)
    }

    @Test func whatIsNotRoutes() throws {
        let cases: [(String, String)] = [
            ("", "r0.json is not what `ip -j route show table all` prints: "),
            ("default via 192.0.2.1\n", "r0.json is not what `ip -j route show table all`"),
            (#"[{"dev":"eth0"}]"#, #"r0.json: route 0: it has no "dst""#),
            (#"[{"dst":"::/0"},{"dst":"::/0","metric":"x"}]"#, #"route 1: "metric" is "x", not a number"#),
            (#"[{"dst":"10.0.0.1/8"}]"#, #"r0.json: route 0: "10.0.0.1/8" is not a destination"#),
        ]
        for (text, message) in cases {
            let (found, error) = try reasons([text])
            #expect(found == ["exit code 1"])
            #expect(error.contains(message), "\(error)")
        }
    }
}
