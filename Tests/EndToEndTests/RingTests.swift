// What a worker's rings do to it: calls refused while it runs, files not taken, one ring that is full.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct RingTests {
        /// Submits of eight entries or more are refused: none at the start, but those of a full batch.
        private static func refusing(_ error: String) -> String {
            """
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 3),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
            BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 8, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | \(error)),
            """
        }

        private static func backlog(_ count: Int, port: UInt16 = IPPacket.port) -> [IPPacket] {
            (0..<count).map { number in
                IPPacket.datagram(Rig.client4, Mode.ipip.vip, port: port, "\(number)").wrapped(.ipip)
            }
        }

        /// Each of a profile's ways to refuse: for good, as if it might pass, and without an error.
        @Test(arguments: ["EPERM", "EAGAIN", "0"])
        func aSubmitThatIsRefusedEndsTheWorkerWithItsCause(error: String) throws {
            try Rig.with { rig in
                let helper = try rig.helper("refuse", Self.refusing(error))
                let daemon = try Daemon(rig, Setup(coalesce: false), wrapper: [helper])
                try daemon.waitUntilReady()
                // Collected in the ring, they come as one batch.
                try daemon.signalEngine(SIGSTOP)
                try rig.send(Self.backlog(64))
                try daemon.signalEngine(SIGCONT)
                let result = try daemon.process.wait(seconds: 20)
                #expect(result.status == 1, "\(result.errors)")
                #expect(result.errors.contains("io_uring_enter"), "\(result.errors)")
                if error != "EAGAIN" {
                    #expect(result.errors.contains("seccomp"), "\(result.errors)")
                }
                try rig.waitForEnd(of: "shuck0", .node)
            }
        }

        /// The profile lets two files be registered at once, and no more.
        @Test func filesThatAreNotTakenLeaveTheOldOnesInForce() throws {
            try Rig.with { rig in
                let helper = try rig.helper(
                    "refuse",
                    """
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 5),
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 3),
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
                    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 3, 0, 1),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                    """)
                let daemon = try Daemon(rig, Setup(coalesce: false), wrapper: [helper])
                try daemon.waitUntilReady()
                func devices(_ count: Int) -> Setup {
                    Setup(
                        coalesce: false,
                        more: ["devices:"] + (0..<count).map { "  - {name: shuck\($0)}" })
                }
                try daemon.configure(devices(3))
                let refused = try daemon.reload()
                #expect(refused.status != 200)
                #expect(refused.body.contains("io_uring_register"), "\(refused.body)")
                #expect(daemon.process.isRunning)

                let arrived = try Capture(rig, .pod, "eth0", "udp port \(IPPacket.port)")
                try rig.send(Self.backlog(3))
                try arrived.wait(for: 3)
                // What can be taken is.
                try daemon.configure(devices(2))
                let taken = try daemon.reload()
                #expect(taken.status == 200, "\(taken.body)")
                try rig.send(Self.backlog(3))
                try arrived.wait(for: 6)
                #expect(try daemon.status().devices.map(\.name) == ["shuck0", "shuck1"])
                #expect(try !rig.hasLink(.node, "shuck2"))
                #expect(try daemon.stop().status == 0)
            }
        }

        /// By place in what the pod receives, for the time that it takes says nothing on a busy host.
        @Test func aBacklogOnOneInterfaceDelaysNoOther() throws {
            try Rig.with { rig in
                try rig.ip(
                    .node,
                    """
                    link add eth1 address 02:00:00:00:02:02 type veth peer name more netns \
                    \(rig.name)-balancer
                    link set eth1 up

                    """)
                try rig.ip(.balancer, "link set more up\n")
                let daemon = try Daemon.ready(
                    rig,
                    Setup(
                        interfaces: ["eth0", "eth1"], coalesce: false,
                        more: ["reversePath: {mode: \"off\"}"]))
                let arrived = try Capture(rig, .pod, "eth0", "udp and dst host \(Mode.ipip.vip)")
                try daemon.signalEngine(SIGSTOP)
                try rig.send(Self.backlog(2000), pause: 20)
                try rig.send(Self.backlog(1, port: 4243), through: "more")
                try daemon.signalEngine(SIGCONT)
                let other = "\(Mode.ipip.vip).4243:"
                try eventually("the other interface's frame") {
                    arrived.packets.contains { $0.contains(other) }
                }
                try daemon.wait(received: 1000)
                let place = try #require(arrived.packets.firstIndex { $0.contains(other) })
                // Two batches of 64.
                #expect(place <= 128, "behind \(place) frames")
                try daemon.expectConservation()
            }
        }
    }
}
