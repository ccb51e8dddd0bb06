// Start, stop, and links that come, go and change while shuck runs.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct LifeTests {
        /// Ten round trips in each mode.
        private static func expectForwarding(_ rig: Rig, _ when: String) throws {
            for mode in Mode.allCases {
                let answer = try rig.lab(
                    .client, "pingpong", mode.vip, "7", "--count", "10", "--timeout-ms", "3000")
                #expect(answer["lost"] == 0, "\(mode) \(when): \(answer)")
            }
        }

        /// Waits for a first answer in each mode. A moment after a link came up, neither has the kernel
        /// seen its carrier at both ends, nor shuck the routes that make clients' sources right: those of
        /// the families come one after the other.
        private static func waitForAnswers(_ rig: Rig) throws {
            for mode in Mode.allCases {
                try rig.waitForAnswer(mode.vip, "in \(mode)")
            }
        }

        @Test func sigtermEndsItCleanly() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                try Self.expectForwarding(rig, "before the end")
                try daemon.expectConservation()
                let result = try daemon.stop()
                #expect(result.status == 0, "\(result.errors)")
                #expect(try !rig.hasLink(.node, "shuck0"))
                #expect(!FileManager.default.fileExists(atPath: daemon.socket))
                // And again at once, on the same socket and device.
                let next = try Daemon.ready(rig)
                try Self.expectForwarding(rig, "after another start")
                #expect(try next.stop().status == 0)
            }
        }

        /// Measured in the worker's CPU time, which a busy host does not stretch.
        @Test func spinningFollowsTheTraffic() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Setup(busyPoll: "40ms"))
                try Self.waitForAnswers(rig)
                func cpuSeconds(count: Int, milliseconds: Int) throws -> Double {
                    let before = try daemon.status().workers[0].cpuSeconds
                    let answer = try rig.lab(
                        .client, "pingpong", Mode.ipip.vip, "7", "--count", "\(count)",
                        "--interval-us", "\(milliseconds * 1000)", "--timeout-ms", "3000")
                    #expect(answer["lost"] == 0, "\(answer)")
                    return try daemon.status().workers[0].cpuSeconds - before
                }
                // Always 40 ms would be 0.8 s; halved each time it is less than 0.1.
                let sparse = try cpuSeconds(count: 20, milliseconds: 100)
                #expect(sparse < 0.3)
                // 0.3 s or more, all of it within 40 ms of one another: asleep it would be some ms.
                let dense = try cpuSeconds(count: 300, milliseconds: 1)
                #expect(dense > 0.05)
                try daemon.expectConservation()
            }
        }

        @Test func aSecondInstanceNamesTheFirst() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let second = try rig.attempt(
                    .node, [Tools.shuck, "run", "--config", daemon.configurationPath])
                #expect(second.status == 3)
                #expect(second.errors.contains("process \(try daemon.status().processID),"))
                #expect(daemon.isReady)
                try rig.serve(.pod, "echo")
                try Self.expectForwarding(rig, "beside one that was refused")
                try daemon.expectConservation()
            }
        }

        /// A claim of nothing is one that holds: no other means, no note, no refusal.
        @Test(arguments: ["auto", "bpf"])
        func anInterfaceMayHaveNoTunnel(consume: String) throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(
                    rig,
                    Setup(
                        interfaces: ["eth0", "cali0"],
                        tunnels: [Setup.Tunnel(more: ["interfaces: [eth0]"])],
                        more: ["consume: \(consume)"]))
                let status = try daemon.status()
                #expect(status.interfaces.map(\.claimActive) == ["tcx", "tcx"])
                #expect(status.notes.isEmpty, "\(status.notes)")
                try Self.expectForwarding(rig, "beside an interface without a tunnel")
                try daemon.expectConservation()
            }
        }

        /// What a killed one left is no hindrance.
        @Test func itStartsAfterSigkill() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let killed = try Daemon.ready(rig)
                killed.process.signal(SIGKILL)
                try killed.process.wait()
                #expect(FileManager.default.fileExists(atPath: killed.socket))
                let daemon = try Daemon.ready(rig)
                try Self.expectForwarding(rig, "after one was killed")
                try daemon.expectConservation()
            }
        }

        @Test func itWaitsForItsInterface() throws {
            try Rig.with { rig in
                try rig.run(.node, "ip", "link", "delete", "eth0")
                try rig.serve(.pod, "echo")
                let daemon = try Daemon(rig)
                try eventually("its answer") {
                    AdminClient.ask(daemon.socket, "GET", "/readyz") != nil
                }
                let answer = AdminClient.ask(daemon.socket, "GET", "/readyz")
                #expect(answer?.status == 503)
                #expect(answer?.body.contains("interface eth0 is absent") == true)
                #expect(AdminClient.ask(daemon.socket, "GET", "/healthz")?.status == 200)
                try rig.makeNodeLink()
                try daemon.waitUntilReady()
                try Self.waitForAnswers(rig)
                try Self.expectForwarding(rig, "after the interface came")
                try daemon.expectConservation()
            }
        }

        @Test(arguments: [1, 2])
        func anInterfaceMadeAgainIsTakenUp(workers: Int) throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Setup(workers: workers))
                try Self.expectForwarding(rig, "before")
                var received = try daemon.metrics().sum("shuck_received_packets_total")
                for round in 1...3 {
                    try rig.run(.node, "ip", "link", "delete", "eth0")
                    // Sometimes seen absent, sometimes made again before anyone looked.
                    if round > 1 {
                        try eventually("its absence") {
                            try daemon.status().interfaces[0].state == "absent"
                        }
                    }
                    try rig.makeNodeLink()
                    try daemon.waitUntilReady()
                    try Self.waitForClaim(daemon)
                    try Self.waitForAnswers(rig)
                    try Self.expectForwarding(rig, "in round \(round)")
                    let now = try daemon.metrics().sum("shuck_received_packets_total")
                    #expect(now >= received + 40)
                    received = now
                    try daemon.expectConservation()
                }
            }
        }

        private static func waitForClaim(_ daemon: Daemon) throws {
            try eventually("the claim of the new interface") {
                let interface = try daemon.status().interfaces[0]
                return interface.state == "receiving" && interface.claimActive == "tcx"
            }
        }

        @Test func aLinkThatWasDownWorksAgain() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                try Self.expectForwarding(rig, "before")
                for round in 1...5 {
                    try rig.run(.node, "ip", "link", "set", "eth0", "down")
                    try eventually("its mention") {
                        try daemon.status().interfaces[0].state == "down"
                    }
                    #expect(!daemon.isReady)
                    try rig.run(.node, "ip", "link", "set", "eth0", "up")
                    try rig.restoreNodeRoutes()
                    try daemon.waitUntilReady()
                    try Self.waitForAnswers(rig)
                    try Self.expectForwarding(rig, "in round \(round)")
                }
                try daemon.expectConservation()
            }
        }

        @Test func aDeviceThatIsSetDownIsSetUpAgain() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                try rig.run(.node, "ip", "link", "set", "shuck0", "down")
                try daemon.waitForLine(containing: "device shuck0 was changed, it is down: set right again")
                try daemon.waitUntilReady()
                try Self.expectForwarding(rig, "after the device came up")
                try daemon.expectConservation()
            }
        }

        @Test(arguments: [1, 2])
        func aDeletedDeviceIsMadeAgain(workers: Int) throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Setup(workers: workers))
                for round in 1...3 {
                    let before = try daemon.status().publications
                    try rig.run(.node, "ip", "link", "delete", "shuck0")
                    // What a snapshot says of an older generation is of the old device.
                    try eventually("shuck0 to be made again") {
                        try daemon.status().publications > before && daemon.isReady
                    }
                    try Self.expectForwarding(rig, "in round \(round)")
                    #expect(try rig.get(.node, "net.ipv4.conf.shuck0.rp_filter") == "2")
                    #expect(try daemon.status().devices[0].queues == workers)
                }
                try daemon.expectConservation()
            }
        }

        @Test func aShadowOnlyCounts() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(more: ["mode: shadow"]))
                let arrived = try Capture(rig, .pod, "eth0", "udp")
                let errors = try Capture.nodeErrors(rig)
                let packets = Mode.allCases.map {
                    IPPacket.datagram($0.innerIsIPv4 ? Rig.client4 : Rig.client6, $0.vip)
                        .wrapped($0)
                }
                try rig.send(packets + [packets[0].payloadFrom("192.0.2.99")])
                // The kernel answers as if shuck were not there.
                try errors.wait(for: 4)
                try eventually("their count") { try daemon.status().packets["received"] == 5 }
                let status = try daemon.status()
                #expect(status.mode == "shadow")
                #expect(status.packets["injected"] == 4)
                #expect(status.packets["writes"] == 0)
                #expect(status.dropsByReason == ["remote_not_allowed": 1])
                #expect(status.interfaces[0].claimActive == "none")
                // What is sent to it directly proves that the pod would have seen the others.
                try rig.send([IPPacket.datagram(Rig.client4, Mode.ipip.vip)])
                try arrived.wait(for: 1)
                #expect(arrived.packets.count == 1, "\(arrived.packets)")
                try daemon.expectConservation()
            }
        }
    }
}

extension IPPacket {
    /// The same outer packet from somebody else.
    fileprivate func payloadFrom(_ source: String) -> IPPacket {
        var copy = self
        copy.source = source
        return copy
    }
}

extension Rig {
    /// Makes the link between balancer and node anew, as tools/lab/rig made it.
    func makeNodeLink() throws {
        let balancer = "\(name)-balancer"
        let node = "\(name)-node"
        try launch([
            "ip", "link", "add", "back", "netns", balancer, "address", "02:00:00:00:02:01", "mtu",
            "1500", "type", "veth", "peer", "eth0", "netns", node, "address",
            "02:00:00:00:02:02", "mtu", "1500",
        ]).wait().get()
        try ip(
            .balancer,
            """
            link set back up
            address replace \(Rig.balancer4)/24 dev back
            address replace \(Rig.balancer6)/64 dev back nodad
            neighbour replace \(Rig.node4) lladdr 02:00:00:00:02:02 dev back nud permanent
            neighbour replace \(Rig.node6) lladdr 02:00:00:00:02:02 dev back nud permanent
            route replace 203.0.113.0/24 via \(Rig.node4)
            route replace 2001:db8:f::/64 via \(Rig.node6)

            """)
        try run(.balancer, Tools.lab, "encap", "attach", "back")
        try run(.node, "ip", "link", "set", "eth0", "up")
        try restoreNodeRoutes()
    }

    /// What the node's eth0 loses when it goes down.
    func restoreNodeRoutes() throws {
        try ip(
            .node,
            """
            address replace \(Rig.node4)/24 dev eth0
            address replace \(Rig.node6)/64 dev eth0 nodad
            neighbour replace \(Rig.balancer4) lladdr 02:00:00:00:02:01 dev eth0 nud permanent
            neighbour replace \(Rig.balancer6) lladdr 02:00:00:00:02:01 dev eth0 nud permanent
            route replace default via \(Rig.balancer4)
            route replace default via \(Rig.balancer6)

            """)
    }
}
