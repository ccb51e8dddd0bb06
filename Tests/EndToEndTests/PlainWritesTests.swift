// Where io_uring is refused: plain system calls do the same work, and everything says so.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct PlainWritesTests {
        /// As a container's seccomp profile that does not know a system call of io_uring.
        static func refusing(_ rig: Rig, _ call: String, _ error: String) throws -> [String] {
            [
                try rig.helper(
                    "refuse",
                    """
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_\(call), 0, 1),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | \(error)),
                    """)
            ]
        }

        @Test(arguments: [
            ("io_uring_setup", "EPERM"), ("io_uring_setup", "ENOSYS"), ("io_uring_register", "EPERM"),
            ("io_uring_enter", "EPERM"),
        ])
        func itIsNamedEverywhere(call: String, error: String) throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let wrapper = try Self.refusing(rig, call, error)
                let daemon = try Daemon(rig, wrapper: wrapper)
                try daemon.waitUntilReady()
                for mode in Mode.allCases { try rig.waitForAnswer(mode.vip, "in \(mode)") }
                let status = try daemon.status()
                #expect(status.engine == "plain writes")
                let notes = status.notes.filter { $0.contains("io_uring cannot be used") }
                #expect(notes.count == 1 && notes[0].contains("seccomp"), "\(status.notes)")
                #expect(try daemon.metrics().sum("shuck_degraded", "what=\"io_uring\"") == 1)
                try daemon.expectConservation()
                let result = try daemon.stop()
                #expect(result.status == 0)
                let told = result.errors.components(separatedBy: "io_uring cannot be used")
                #expect(told.count == 2, "\(result.errors)")
                let strict = try Daemon(rig, wrapper: wrapper, options: ["--strict"]).process.wait(
                    seconds: 20)
                #expect(strict.status == 3)
                #expect(strict.errors.contains("io_uring_disabled"), "\(strict.errors)")
                try rig.waitForEnd(of: "shuck0", .node)
            }
        }

        @Test("the same bytes arrive, joined and not, and the same is counted")
        func theSameArrives() throws {
            try Rig.with(offloads: .off) { rig in
                try rig.ip(.pod, "address flush dev lo\n")
                var digests: Set<String> = []
                for (coalesce, isPlain) in [(true, true), (false, true), (true, false)] {
                    let setup = Setup(coalesce: coalesce, more: ["mss: {ipv4: off, ipv6: off}"])
                    let wrapper = isPlain ? try Self.refusing(rig, "io_uring_setup", "EPERM") : []
                    let daemon = try Daemon(rig, setup, wrapper: wrapper)
                    try daemon.waitUntilReady()
                    let answer = try Answer(
                        rig.launch([
                            "taskset", "-c", "0", Tools.lab, "same", "\(rig.name)-balancer", "back",
                            "\(rig.name)-pod", "eth0", "--packets", "10000",
                        ]).wait().get())
                    #expect(answer["delivered"] == answer["sent"] - answer["refused"])
                    digests.insert(answer.text("digest"))
                    try daemon.wait(received: answer["sent"])
                    #expect(try daemon.status().dropsByReason == ["ip_csum": answer["refused"]])
                    let metrics = try daemon.metrics()
                    let (writes, packets) = (
                        metrics.sum("shuck_injected_writes_total"),
                        metrics.sum("shuck_injected_packets_total")
                    )
                    #expect(coalesce ? writes < packets : writes == packets)
                    try daemon.expectConservation()
                    #expect(try daemon.stop().status == 0)
                }
                #expect(digests.count == 1)
            }
        }

        /// Polls of rings that go and come, other devices, and the timer of fragments.
        @Test func whatChangesIsFollowed() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let more = ["outer: {fragments: {timeout: 1s}}"]
                let daemon = try Daemon(
                    rig, Setup(workers: 2, more: more),
                    wrapper: Self.refusing(rig, "io_uring_setup", "EPERM"))
                try daemon.waitUntilReady()
                try rig.run(.node, "ip", "link", "delete", "eth0")
                try rig.makeNodeLink()
                try daemon.waitUntilReady()
                try rig.waitForAnswer(Mode.ipip.vip, "after the interface was made again")
                try daemon.configure(
                    Setup(
                        interfaces: ["eth0", "cali0"], workers: 2,
                        more: more + ["devices: [{name: shuck0}, {name: shuck1}]"]))
                #expect(try daemon.reload().status == 200)
                try rig.waitForAnswer(Mode.ip6ip6.vip, "after a reload")
                // Nothing else wakes the worker when the time of this datagram is over.
                try rig.send([
                    IPPacket.datagram(Rig.client4, Mode.ipip.vip, String(repeating: "fragment ", count: 80))
                        .wrapped(.ipip).cut(at: 480, id: 7)[0]
                ])
                try eventually("the end of a datagram that never was whole", 5) {
                    try daemon.metrics().sum("shuck_reassembly_failures_total") == 1
                }
                try daemon.expectConservation()
                #expect(try daemon.stop().status == 0)
            }
        }
    }
}
