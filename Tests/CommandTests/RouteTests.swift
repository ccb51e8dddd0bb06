// shuck replay --routes: what `ip -j route` says, as the reverse path sees it.

import Testing

@Suite struct RouteTests {
    /// The reasons of frames of all four modes, "" for injected, against files of routes.
    private func reasons(
        _ files: [String], configuration: String = "", interface: String = "eth0"
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
        let outcome = try shell.run(
            [
                "replay", "--config", "c.yaml", "--in", "in.pcap", "--out", "out.pcap",
                "--verdicts", "-", "--interface", interface, "--routes",
            ] + names)
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
        func routes(_ metric: Int) -> String {
            """
            [{"dst":"198.51.100.0/24","metric":\(metric),"flags":[],"nexthops":[
              {"gateway":"192.0.2.1","dev":"eth1","weight":1,"flags":[]},
              {"gateway":"192.0.2.9","dev":"eth0","weight":1,"flags":[]}]},
             {"dst":"198.51.100.0/24","dev":"other7","metric":20},
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
            (#"[{"dev":"eth0"}]"#, #"route 0 has no "dst""#),
            (#"[{"dst":"::/0"},{"dst":"::/0","metric":"x"}]"#, #"route 1, "metric": Expected"#),
            (#"[{"dst":"10.0.0.1/8"}]"#, #"r0.json: route 0: "10.0.0.1/8" is not a destination"#),
        ]
        for (text, message) in cases {
            let (found, error) = try reasons([text])
            #expect(found == ["exit code 1"])
            #expect(error.contains(message), "\(error)")
        }
    }
}
