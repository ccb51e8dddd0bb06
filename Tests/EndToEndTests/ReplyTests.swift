// What pods answer, as the client sees it: the MSS of real SYN-ACKs with and without the kernel's clamp.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct ReplyTests {
        private static let nft = "mss: {replies: nft}"

        /// One tunnel for each outer family, so that each mode has its own MSS.
        private static func setup(_ more: String...) -> Setup {
            Setup(
                tunnels: [
                    Setup.Tunnel(
                        name: "outer4", local: [Rig.node4], remotes: [Rig.balancer4],
                        destinations: [Mode.ipip.vip, Mode.ip6ip.vip]),
                    Setup.Tunnel(
                        name: "outer6", local: [Rig.node6], remotes: [Rig.balancer6],
                        destinations: [Mode.ipip6.vip, Mode.ip6ip6.vip]),
                ], more: more)
        }

        /// What a pod on a link of 1500 bytes announces by itself.
        private static func own(_ mode: Mode) -> Int { mode.innerIsIPv4 ? 1460 : 1440 }

        /// Pods that have not been told of the tunnel: MTU 1500 on both ends of their link.
        private static func with(_ body: (Rig, Answers) throws -> Void) throws {
            try Rig.with { rig in
                try rig.run(.node, "ip", "link", "set", "cali0", "mtu", "1500")
                try rig.run(.pod, "ip", "link", "set", "eth0", "mtu", "1500")
                for port in ["80", "81"] {
                    try rig.serve(.pod, "serve", "--port", port, "--size", "1K", "--seed", "1")
                }
                // To the pod by its own address: past shuck.
                try rig.ip(.balancer, "route add 10.2.1.0/24 via \(Rig.node4)\n")
                try body(rig, Answers(rig))
            }
        }

        @Test func itIsWhatFitsTheLink() throws {
            try Self.with { rig, answers in
                let daemon = try Daemon.ready(rig, Self.setup())
                for mode in Mode.allCases {
                    #expect(try answers.size(mode.vip) == Self.own(mode), "\(mode), off")
                }
                #expect(try daemon.status().mssReplies.active == "off")
                #expect(try rig.tables().isEmpty)
                try daemon.configure(Self.setup(Self.nft))
                #expect(try daemon.reload().status == 200)
                for mode in Mode.allCases {
                    #expect(try answers.size(mode.vip) == mode.clampedMSS, "\(mode)")
                }
                let replies = try daemon.status().mssReplies
                #expect(replies.asked == "nft" && replies.active == "nft")
                #expect(try rig.tables() == ["inet \(replies.table ?? "")"])
                let metrics = try daemon.metrics()
                for mode in Mode.allCases {
                    let (tunnel, family) = (
                        mode.outerIsIPv4 ? "outer4" : "outer6", mode.innerIsIPv4 ? "ipv4" : "ipv6"
                    )
                    let series =
                        "shuck_mss_replies_bytes{tunnel=\"\(tunnel)\",family=\"\(family)\"}"
                    #expect(metrics.values[series] == Double(mode.clampedMSS), "\(mode)")
                }
                // Not an answer of a destination.
                #expect(try answers.size(Rig.pod4) == 1460)
                // The link's MTU is followed.
                try rig.run(.node, "ip", "link", "set", "eth0", "mtu", "1400")
                try eventually("the new MTU") {
                    try rig.run(.node, "nft", "list", "ruleset").contains("size set 1340")
                }
                for mode in Mode.allCases {
                    #expect(try answers.size(mode.vip) == mode.clampedMSS - 100, "\(mode)")
                }
                // Only lowered.
                try rig.run(
                    .pod, "ip", "route", "replace", "default", "via", "10.2.1.1", "advmss", "1000")
                #expect(try answers.size(Mode.ipip.vip) == 1000)
                try daemon.expectConservation()
            }
        }

        @Test func aNumberAndADestinationsOwnCount() throws {
            try Self.with { rig, answers in
                var setup = Setup(tunnels: [Setup.Tunnel(destinations: [Mode.ip6ip6.vip])])
                // They continue the list of destinations.
                setup.tunnels[0].more = [
                    "  - {prefix: \(Mode.ipip.vip), protocol: tcp, ports: [80], mss: 1111}",
                    "  - {prefix: \(Mode.ipip.vip), protocol: tcp, ports: [81], mss: off}",
                    "  - {prefix: 203.0.113.0/24}",
                ]
                setup.more = ["mss: {ipv4: 1234, ipv6: 1235, replies: nft}"]
                let daemon = try Daemon.ready(rig, setup)
                #expect(try answers.size(Mode.ipip.vip) == 1111)
                #expect(try answers.size(Mode.ipip.vip, port: 81) == 1460)
                #expect(try answers.size(Mode.ipip6.vip) == 1234)
                #expect(try answers.size(Mode.ip6ip6.vip) == 1235)
                setup.more = ["mss: {replies: nft}"]
                try daemon.configure(setup)
                #expect(try daemon.reload().status == 200)
                // By either outer family: the larger header counts.
                #expect(try answers.size(Mode.ipip6.vip) == 1420)
                #expect(try answers.size(Mode.ip6ip6.vip) == 1400)
                setup.more = []
                try daemon.configure(setup)
                #expect(try daemon.reload().status == 200)
                #expect(try answers.size(Mode.ip6ip6.vip) == 1440)
                #expect(try rig.tables().isEmpty)
            }
        }

        /// As kube-proxy has it: the pod answers from its own address, and only behind source
        /// translation is it the service's again.
        @Test func aTranslatedAnswerIsClamped() throws {
            try Self.with { rig, answers in
                try rig.ip(
                    .pod,
                    Mode.allCases.map { mode in
                        "address delete \(mode.vip)/\(mode.innerIsIPv4 ? 32 : 128) dev lo\n"
                    }.joined())
                try rig.nft(
                    """
                    table inet test {
                        chain prerouting {
                            type nat hook prerouting priority dstnat
                            ip daddr 203.0.113.0/24 dnat ip to \(Rig.pod4)
                            ip6 daddr 2001:db8:f::/64 dnat ip6 to \(Rig.pod6)
                        }
                    }

                    """)
                let daemon = try Daemon.ready(rig, Self.setup(Self.nft))
                for mode in Mode.allCases {
                    #expect(try answers.size(mode.vip) == mode.clampedMSS, "\(mode)")
                }
                // To whom the pod's own address is reached by, it says what it always said.
                #expect(try answers.size(Rig.pod4) == 1460)
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func theTableGoesWithItsProcess() throws {
            try Rig.with { rig in
                let first = try Daemon.ready(rig, Self.setup(Self.nft))
                var other = Setup(
                    interfaces: ["cali0"],
                    tunnels: [Setup.Tunnel(local: ["192.0.2.200"], remotes: [Rig.balancer4])])
                other.more = [Self.nft, "devices: [{name: shuck1}]"]
                let second = try Daemon(rig, other, name: "other")
                try second.waitUntilReady()
                let names = try [first, second].map { try $0.status().mssReplies.table ?? "" }
                #expect(try rig.tables().sorted() == names.map { "inet \($0)" }.sorted())
                // Nobody else may empty it.
                try rig.run(.node, "nft", "flush", "ruleset")
                #expect(try rig.attempt(.node, ["nft", "delete", "table", "inet", names[0]]).status != 0)
                #expect(try rig.tables().count == 2)
                second.process.signal(SIGKILL)
                try second.process.wait()
                try eventually("its table to go") { try rig.tables() == ["inet \(names[0])"] }
                #expect(try first.stop().status == 0)
                #expect(try rig.tables().isEmpty)
            }
        }

        /// Two processes of one number in two containers on the host's network, or a table that
        /// somebody left under our name: another name is taken.
        @Test func aNameThatIsTakenIsNoHindrance() throws {
            try Rig.with { rig in
                let wrapper = [
                    "sh", "-c", "nft add table inet shuck-$$ && exec \"$@\"", "sh",
                ]
                let daemon = try Daemon(rig, Self.setup(Self.nft), wrapper: wrapper)
                try daemon.waitUntilReady()
                let status = try daemon.status()
                #expect(status.mssReplies.table == "shuck-\(status.processID)-2")
                #expect(try daemon.stop().status == 0)
                #expect(try rig.tables() == ["inet shuck-\(status.processID)"])
            }
        }

        /// A kernel without nf_tables: said at the start, and again at a reload that asks for it.
        @Test func aKernelWithoutTablesIsSaid() throws {
            try Rig.with { rig in
                let helper = try rig.helper(
                    "refuse-nft",
                    """
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 12 /* NETLINK_NETFILTER */, 0, 1),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPROTONOSUPPORT),
                    """)
                let refused = try Daemon(rig, Self.setup(Self.nft), wrapper: [helper])
                let result = try refused.process.wait(seconds: 20)
                #expect(result.status == 3)
                #expect(result.errors.contains("modprobe nf_tables"), "\(result.errors)")
                let daemon = try Daemon(rig, Self.setup(), wrapper: [helper])
                try daemon.waitUntilReady()
                try daemon.configure(Self.setup(Self.nft))
                let answer = try daemon.reload()
                #expect(answer.status == 409)
                #expect(answer.body.contains("modprobe nf_tables"), "\(answer.body)")
                #expect(try daemon.status().mssReplies.asked == "off")
                #expect(daemon.isReady)
            }
        }

        @Test func aShadowClampsNothing() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Self.setup(Self.nft, "mode: shadow"))
                #expect(try daemon.status().mssReplies.active == "off")
                #expect(try rig.tables().isEmpty)
            }
        }
    }
}

/// SYN-ACKs as they reach the client.
private struct Answers {
    private let rig: Rig
    private let capture: Capture

    init(_ rig: Rig) throws {
        self.rig = rig
        capture = try Capture(
            rig, .client, "eth0",
            "tcp[13] & 18 == 18 or (ip6 and ip6[6] == 6 and ip6[53] & 18 == 18)")
    }

    /// Opens a connection: the MSS of its answer.
    func size(_ address: String, port: Int = 80) throws -> Int {
        let before = capture.packets.count
        let fetched = try rig.lab(.client, "fetch", address, "\(port)", "--timeout", "10")
        #expect(fetched["bytes"] == 1024)
        try capture.wait(for: before + 1)
        let packet = capture.packets[before]
        #expect(packet.contains("\(address).\(port) >"), "\(packet)")
        guard let start = packet.range(of: "[mss "),
            let size = Int(packet[start.upperBound...].prefix { $0 != "," })
        else { throw Failure("no MSS: \(packet)") }
        return size
    }
}

extension Rig {
    /// Tables on the node, as `inet NAME`.
    fileprivate func tables() throws -> [String] {
        try run(.node, "nft", "list", "tables").split(separator: "\n").map {
            String($0.dropFirst("table ".count))
        }.filter { $0 != "inet test" }
    }
}
