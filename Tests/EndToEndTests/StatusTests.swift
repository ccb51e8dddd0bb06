// What a running daemon says of itself, to people and to Prometheus.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct StatusTests {
        @Test("the last refused frame of a reason is named, with its interface and addresses")
        func lastDrop() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let stranger = "198.51.100.77"
                try rig.send([
                    IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(from: stranger, to: Rig.node4)
                ])
                try daemon.wait(received: 1)
                let drop = try #require(try daemon.status().lastDrops["remote_not_allowed"])
                #expect(drop.interface == "eth0")
                #expect(
                    drop.packet
                        == "\(stranger) > \(Rig.node4) ipip \(Rig.client4):40000 > \(Mode.ipip.vip):4242 udp")
                #expect(drop.age >= 0 && drop.age < 60)
                let screen = try rig.run(.node, Tools.shuck, "status", "--socket", daemon.socket)
                #expect(screen.hasPrefix("ready\n"), "\(screen)")
                #expect(screen.contains(stranger), "\(screen)")
            }
        }

        /// An example names its interface by its place in the list.
        @Test("a drop is not said of another interface after a reload with other interfaces")
        func dropBeforeAReload() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(interfaces: ["eth0", "cali0"]))
                let stranger = IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(
                    from: "198.51.100.77", to: Rig.node4)
                try rig.send([stranger])
                try daemon.wait(received: 1)
                #expect(try daemon.status().lastDrops["remote_not_allowed"]?.interface == "eth0")
                try daemon.configure(Setup(interfaces: ["cali0", "eth0"]))
                #expect(try daemon.reload().status == 200)
                #expect(try daemon.status().lastDrops["remote_not_allowed"] == nil)
                try rig.send([stranger])
                try daemon.wait(received: 2)
                #expect(try daemon.status().lastDrops["remote_not_allowed"]?.interface == "eth0")
                // What was counted before still counts.
                #expect(try daemon.metrics().drops == ["remote_not_allowed": 2])
                try daemon.expectConservation()
            }
        }

        @Test("the first line and the exit code of status say whether it forwards")
        func readiness() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                #expect(try daemon.metrics().sum("shuck_ready") == 1)
                try rig.ip(.node, "link set eth0 down\n")
                try eventually("the interface to be seen down") { !daemon.isReady }
                let down = try rig.attempt(.node, [Tools.shuck, "status", "--socket", daemon.socket])
                #expect(down.status == 1)
                #expect(
                    down.output.hasPrefix("not ready: interface eth0 is down: ip link set eth0 up"),
                    "\(down.output)")
                let metrics = try daemon.metrics()
                #expect(metrics.sum("shuck_ready") == 0)
                #expect(metrics.sum("shuck_interface_up") == 0)
                #expect(metrics.values["shuck_degraded{what=\"interface\"}"] == 1)
                try rig.ip(.node, "link set eth0 up\n")
                try eventually("the interface to be seen up") { daemon.isReady }
                #expect(try daemon.metrics().sum("shuck_interface_up") == 1)
                try daemon.waitForLine(containing: "interface eth0 is down")
                try daemon.waitForLine(containing: "no longer degraded: interface eth0")
            }
        }

        @Test("series are there once they counted, and times are Unix time")
        func series() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let before = try daemon.metrics()
                #expect(!before.values.keys.contains { $0.hasPrefix("shuck_dropped_packets_total") })
                #expect(before.values["shuck_worker_last_progress_timestamp_seconds{worker=\"0\"}"] == 0)
                try rig.send([IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(.ipip)])
                try daemon.wait(received: 1)
                let after = try daemon.metrics()
                let progress = try #require(
                    after.values["shuck_worker_last_progress_timestamp_seconds{worker=\"0\"}"])
                #expect(abs(progress - Date().timeIntervalSince1970) < 60)
                let injected = after.values.filter { $0.key.hasPrefix("shuck_injected_packets_total") }
                #expect(
                    injected == [
                        """
                        shuck_injected_packets_total{worker="0",tunnel="lvs",mode="ipip",\
                        device="shuck0"}
                        """: 1
                    ])
                let destination = """
                    shuck_destination_packets_total{tunnel="lvs",destination="\(Mode.ipip.vip)/32",\
                    protocol="any",ports="any"}
                    """
                #expect(after.values[destination] == 1)
                let claim = after.values.keys.filter { $0.hasPrefix("shuck_claim{") }
                #expect(claim == ["shuck_claim{interface=\"eth0\",asked=\"auto\",active=\"tcx\"}"])
            }
        }

        @Test("a change of routes is no change of configuration")
        func generation() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let before = try daemon.status()
                #expect(before.generation == 1)
                try rig.ip(.node, "route add 203.0.113.128/25 dev lo\n")
                try eventually("the route to be followed") {
                    try daemon.status().publications > before.publications
                }
                #expect(try daemon.metrics().sum("shuck_config_generation") == 1)
                #expect(try daemon.reload().status == 200)
                #expect(try daemon.status().generation == 2)
                let applied = try daemon.metrics()
                try daemon.configure(text: "interfaces: 7\n")
                #expect(try daemon.reload().status == 409)
                let refused = try daemon.metrics()
                #expect(refused.sum("shuck_config_generation") == 2)
                let (success, tried) = (
                    "shuck_config_last_reload_success_timestamp_seconds",
                    "shuck_config_last_reload_timestamp_seconds"
                )
                #expect(refused.values[success] == applied.values[success])
                #expect(refused.values[tried, default: 0] > applied.values[tried, default: 0])
            }
        }
    }
}
