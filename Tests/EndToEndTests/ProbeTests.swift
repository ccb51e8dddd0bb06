// Health probes from a link-local address, as real sockets send them: answered through the tunnel and
// without one, while neighbours are found and everybody else's link-local packets are refused.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct ProbeTests {
        private static let from = "fe80::1234:5678:9abc"
        private static let to = "2603:1062:0:1:fe80:1234:5678:9abc"
        private static let stranger = "fe80::9abd"
        private static let nodeLocal = "fe80::2"
        private static let rule =
            "inner: {rewriteSources: [{from: \"\(from)/128\", to: \"\(to)\", interface: eth0}]}"

        private static func setup(_ more: String..., workers: Int = 1) -> Setup {
            var setup = Setup(workers: workers, more: [rule] + more)
            setup.tunnels[0].destinations.append("2001:db8:2::/64")
            return setup
        }

        /// The balancer speaks to services and pods from its probe address. Neighbours are not
        /// known beforehand.
        private static func with(
            offloads: Offloads = .gro, _ body: (Rig) throws -> Void
        ) throws {
            try Rig.with(offloads: offloads) { rig in
                try rig.ip(.node, "address add \(nodeLocal)/64 dev eth0 nodad\n")
                try rig.ip(
                    .balancer,
                    """
                    address add \(from)/64 dev back nodad
                    address add \(stranger)/64 dev back nodad
                    """ + "\n")
                try speak(rig, from: from)
                try rig.serve(.pod, "serve", "--size", "256K", "--seed", "5")
                try rig.serve(.pod, "echo")
                try body(rig)
            }
        }

        private static func speak(_ rig: Rig, from source: String) throws {
            try rig.ip(
                .balancer,
                """
                route replace 2001:db8:f::/64 via \(nodeLocal) dev back src \(source)
                route replace 2001:db8:2::/64 via \(nodeLocal) dev back src \(source)
                """ + "\n")
        }

        private static let targets = [Mode.ip6ip.vip, Mode.ip6ip6.vip, Rig.pod6]

        private static func expectAnswers(_ rig: Rig, _ target: String) throws {
            let fetched = try rig.lab(.balancer, "fetch", target, "80", "--timeout", "30")
            #expect(fetched["bytes"] == 256 << 10, "\(target): \(fetched)")
            let answer = try rig.lab(.balancer, "pingpong", target, "7", "--count", "20")
            #expect(answer["lost"] == 0, "\(target): \(answer)")
            try rig.expectEchoes(.balancer, target, bytes: 1000)
        }

        private static func hasRoute(_ rig: Rig) throws -> Bool {
            try rig.run(.node, "ip", "-6", "route", "show", "\(to)/128").contains("dev shuck0")
        }

        @Test(arguments: Offloads.allCases, [1, 2])
        func probesAreAnswered(offloads: Offloads, workers: Int) throws {
            try Self.with(offloads: offloads) { rig in
                let seen = try Capture(
                    rig, .pod, "eth0", "(net fe80::/10 and not icmp6) or udp port \(IPPacket.port)")
                let errors = try Capture(
                    rig, .balancer, "back", "icmp6 and ip6[40] >= 1 and ip6[40] <= 4")
                let daemon = try Daemon.ready(rig, Self.setup(workers: workers))
                #expect(try Self.hasRoute(rig))
                for target in Self.targets { try Self.expectAnswers(rig, target) }
                let status = try daemon.status()
                #expect(
                    Set(status.injectedByMode.keys) == ["ip6ip", "ip6ip6", "native"],
                    "\(status.injectedByMode)")
                #expect(status.dropsByReason.isEmpty, "\(status.dropsByReason)")
                let metrics = try daemon.metrics()
                #expect(metrics.sum("shuck_injected_packets_total", "mode=\"native\"") > 20)
                #expect(metrics.sum("shuck_rewritten_answers_total") > 100)
                #expect(metrics.sum("shuck_rewritten_answer_failures_total") == 0)
                try Self.expectGoodChecksums(rig)
                // To a port that is closed, last: the pod would have seen others before it, and its
                // refusal comes behind all that the kernel said of what it did not forward.
                try rig.send([IPPacket.datagram(Rig.client6, Mode.ip6ip6.vip).wrapped(.ip6ip6)])
                try errors.wait(for: 1)
                #expect(errors.packets.count == 1, "\(errors.packets)")
                #expect(errors.packets[0].contains("unreachable port"), "\(errors.packets)")
                try seen.wait(for: 1)
                #expect(seen.packets.count == 1, "\(seen.packets)")
                try daemon.expectConservation()
                #expect(try daemon.stop().status == 0)
                #expect(try !Self.hasRoute(rig))
            }
        }

        /// Neither end's kernel found a checksum wrong.
        private static func expectGoodChecksums(_ rig: Rig) throws {
            for place in [Place.pod, .balancer] {
                let counters = try rig.run(place, "cat", "/proc/net/snmp6", "/proc/net/snmp")
                for line in counters.split(separator: "\n")
                where line.hasPrefix("Udp6InCsumErrors") || line.hasPrefix("Icmp6InCsumErrors") {
                    #expect(line.hasSuffix("\t0") || line.hasSuffix(" 0"), "\(place) \(line)")
                }
                let tcp = try rig.run(place, "nstat", "-asz", "TcpInCsumErrors")
                #expect(tcp.contains("TcpInCsumErrors                 0"), "\(place) \(tcp)")
            }
        }

        /// Both ends look for their neighbours again and again, by broadcast and by name.
        @Test func neighboursAreFoundAllTheTime() throws {
            try Self.with { rig in
                let daemon = try Daemon.ready(rig, Self.setup())
                for _ in 0..<5 {
                    try rig.run(.balancer, "ip", "-6", "neigh", "flush", "dev", "back", "nud", "all")
                    try rig.run(.node, "ip", "-6", "neigh", "flush", "dev", "eth0", "nud", "all")
                    for target in Self.targets {
                        let answer = try rig.lab(.balancer, "pingpong", target, "7", "--count", "3")
                        #expect(answer["lost"] == 0, "\(target)")
                    }
                }
                // Unicast solicitations from the probe's own address to the node's.
                for address in [Self.nodeLocal, Rig.node6] {
                    try rig.ip(
                        .balancer,
                        "neighbour replace \(address) lladdr 02:00:00:00:02:02 dev back nud probe\n")
                    try eventually("\(address) to be confirmed") {
                        try rig.run(.balancer, "ip", "-6", "neigh", "show", address)
                            .contains("REACHABLE")
                    }
                }
                // The node itself answers what is sent to its link-local address.
                try rig.expectEchoes(
                    .balancer, Self.nodeLocal, count: 2, options: ["-I", "back"])
                try daemon.expectConservation()
            }
        }

        @Test func anotherLinkLocalSourceIsRefused() throws {
            try Self.with { rig in
                let seen = try Capture(rig, .pod, "eth0", "udp port 4242")
                let daemon = try Daemon.ready(rig, Self.setup())
                let probe = IPPacket.datagram(Self.from, Mode.ip6ip6.vip)
                let other = IPPacket.datagram(Self.stranger, Mode.ip6ip6.vip)
                try rig.send([
                    other.wrapped(.ip6ip), other.wrapped(.ip6ip6), other, probe.wrapped(.ip6ip),
                ])
                try seen.wait(for: 1)
                try eventually("one packet") { try daemon.status().packets["injected"] == 1 }
                #expect(try daemon.metrics().drops == ["ip_invalid_source": 2])
                #expect(seen.packets.count == 1)
                #expect(seen.packets[0].contains("\(Self.to).40000 > "), "\(seen.packets)")
                #expect(seen.packets[0].contains("udp sum ok"), "\(seen.packets)")
                // Without encapsulation it never came up; neighbours' talk may have.
                let packets = try daemon.status().packets
                #expect(packets["received"] == 3 + packets["passed", default: 0], "\(packets)")
                try daemon.expectConservation()
            }
        }

        @Test func reloadsAddAndRemoveRules() throws {
            try Self.with { rig in
                var without = Self.setup()
                without.more = []
                let daemon = try Daemon.ready(rig, without)
                func expectSilence() throws {
                    for target in Self.targets {
                        let command = ["ping", "-6", "-n", "-c", "1", "-W", "1", target]
                        #expect(try rig.attempt(.balancer, command).status == 1, "\(target)")
                    }
                }
                #expect(try !Self.hasRoute(rig))
                try expectSilence()
                for _ in 0..<3 {
                    try daemon.configure(Self.setup())
                    #expect(try daemon.reload().status == 200)
                    #expect(try Self.hasRoute(rig))
                    for target in Self.targets {
                        try rig.expectEchoes(.balancer, target, count: 1)
                    }
                    try daemon.configure(without)
                    #expect(try daemon.reload().status == 200)
                    #expect(try !Self.hasRoute(rig))
                    try expectSilence()
                }
                // A route of somebody else's is not taken away.
                try rig.ip(.node, "route add \(Self.to)/128 dev cali0\n")
                try daemon.configure(Self.setup())
                let answer = try daemon.reload()
                #expect(answer.status == 409 && answer.body.contains("ip -6 route del"), "\(answer)")
                #expect(
                    try rig.run(.node, "ip", "-6", "route", "show", "\(Self.to)/128")
                        .contains("dev cali0"))
                try daemon.expectConservation()
            }
        }

        @Test func aDeviceThatWentDownHasItsRouteAgain() throws {
            try Self.with { rig in
                let daemon = try Daemon.ready(rig, Self.setup())
                try rig.run(.node, "ip", "link", "set", "shuck0", "down")
                try daemon.waitForLine(containing: "device shuck0 was changed")
                try eventually("the route") { try Self.hasRoute(rig) }
                for target in Self.targets { try Self.expectAnswers(rig, target) }
                // Made anew, and the interface as well.
                try rig.run(.node, "ip", "link", "delete", "shuck0")
                try eventually("another device") {
                    try rig.hasLink(.node, "shuck0") && daemon.isReady && Self.hasRoute(rig)
                }
                for target in Self.targets { try Self.expectAnswers(rig, target) }
                daemon.process.signal(SIGKILL)
                try daemon.process.wait()
                try eventually("the route to go") { try !Self.hasRoute(rig) }
            }
        }

        /// Reading a device takes nothing from what is written to it: segments go in whole.
        @Test func segmentsStillGoInWhole() throws {
            try Self.with(offloads: .on) { rig in
                let daemon = try Daemon.ready(rig, Self.setup())
                let pushed = try rig.lab(
                    .client, "push", Mode.ip6ip6.vip, "80", "--size", "64M", "--seed", "7",
                    "--timeout", "60")
                #expect(pushed["bytes"] == 64 << 20, "\(pushed)")
                let metrics = try daemon.metrics()
                let packets = metrics.sum("shuck_injected_packets_total", "mode=\"ip6ip6\"")
                let bytes = metrics.sum("shuck_injected_bytes_total", "mode=\"ip6ip6\"")
                #expect(bytes > packets * 4000, "\(bytes) bytes in \(packets) packets")
                #expect(metrics.drops.isEmpty, "\(metrics.drops)")
                try daemon.expectConservation()
            }
        }

        @Test func rawSocketsClaimNoNativeProbes() throws {
            try Self.with { rig in
                let errors = try Capture(rig, .balancer, "back", "icmp6 and ip6[40] == 1")
                let daemon = try Daemon.ready(rig, Self.setup("consume: socket"))
                #expect(try daemon.status().notes.contains { $0.contains("native probes") })
                let answer = try rig.lab(.balancer, "pingpong", Rig.pod6, "7", "--count", "3")
                #expect(answer["lost"] == 0)
                try errors.wait(for: 1)
                try daemon.expectConservation()
            }
        }
    }
}
