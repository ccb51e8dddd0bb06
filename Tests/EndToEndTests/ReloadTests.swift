// New configurations under traffic: nothing lost, nothing twice, and a bad one changes nothing.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct ReloadTests {
        /// The same traffic by other tables: more tunnels, other destinations, no claim's rule
        /// unchanged.
        private static let first = Setup(workers: 2)
        private static let second = Setup(
            tunnels: [
                Setup.Tunnel(
                    name: "other", local: ["192.0.2.200"], remotes: ["198.51.100.0/24"],
                    destinations: ["10.9.0.0/16"], more: ["otherRemotes: pass"]),
                Setup.Tunnel(
                    name: "wide", remotes: ["192.0.2.0/24", "2001:db8:1::/64"],
                    destinations: ["203.0.113.0/24", "2001:db8:f::/64"]),
            ],
            workers: 2,
            more: ["mss: {ipv4: 1300}", "reversePath: {mode: feasible}", "log: {level: warning}"])

        @Test func thirtyReloadsUnderTrafficLoseNothing() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Self.first)
                try rig.run(.pod, Tools.lab, "sink", "attach", "eth0")
                try rig.withoutRingDrops(daemon, rate: 50_000) { rate, before in
                    try rig.run(.pod, Tools.lab, "sink", "reset", "eth0")
                    let generator = try rig.start(
                        .balancer,
                        [
                            Tools.lab, "generate", "back", "--mode", "ipip", "--flows", "256",
                            "--rate", "\(rate)", "--seconds", "60",
                        ])
                    try Self.reloadOften(daemon)
                    #expect(generator.isRunning, "the reloads took longer than the traffic")
                    generator.signal(SIGINT)
                    let sent = try Answer(generator.wait().get())
                    #expect(sent["sent"] > 10_000)
                    try rig.expectInSink(sent["sent"], daemon, before)
                }
                let metrics = try daemon.metrics()
                #expect(metrics.sum("shuck_injected_packets_total", "tunnel=\"lvs\"") > 0)
                #expect(metrics.sum("shuck_injected_packets_total", "tunnel=\"wide\"") > 0)
                #expect(metrics.sum("shuck_config_last_reload_successful") == 1)
                try daemon.expectConservation()
            }
        }

        /// Thirty reloads, every other one by signal.
        private static func reloadOften(_ daemon: Daemon) throws {
            var last = try daemon.metrics()
            for number in 1...30 {
                try daemon.configure(number % 2 == 1 ? second : first)
                if number % 3 == 0 {
                    #expect(try daemon.reload().status == 200)
                } else {
                    let old = last.sum("shuck_config_generation")
                    daemon.process.signal(SIGHUP)
                    try eventually("a reload") {
                        try daemon.metrics().sum("shuck_config_generation") > old
                    }
                }
                let next = try daemon.metrics()
                expectMonotone(last, next)
                try daemon.expectConservation()
                last = next
            }
        }

        private static func expectMonotone(_ old: Metrics, _ new: Metrics) {
            for (series, value) in old.values where series.contains("_total") {
                let now = new.values[series]
                #expect(now != nil && now! >= value, "\(series) went from \(value) to \(now ?? -1)")
            }
        }

        @Test func aBadConfigurationIsRefused() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.serve(.pod, "echo")
                let path = daemon.configurationPath
                try daemon.configure(text: "interfaces: [eth0]\ntunnels:\n  - nonsense: 1\n")
                let answer = try daemon.reload()
                #expect(answer.status == 409)
                #expect(answer.body.contains("\(path):3:5: "), "\(answer.body)")
                let status = try daemon.status()
                #expect(!status.lastReloadSuccessful)
                #expect(status.lastReloadProblems.contains { $0.hasPrefix("\(path):3:5: ") })
                #expect(
                    try daemon.metrics().sum("shuck_config_last_reload_successful") == 0)
                // What cannot change is refused, too, and so is what the host cannot give.
                try daemon.configure(Setup(workers: 2))
                #expect(try daemon.reload().status == 409)
                try daemon.configure(Setup(interfaces: ["lo", "shuck0"]))
                #expect(try daemon.reload().status == 409)
                let answered = try rig.lab(.client, "pingpong", Mode.ipip.vip, "7", "--count", "20")
                #expect(answered["lost"] == 0)
                try daemon.configure(Setup())
                #expect(try daemon.reload().status == 200)
                #expect(try daemon.status().lastReloadSuccessful)
                try daemon.expectConservation()
            }
        }

        @Test func whatIsRemovedIsTheKernelsAgain() throws {
            try Rig.with { rig in
                try rig.ip(.node, "address add 192.0.2.3/24 dev eth0\n")
                let more = Setup.Tunnel(name: "more", local: ["192.0.2.3"])
                let daemon = try Daemon.ready(
                    rig, Setup(interfaces: ["eth0", "cali0"], tunnels: [Setup.Tunnel(), more]))
                let errors = try Capture(
                    rig, .balancer, "back", "src host 192.0.2.3 and icmp[0] == 3")
                let podErrors = try Capture(rig, .pod, "eth0", "icmp[0] == 3")
                let tunnelled = IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(
                    from: Rig.balancer4, to: "192.0.2.3")
                try rig.send([tunnelled])
                try Self.tunnelFromPod(rig)
                try eventually("both") { try daemon.status().packets["received"] == 2 }
                #expect(try daemon.metrics().drops == ["remote_not_allowed": 1])
                try daemon.configure(Setup())
                #expect(try daemon.reload().status == 200)
                try rig.send([tunnelled])
                try errors.wait(for: 1)
                try Self.tunnelFromPod(rig)
                try podErrors.wait(for: 1)
                #expect(errors.packets.count == 1 && podErrors.packets.count == 1)
                #expect(podErrors.packets[0].contains("protocol 4 unreachable"))
                // The frame to 192.0.2.3 still came in by eth0, and was nobody's.
                try daemon.wait(received: 3)
                let packets = try daemon.status().packets
                #expect(packets["received"] == 3)
                #expect(packets["passed"] == 1)
                try daemon.expectConservation()
            }
        }

        /// A worker's ring has registered its queue, which would keep it there.
        @Test func aDeviceThatIsNoLongerConfiguredGoes() throws {
            try Rig.with { rig in
                func setup(_ names: [String]) -> Setup {
                    let list = names.map { "{name: \($0)}" }.joined(separator: ", ")
                    return Setup(more: ["devices: [\(list)]"])
                }
                let daemon = try Daemon.ready(rig, setup(["shuck0", "shuck1", "shuck2"]))
                func devices() throws -> [String] {
                    try rig.run(.node, "ip", "-brief", "link").split(separator: "\n")
                        .compactMap { $0.split(separator: " ").first.map(String.init) }
                        .filter { $0.hasPrefix("shuck") }.sorted()
                }
                #expect(try devices() == ["shuck0", "shuck1", "shuck2"])
                for names in [["shuck0", "shuck1"], ["shuck0"]] {
                    try daemon.configure(setup(names))
                    #expect(try daemon.reload().status == 200)
                    try eventually("the device to go") { try devices() == names }
                }
                try rig.serve(.pod, "echo")
                try daemon.expectConservation()
            }
        }

        /// More than a word has bits: absent ones are waited for, and the one that is there is received from.
        @Test func sixtyFiveInterfacesAreTakenByASignal() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.serve(.pod, "echo")
                try daemon.configure(Setup(interfaces: (1...64).map { "e\($0)" } + ["eth0"]))
                daemon.process.signal(SIGHUP)
                try eventually("the reload") {
                    guard daemon.process.isRunning else { throw Failure(daemon.process.errors) }
                    return try daemon.metrics().sum("shuck_config_generation") == 2
                }
                #expect(try daemon.status().interfaces.count == 65)
                #expect(try daemon.status().interfaces.last?.state == "receiving")
                try rig.waitForAnswer(Mode.ipip.vip, "beside 64 absent interfaces")
                try daemon.expectConservation()
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func sixtyFiveDevicesAreTakenByAReload() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.serve(.pod, "echo")
                let names = (0...64).map { "{name: shuck\($0)}" }.joined(separator: ", ")
                try daemon.configure(Setup(more: ["devices: [\(names)]"]))
                let answer = try daemon.reload()
                #expect(answer.status == 200, "\(answer)")
                #expect(try daemon.status().devices.map(\.state) == .init(repeating: "up", count: 65))
                try rig.waitForAnswer(Mode.ipip.vip, "with 65 devices")
                try daemon.expectConservation()
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func aRefusedReloadLeavesTheMTU() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let devices = "devices: [{name: shuck0, mtu: 4000}]"
                let taken = "devices: [{name: shuck0, mtu: 4000}, {name: cali0}]"
                func mtu() throws -> String {
                    try rig.run(.node, "cat", "/sys/class/net/shuck0/mtu")
                }
                // The name of a device is taken, an interface is shuck's own, a change needs a restart.
                for setup in [
                    Setup(more: [taken]), Setup(interfaces: ["eth0", "shuck0"], more: [devices]),
                    Setup(workers: 2, more: [devices]),
                ] {
                    try daemon.configure(setup)
                    let answer = try daemon.reload()
                    #expect(answer.status == 409, "\(answer)")
                    #expect(try mtu() == "1500\n")
                    let shown = AdminClient.ask(daemon.socket, "GET", "/config")?.body ?? ""
                    #expect(shown.contains("mtu: 1500") && !shown.contains("4000"), "\(shown)")
                }
                try daemon.configure(Setup(more: [devices]))
                #expect(try daemon.reload().status == 200)
                #expect(try mtu() == "4000\n")
            }
        }

        /// The pod tries the tunnel from within.
        private static func tunnelFromPod(_ rig: Rig) throws {
            let packet = IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(
                from: Rig.pod4, to: Rig.node4)
            let frame = "020000000301" + "020000000302" + packet.frame.dropFirst(24)
            try rig.run(.pod, Tools.lab, "send-raw", "eth0", "--hex", frame)
        }
    }
}
