// Who answers for a frame that is ours: shuck by silence, and the kernel only when it should.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct KernelAnswerTests {
        private static let stranger4 = "192.0.2.77"
        private static let stranger6 = "2001:db8:1::77"

        /// One datagram in each mode, from whom the tunnels know and from whom they do not.
        private static func ours() -> [IPPacket] {
            Mode.allCases.map { inner($0).wrapped($0) }
        }

        private static func inner(_ mode: Mode) -> IPPacket {
            .datagram(mode.innerIsIPv4 ? Rig.client4 : Rig.client6, mode.vip, port: 7)
        }

        private static func strangers() -> [IPPacket] {
            Mode.allCases.map { mode in
                mode.outerIsIPv4
                    ? inner(mode).wrapped(from: stranger4, to: Rig.node4)
                    : inner(mode).wrapped(from: stranger6, to: Rig.node6)
            }
        }

        /// GRE, which the node does not speak: the kernel must go on saying so.
        private static let gre = [
            IPPacket(
                source: Rig.balancer4, destination: Rig.node4, protocolNumber: 47,
                payload: [UInt8](repeating: 0, count: 24)),
            IPPacket(
                source: Rig.balancer6, destination: Rig.node6, protocolNumber: 47,
                payload: [UInt8](repeating: 0, count: 24)),
        ]

        @Test(arguments: ["auto", "bpf", "socket"])
        func theKernelIsSilent(consume: String) throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(more: ["consume: \(consume)"]))
                let claim = try daemon.status().interfaces[0].claimActive
                #expect(claim == (consume == "socket" ? "socket" : "tcx"))
                try rig.serve(.pod, "echo")
                try Self.route(rig)
                let errors = try Capture.nodeErrors(rig)
                for mode in Mode.allCases {
                    let answer = try rig.lab(
                        .client, "pingpong", mode.vip, "7", "--count", "20")
                    #expect(answer["lost"] == 0)
                }
                try rig.send(Self.ours() + Self.strangers(), repeat: 3)
                // Last, so that its answers prove that all others would have been seen.
                try rig.send(Self.gre)
                try errors.wait(for: 2)
                #expect(errors.packets.count == 2, "\(errors.packets)")
                #expect(errors.packets[0].contains("protocol 47 unreachable"))
                try daemon.wait(received: 80 + 24)
                #expect(try daemon.metrics().drops == ["remote_not_allowed": 12])
                try daemon.expectConservation()
            }
        }

        /// The strangers' addresses need neighbours, or no error could be sent to them.
        private static func route(_ rig: Rig) throws {
            try rig.ip(
                .node,
                """
                neighbour replace \(stranger4) lladdr 02:00:00:00:02:01 dev eth0 nud permanent
                neighbour replace \(stranger6) lladdr 02:00:00:00:02:01 dev eth0 nud permanent
                """)
        }

        /// The control: without a claim the kernel refuses each frame, though shuck forwards it.
        @Test func theKernelAnswersWithoutAClaim() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(more: ["consume: off"]))
                #expect(try daemon.status().interfaces[0].claimActive == "none")
                let errors = try Capture.nodeErrors(rig)
                try rig.send(Self.ours())
                try errors.wait(for: 4)
                try Self.expectRefusals(errors)
                try eventually("four packets") {
                    try daemon.status().packets["injected"] == 4
                }
                try daemon.expectConservation()
            }
        }

        /// One answer a mode: IPv4 names the protocol, IPv6 the place of the next header.
        private static func expectRefusals(_ errors: Capture) throws {
            let packets = errors.packets
            #expect(packets.filter { $0.contains("protocol 4 unreachable") }.count == 1)
            #expect(packets.filter { $0.contains("protocol 41 unreachable") }.count == 1)
            #expect(
                packets.filter { $0.contains("parameter problem") && $0.contains("octet 6") }.count
                    == 2, "\(packets)")
        }

        @Test func otherRemotesAreLeftToTheKernel() throws {
            try Rig.with { rig in
                let tunnel = Setup.Tunnel(more: ["otherRemotes: pass"])
                let daemon = try Daemon.ready(rig, Setup(tunnels: [tunnel]))
                try Self.route(rig)
                let errors = try Capture.nodeErrors(rig)
                try rig.send(Self.ours(), repeat: 5)
                try rig.send(Self.strangers())
                try errors.wait(for: 4)
                try Self.expectRefusals(errors)
                for packet in errors.packets {
                    #expect(
                        packet.contains("> \(Self.stranger4)")
                            || packet.contains(
                                "> \(Self.stranger6)"),
                        "\(packet)")
                }
                try daemon.wait(received: 24)
                let packets = try daemon.status().packets
                #expect(packets["injected"] == 20)
                #expect(packets["passed"] == 4)
                try daemon.expectConservation()
            }
        }

        @Test(arguments: ["auto", "bpf", "socket"], [SIGTERM, SIGKILL])
        func nothingIsLeftBehind(consume: String, signal: Int32) throws {
            try Rig.with { rig in
                let before = try Self.traces(rig)
                let daemon = try Daemon.ready(rig, Setup(more: ["consume: \(consume)"]))
                let errors = try Capture.nodeErrors(rig)
                try rig.send(Self.ours(), repeat: 5)
                try eventually("all packets") { try daemon.status().packets["injected"] == 20 }
                // Last, so that its answer proves that all others would have been seen.
                try rig.send([Self.gre[0]])
                try errors.wait(for: 1)
                #expect(errors.packets.count == 1, "\(errors.packets)")
                #expect(errors.packets[0].contains("protocol 47 unreachable"))
                #expect(try rig.hasLink(.node, "shuck0"))
                daemon.process.signal(signal)
                let result = try daemon.process.wait()
                #expect(result.status == (signal == SIGTERM ? 0 : 128 + SIGKILL))
                try rig.waitForEnd(of: "shuck0", .node)
                #expect(try Self.traces(rig) == before)
                try rig.send(Self.ours())
                try errors.wait(for: 1 + 4)
                try Self.expectRefusals(errors)
            }
        }

        /// Links, routes, rules and filters of the node.
        private static func traces(_ rig: Rig) throws -> String {
            try rig.run(
                .node, "sh", "-c",
                """
                set -e
                ip link | sed 's/state .*//'
                ip address
                ip route show table all
                ip -6 route show table all
                ip rule
                ip -6 rule
                tc filter show dev eth0 ingress
                nft list ruleset
                sysctl -a -r 'net.ipv[46].conf.*'
                """)
        }
    }
}
