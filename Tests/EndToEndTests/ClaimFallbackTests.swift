// Claims that the host refuses or that raw sockets cannot hold: refused or named, never quietly less.

import Foundation
import Glibc
import Testing

extension EndToEnd {
    @Suite struct ClaimFallbackTests {
        /// In no prefix of the rig: the node has only what a test gives it.
        private static let stray = "198.18.0.9"

        private static func setup(_ consume: String, local: [String] = []) -> Setup {
            var setup = Setup(more: ["consume: \(consume)"])
            setup.tunnels[0].local += local
            return setup
        }

        private static func capabilities(_ names: [String]) -> [String] {
            let set = (["-all"] + names.map { "+" + $0 }).joined(separator: ",")
            return ["setpriv", "--inh-caps=\(set)", "--bounding-set=\(set)"]
        }

        private static func refusingBPF(_ rig: Rig, _ error: String) throws -> [String] {
            [
                try rig.helper(
                    "refuse-bpf-\(error)",
                    """
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | \(error)),
                    """)
            ]
        }

        /// What the README asks for is enough for the claim that it promises.
        @Test func theNamedCapabilitiesAreEnough() throws {
            try Rig.with { rig in
                let daemon = try Daemon(
                    rig, wrapper: Self.capabilities(["net_admin", "net_raw", "bpf"]),
                    options: ["--strict"])
                try daemon.waitUntilReady()
                #expect(try daemon.status().interfaces[0].claimActive == "tcx")
                #expect(try daemon.metrics().sum("shuck_degraded") == 0)
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test(arguments: ["capability", "EPERM", "ENOSYS"])
        func aFallbackIsNamedEverywhere(cause: String) throws {
            try Rig.with { rig in
                let wrapper =
                    try cause == "capability"
                    ? Self.capabilities(["net_admin", "net_raw"]) : Self.refusingBPF(rig, cause)
                let remedy = cause == "ENOSYS" ? "seccomp" : "CAP_BPF"
                let daemon = try Daemon(rig, wrapper: wrapper)
                try daemon.waitUntilReady()
                let status = try daemon.status()
                #expect(status.interfaces[0].claimActive == "socket")
                let notes = status.notes.filter { $0.contains("eth0 is claimed by raw sockets") }
                #expect(notes.count == 1 && notes[0].contains(remedy), "\(status.notes)")
                #expect(
                    try daemon.metrics().sum("shuck_degraded", "what=\"claim\"") == 1)
                let result = try daemon.stop()
                #expect(result.status == 0)
                let told = result.errors.components(separatedBy: "eth0 is claimed by raw sockets")
                #expect(told.count == 2, "\(result.errors)")
                for (options, consume) in [(["--strict"], "auto"), ([], "bpf")] {
                    let refused = try Daemon(
                        rig, Self.setup(consume), wrapper: wrapper, options: options
                    ).process.wait(seconds: 20)
                    #expect(refused.status == 3)
                    #expect(refused.errors.contains(remedy), "\(refused.errors)")
                    try rig.waitForEnd(of: "shuck0", .node)
                }
            }
        }

        /// The kernel would forward its frames, and each that came back would be injected again.
        @Test func aFallbackThatCannotHoldKeepsItFromBeingReady() throws {
            try Rig.with { rig in
                let daemon = try Daemon(
                    rig, Self.setup("auto", local: [Self.stray, "198.18.1.0/24"]),
                    wrapper: Self.capabilities(["net_admin", "net_raw"]))
                try eventually("both to be named") {
                    let reasons =
                        try AdminClient.ask(daemon.socket, "GET", "/status") == nil
                        ? [] : daemon.status().notReady
                    return reasons.contains { $0.contains("ip address add \(Self.stray)/32") }
                        && reasons.contains { $0.contains("198.18.1.0/24") }
                }
                #expect(!daemon.isReady)
            }
        }

        @Test func rawSocketsNeedAnAddressOfThisHost() throws {
            try Rig.with { rig in
                let remedy = "ip address add \(Self.stray)/32 dev lo"
                let refused = try Daemon(rig, Self.setup("socket", local: [Self.stray]))
                    .process.wait(seconds: 20)
                #expect(refused.status == 3)
                #expect(refused.errors.contains(remedy), "\(refused.errors)")
                let daemon = try Daemon.ready(rig, Self.setup("socket"))
                try daemon.configure(Self.setup("socket", local: [Self.stray]))
                let answer = try daemon.reload()
                #expect(answer.status != 200 && answer.body.contains(remedy), "\(answer.body)")
                #expect(daemon.isReady)
                try rig.ip(.node, "address add \(Self.stray)/32 dev lo\n")
                try eventually("the reload to be applied") { try daemon.reload().status == 200 }
                #expect(daemon.isReady)
                // An address that goes while it runs.
                try rig.ip(.node, "address del \(Self.stray)/32 dev lo\n")
                try eventually("it not to be ready") {
                    try daemon.status().notReady.contains { $0.contains(remedy) }
                }
                #expect(!daemon.isReady)
                #expect(
                    try daemon.metrics().sum("shuck_degraded", "what=\"claim\"") == 1)
                try rig.ip(.node, "address add \(Self.stray)/32 dev lo\n")
                try eventually("it to be ready again") { daemon.isReady }
            }
        }

        @Test func aPrefixForRawSocketsIsAProblemOfTheFile() throws {
            try Rig.with { rig in
                let daemon = try Daemon(rig, Self.setup("socket", local: ["198.18.1.0/24"]))
                let result = try daemon.process.wait(seconds: 20)
                #expect(result.status == 1)
                #expect(
                    result.errors.contains("\(daemon.configurationPath):4:"), "\(result.errors)")
            }
        }

        /// More than an unrolled program could hold: applied by a reload, and each is claimed.
        @Test func tensOfThousandsOfAddressesAreClaimed() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                var setup = Setup()
                setup.tunnels[0].more = ["otherRemotes: pass"]
                setup.tunnels[0].local += (0..<12_000).map { "198.18.\($0 >> 8).\($0 & 255)" }
                setup.tunnels[0].remotes += (0..<4_000).map {
                    "2001:db8:5::" + String($0, radix: 16)
                }
                try daemon.configure(setup)
                #expect(try daemon.reload().status == 200)
                let errors = try Capture.nodeErrors(rig)
                let inner = IPPacket.datagram(Rig.client4, Mode.ipip.vip)
                let gre = IPPacket(
                    source: Rig.balancer4, destination: Rig.node4, protocolNumber: 47,
                    payload: [UInt8](repeating: 0, count: 24))
                try rig.ip(.balancer, "route add 198.18.0.0/15 via \(Rig.node4)\n")
                try rig.send(
                    ["198.18.0.0", "198.18.20.1", "198.18.46.223", Rig.node4].map {
                        inner.wrapped(from: Rig.balancer4, to: $0)
                    } + [gre])
                try eventually("four packets") { try daemon.status().packets["injected"] == 4 }
                try errors.wait(for: 1)
                #expect(errors.packets.count == 1, "\(errors.packets)")
                #expect(errors.packets.allSatisfy { $0.contains("protocol 47") })
                try daemon.expectConservation()
            }
        }
    }
}
