// shuck probe from the balancer: through shuck to the pod and directly back, in every mode and protocol.

import Foundation
import Testing

/// What `shuck probe --json` prints.
private struct Report: Decodable {
    struct Times: Decodable {
        let min: Double
        let p50: Double
        let p99: Double
        let max: Double
    }
    struct SegmentSize: Decodable {
        let answered: Int
        let fits: Int
    }
    struct Message: Decodable, Equatable {
        var size: Int?
        let from: String
        let what: String
        var mtu: Int?
        let aboutOuter: Bool
    }
    let mode: String
    let sent: Int
    let answered: Int
    let refused: Int
    let lossPercent: Double
    let roundTripMilliseconds: Times?
    let mss: SegmentSize?
    let pathMTU: Int?
    var interruptedOf: Int?
    let icmpErrors: [Message]
    let lostSizes: [Int]
}

private struct TableReport: Decodable {
    struct Row: Decodable {
        let service: String
        let realserver: String
        let tries: Int
        let result: String
        let probe: Report
    }
    let answered: Int
    let answeredBefore: Int
    let failed: Int
    let undecided: Int
    let failedTuples: [String]
    let tuples: [Row]
}

extension EndToEnd {
    @Suite struct ProbeCommandTests {
        private static let front4 = "198.51.100.1"
        private static let front6 = "2001:db8:c::1"

        private static func with(_ body: (Rig, Daemon) throws -> Void) throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.serve(.pod, "serve", "--size", "1K", "--seed", "1")
                try rig.serve(.pod, "echo")
                try body(rig, daemon)
            }
        }

        private static func command(_ mode: Mode, _ more: [String]) -> [String] {
            [
                Tools.shuck, "probe", "--outer-src", mode.outerIsIPv4 ? Rig.balancer4 : Rig.balancer6,
                "--outer-dst", mode.outerIsIPv4 ? Rig.node4 : Rig.node6, "--inner-src",
                mode.innerIsIPv4 ? front4 : front6, "--inner-dst", mode.vip,
            ] + more
        }

        private static func probe(_ rig: Rig, _ mode: Mode, _ more: String..., code: Int32 = 0) throws
            -> Report
        {
            let result = try rig.attempt(.balancer, command(mode, more + ["--json"]))
            #expect(result.status == code, "\(mode) \(more): \(result.errors)\(result.output)")
            return try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
        }

        private static let services = [
            ["--port", "80"], ["--protocol", "udp", "--port", "7"], ["--protocol", "icmp"],
        ]

        @Test func everyModeAndProtocolIsAnswered() throws {
            try Self.with { rig, daemon in
                for mode in Mode.allCases {
                    for service in Self.services {
                        let result = try rig.attempt(
                            .balancer,
                            Self.command(mode, service + ["--count", "4", "--interval", "0.01", "--json"]))
                        #expect(result.status == 0, "\(result.errors)")
                        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
                        #expect(report.mode == mode.rawValue)
                        #expect((report.sent, report.answered, report.lossPercent) == (4, 4, 0))
                        let times = try #require(report.roundTripMilliseconds)
                        #expect(0 < times.min && times.min <= times.p50 && times.p99 <= times.max)
                        let isTCP = service[0] == "--port"
                        // The pod's MTU of 1460 leaves as much.
                        #expect(report.mss?.answered == (isTCP ? 1460 - (mode.innerIsIPv4 ? 40 : 60) : nil))
                        #expect(report.mss?.fits == (isTCP ? mode.clampedMSS : nil))
                    }
                }
                try Self.expectNothingHalfOpen(rig)
                #expect(try daemon.status().packets["dropped"] == 0)
                try daemon.expectConservation()
            }
        }

        /// Each answered SYN was closed.
        private static func expectNothingHalfOpen(_ rig: Rig) throws {
            try eventually("no connection in the pod") {
                try rig.run(.pod, "ss", "-Htan", "state", "syn-recv").isEmpty
            }
        }

        @Test func thePathMTUIsFoundWithTheErrorsOnTheWay() throws {
            try Self.with { rig, _ in
                for mode in Mode.allCases {
                    for service in Self.services {
                        let result = try rig.attempt(
                            .balancer, Self.command(mode, service + ["--count", "1", "--path-mtu", "--json"]))
                        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
                        #expect(report.pathMTU == 1460, "\(mode) \(service)")
                        #expect(report.lostSizes == [])
                        // Through IPv6 the link itself carries no more.
                        #expect(report.icmpErrors.isEmpty == !mode.outerIsIPv4)
                        for error in report.icmpErrors {
                            #expect(error.mtu == 1460 && error.size.map { $0 > 1460 } == true)
                            #expect(
                                !error.aboutOuter && error.from == (mode.innerIsIPv4 ? Rig.node4 : Rig.node6))
                            #expect(
                                error.what == (mode.innerIsIPv4 ? "fragmentation needed" : "packet too big"))
                        }
                    }
                }
            }
        }

        /// A pod's policy that drops ICMP errors hides the MTU; the search finds it all the same.
        @Test func aPathThatTellsNothingIsMeasured() throws {
            try Self.with { rig, _ in
                try rig.nft(
                    """
                    table inet test {
                      chain out { type filter hook output priority 0; icmp type 3 drop; }
                    }
                    """)
                let report = try Self.probe(rig, .ipip, "--port", "80", "--count", "1", "--path-mtu")
                #expect(report.pathMTU == 1460)
                #expect(report.icmpErrors == [])
                #expect(report.lostSizes.contains(1461) && report.lostSizes.allSatisfy { $0 > 1460 })
            }
        }

        @Test func anMSSThatDoesNotFitIsNamed() throws {
            try Self.with { rig, _ in
                try rig.run(.node, "ip", "link", "set", "cali0", "mtu", "1500")
                try rig.run(.pod, "ip", "link", "set", "eth0", "mtu", "1500")
                for mode in [Mode.ipip, .ip6ip6] {
                    let result = try rig.attempt(
                        .balancer, Self.command(mode, ["--port", "80", "--count", "1"]))
                    let answered = mode.innerIsIPv4 ? 1460 : 1440
                    #expect(result.status == 0)
                    let fits = "\(mode.clampedMSS) fits the link of 1500 bytes\n"
                    #expect(result.output.contains("MSS         \(answered) answered, \(fits)"))
                    #expect(
                        result.errors == """
                            shuck: segments of \(answered) bytes exceed the link when they are \
                            encapsulated: on the node set mss: {replies: nft}, or give the pods an MTU of \
                            \(mode.outerIsIPv4 ? 1480 : 1460) or less

                            """)
                }
            }
        }

        @Test func whoDoesNotAnswerIsNamedWithExitCode1() throws {
            try Self.with { rig, daemon in
                let quick = ["--count", "2", "--timeout", "0.5", "--interval", "0.01"]
                // A remote that no tunnel has.
                var command = Self.command(.ipip, ["--port", "80"] + quick)
                command[3] = "192.0.2.99"
                let stranger = try rig.attempt(.balancer, command)
                #expect(stranger.status == 1)
                #expect(stranger.output.contains("answered    0 of 2, 100 % lost\n"), "\(stranger.output)")
                #expect(stranger.errors.contains("run `shuck status` on the node"))
                #expect(try daemon.metrics().drops == ["remote_not_allowed": 2])
                // A port that is closed.
                let closed = try Self.probe(rig, .ipip, "--port", "81", "--count", "2", code: 1)
                #expect((closed.refused, closed.answered) == (2, 0))
                let datagram = try Self.probe(
                    rig, .ip6ip6, "--protocol", "udp", "--port", "81", "--count", "1", code: 1)
                #expect(datagram.refused == 1)
                // A client elsewhere: its answers do not come by here.
                try rig.run(.node, "ip", "route", "add", "blackhole", "198.51.100.77")
                command = Self.command(.ipip, ["--port", "80"] + quick)
                command[7] = "198.51.100.77"
                let elsewhere = try rig.attempt(.balancer, command)
                #expect(elsewhere.status == 1)
                #expect(elsewhere.errors.contains("198.51.100.77 is no address of this host"))
            }
        }

        /// Without shuck the kernel refuses the encapsulation, and the probe says so at once.
        @Test func aNodeThatDoesNotDecapsulateSaysSo() throws {
            try Rig.with { rig in
                for mode in Mode.allCases {
                    let result = try rig.attempt(
                        .balancer, Self.command(mode, ["--port", "80", "--count", "1"]))
                    #expect(result.status == 1)
                    let what = mode.outerIsIPv4 ? "protocol unreachable" : "next header not known"
                    #expect(result.output.contains("ICMP error  \(what), from "), "\(result.output)")
                    #expect(result.errors.contains("the node does not decapsulate"), "\(result.errors)")
                }
            }
        }

        // MARK: On the node itself

        /// Frames come in by eth0 as from the wire, and answers are heard as they leave: all in the node.
        @Test func onTheNodeItselfProbesPassThroughShuck() throws {
            try Self.with { rig, daemon in
                var asked = 0
                for mode in Mode.allCases {
                    for service in Self.services {
                        let options =
                            service + ["--through", "eth0", "--count", "2", "--interval", "0.01", "--json"]
                        let result = try rig.attempt(.node, Self.command(mode, options))
                        #expect(result.status == 0, "\(mode) \(service): \(result.errors)\(result.output)")
                        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
                        #expect((report.sent, report.answered) == (2, 2))
                        #expect(report.mss?.fits == (service[0] == "--port" ? mode.clampedMSS : nil))
                        // Each SYN-ACK is answered by a RST.
                        asked += service[0] == "--port" ? 4 : 2
                    }
                }
                try daemon.wait(received: asked)
                let packets = try daemon.status().packets
                // More came from the balancer, whose address it is: refusals of what it did not ask for.
                #expect(packets["injected"] == packets["received"], "\(packets)")
                #expect(packets["mssClamped"] == 8, "\(packets)")
                try Self.expectNothingHalfOpen(rig)
                let sized = try rig.attempt(
                    .node, Self.command(.ipip, ["--port", "80", "--through", "eth0", "--path-mtu", "--json"]))
                let report = try JSONDecoder().decode(Report.self, from: Data(sized.output.utf8))
                #expect(report.pathMTU == 1460)
                #expect(report.icmpErrors.allSatisfy { $0.mtu == 1460 } && !report.icmpErrors.isEmpty)
                // As shuck refuses it from the wire.
                var own = Self.command(.ipip, ["--port", "80", "--through", "eth0", "--count", "1"])
                own[7] = Rig.node4
                #expect(try rig.attempt(.node, own + ["--timeout", "0.5"]).status == 1)
                #expect(try daemon.metrics().drops == ["ip_local_source": 1])
                try daemon.expectConservation()
            }
        }

        @Test func anInterfaceThatIsNotThereIsNamed() throws {
            try Rig.with { rig in
                let options = ["--port", "80", "--count", "1", "--through", "none0"]
                let result = try rig.attempt(.node, Self.command(.ipip, options))
                #expect(result.status == 1)
                #expect(result.errors == "shuck: this host has no interface none0: `ip link` lists them\n")
            }
        }

        // MARK: Files of targets

        private static let targets = """
            outerSources: [\(Rig.balancer4), "\(Rig.balancer6)"]
            innerSources: [\(front4), "\(front6)"]
            realservers:
              - {name: node1, addresses: [\(Rig.node4), "\(Rig.node6)"]}
            services:
              - {name: web, addresses: [\(Mode.ipip.vip), "\(Mode.ip6ip.vip)"], ports: [80]}
              - {name: late, addresses: [\(Mode.ipip6.vip)], protocol: udp, ports: [4000]}
              - {name: ping, addresses: ["\(Mode.ip6ip6.vip)"], protocol: icmp}

            """

        private static func table(
            _ rig: Rig, _ path: String, _ more: String..., code: Int32
        ) throws -> TableReport {
            let result = try rig.attempt(
                .balancer, [Tools.shuck, "probe", "--targets", path, "--timeout", "1", "--json"] + more)
            #expect(result.status == code, "\(result.errors)\(result.output)")
            return try JSONDecoder().decode(TableReport.self, from: Data(result.output.utf8))
        }

        @Test func aFileOfTargetsGivesATableAndIsResumed() throws {
            try Self.with { rig, _ in
                let (path, resume) = ("\(rig.directory)/targets.yaml", "\(rig.directory)/answered")
                try Self.targets.write(toFile: path, atomically: false, encoding: .utf8)
                let first = try Self.table(rig, path, "--resume", resume, "--retries", "1", code: 1)
                let late = [Rig.node4, Rig.node6].map { "late udp \(Mode.ipip6.vip):4000 on node1 \($0)" }
                #expect((first.answered, first.answeredBefore, first.failed) == (6, 0, 2))
                #expect(first.failedTuples == late)
                #expect(first.tuples.map(\.tries) == [1, 1, 1, 1, 2, 2, 1, 1])
                #expect(first.tuples[4].result == "refused")
                let answered = try String(contentsOfFile: resume, encoding: .utf8)
                #expect(answered.split(separator: "\n").count == 6)
                #expect(answered.contains("web tcp [\(Mode.ip6ip.vip)]:80 on node1 \(Rig.node6)\n"))
                // As people read it.
                let text = try rig.attempt(
                    .balancer, [Tools.shuck, "probe", "--targets", path, "--retries", "0", "--timeout", "1"])
                #expect(text.status == 1)
                #expect(text.output.hasPrefix("SERVICE  DESTINATION"), "\(text.output)")
                let end = late.map { "failed: \($0)\n" }.joined()
                #expect(text.output.hasSuffix("\n6 of 8 answered\n" + end), "\(text.output)")
                // The service comes up: only what failed is asked again.
                try rig.serve(.pod, "echo", "--port", "4000")
                let second = try Self.table(rig, path, "--resume", resume, code: 0)
                #expect((second.answered, second.answeredBefore, second.failed) == (2, 6, 0))
                let third = try Self.table(rig, path, "--resume", resume, code: 0)
                #expect((third.answered, third.answeredBefore, third.tuples.count) == (0, 8, 0))
            }
        }

        // MARK: Signals

        /// Runs a probe until something holds, and interrupts it.
        private static func interrupted(
            _ rig: Rig, _ command: [String], by number: Int32, when holds: () throws -> Bool
        ) throws -> CommandResult {
            let running = try rig.start(.balancer, command)
            try eventually("probes", 10) { try holds() }
            running.signal(number)
            return try running.wait(seconds: 10)
        }

        @Test(arguments: [SIGINT, SIGTERM])
        func anInterruptedProbeTellsWhatItKnows(signal: Int32) throws {
            try Self.with { rig, daemon in
                let endless = ["--port", "80", "--count", "1000", "--interval", "0.05"]
                let json = try Self.interrupted(rig, Self.command(.ipip, endless + ["--json"]), by: signal) {
                    try daemon.status().packets["received"] ?? 0 > 6
                }
                #expect(json.status == 1, "\(json.errors)")
                let report = try JSONDecoder().decode(Report.self, from: Data(json.output.utf8))
                #expect(report.interruptedOf == 1000)
                #expect((1..<1000).contains(report.answered) && report.sent - report.answered <= 1)
                let before = try daemon.status().packets["received"] ?? 0
                let text = try Self.interrupted(rig, Self.command(.ipip, endless), by: signal) {
                    try daemon.status().packets["received"] ?? 0 > before + 6
                }
                #expect(text.status == 1)
                #expect(text.output.contains(" of 1000 probes were sent\n"), "\(text.output)")
                #expect(text.output.contains("round trip  min "), "\(text.output)")
                // What is not over is no reason to look for one.
                #expect(text.errors == "")
            }
        }

        /// What failed so far has its line, and what is still waited for is not called failed.
        @Test func anInterruptedTableTellsWhatItKnows() throws {
            try Self.with { rig, _ in
                let (path, resume) = ("\(rig.directory)/targets.yaml", "\(rig.directory)/answered")
                let text = """
                    outerSources: [\(Rig.balancer4)]
                    innerSources: [\(Self.front4)]
                    realservers: [{name: node1, addresses: [\(Rig.node4)]}]
                    services:
                      - {name: web, addresses: [\(Mode.ipip.vip)], ports: [80, 81, 82]}
                      - {name: many, addresses: [\(Mode.ipip.vip)], protocol: udp, ports: [7, 4000, 4001]}

                    """
                try text.write(toFile: path, atomically: false, encoding: .utf8)
                // Ports 81 and 82 are refused at once; the interval leaves most for later.
                let command = [
                    Tools.shuck, "probe", "--targets", path, "--resume", resume, "--interval", "0.5",
                    "--retries", "0", "--json",
                ]
                let result = try Self.interrupted(rig, command, by: SIGTERM) {
                    (try? String(contentsOfFile: resume, encoding: .utf8))?.contains("web tcp") == true
                }
                #expect(result.status == 1, "\(result.errors)")
                let table = try JSONDecoder().decode(TableReport.self, from: Data(result.output.utf8))
                #expect(table.answered == 1)
                #expect(table.undecided > 0 && table.answered + table.failed + table.undecided == 6)
                #expect(table.tuples.count == table.answered + table.failed)
                #expect(table.failedTuples.allSatisfy { $0.hasPrefix("web tcp ") })
            }
        }
    }
}
