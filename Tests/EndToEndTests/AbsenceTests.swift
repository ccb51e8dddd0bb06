// What cannot be opened: named, tried again, and no hindrance to the rest.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct AbsenceTests {
        private static func expectForwarding(_ rig: Rig, _ when: String) throws {
            try rig.waitForAnswer(Mode.ipip.vip, when)
            let answer = try rig.lab(
                .client, "pingpong", Mode.ipip.vip, "7", "--count", "10", "--timeout-ms", "3000")
            #expect(answer["lost"] == 0, "\(when): \(answer)")
        }

        private static func waitForNote(_ daemon: Daemon, _ words: String...) throws {
            try eventually("a note of \(words[0])") {
                let notes = try daemon.status().notes
                return notes.contains { note in words.allSatisfy(note.contains) }
            }
        }

        @Test func anInterfaceThatCannotBeOpenedHindersNoOther() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                try rig.ip(.node, "tuntap add mode tun name plain0\n")
                let daemon = try Daemon(rig, Setup(interfaces: ["eth0", "plain0"]))
                try Self.expectForwarding(rig, "beside it")
                let answer = AdminClient.ask(daemon.socket, "GET", "/readyz")
                #expect(answer?.status == 503)
                #expect(answer?.body.contains("interface plain0 is not received from") == true)
                #expect(answer?.body.contains("no Ethernet device") == true)
                #expect(try daemon.metrics().sum("shuck_degraded", "what=\"interface\"") == 1)
                try daemon.waitForLine(containing: "interface plain0 is not received from")
                // The others are still followed.
                try rig.run(.node, "ip", "link", "delete", "eth0")
                try rig.makeNodeLink()
                try Self.expectForwarding(rig, "after the other was made again")
                // A reload of something else is not refused for it.
                try daemon.configure(
                    Setup(interfaces: ["eth0", "plain0"], more: ["mss: {ipv4: 1300}"]))
                #expect(try daemon.reload().status == 200)
                try rig.run(.node, "ip", "link", "delete", "plain0")
                try rig.ip(
                    .node,
                    "link add plain0 type veth peer name plain1\nlink set plain0 up\nlink set plain1 up\n")
                try daemon.waitUntilReady()
                try daemon.waitForLine(containing: "no longer degraded: interface plain0")
                try daemon.expectConservation()
            }
        }

        /// Without a further notice of the kernel it is tried again.
        @Test func itRecoversWhenDescriptorsAreThereAgain() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                let process = try daemon.status().processID
                func limit(_ files: Int) throws {
                    try rig.run(
                        .node, "prlimit", "--pid", "\(process)", "--nofile=\(files):4096")
                }
                // No number below is free.
                try limit(10)
                try rig.run(.node, "ip", "link", "delete", "eth0")
                try rig.makeNodeLink()
                let line = try daemon.waitForLine(containing: "interface eth0 is not received from")
                #expect(line.contains("LimitNOFILE") && !line.contains("CAP_"), "\(line)")
                try limit(4096)
                try daemon.waitUntilReady()
                try Self.expectForwarding(rig, "after all")
                try daemon.expectConservation()
            }
        }

        /// Whatever of a ring, what goes with it, raw sockets and a program there was no room for: once there
        /// is room, all of it is there.
        @Test(arguments: 1...3)
        func whatHadNoDescriptorIsTriedAgain(descriptors: Int) throws {
            try Rig.with { rig in
                // One address: two raw sockets.
                let tunnel = Setup.Tunnel(
                    local: [Rig.node4], remotes: [Rig.balancer4], destinations: [Mode.ipip.vip])
                let daemon = try Daemon.ready(rig, Setup(tunnels: [tunnel]))
                let process = try daemon.status().processID
                try rig.run(.node, "ip", "link", "delete", "eth0")
                try eventually("its absence") {
                    try daemon.status().interfaces[0].state == "absent"
                }
                // What it stood on goes a moment later; then no number is taken or given back any more.
                var used: Set<Int> = []
                try eventually("the end of what it stood on") {
                    usleep(50_000)
                    let before = used
                    let open = try FileManager.default.contentsOfDirectory(
                        atPath: "/proc/\(process)/fd")
                    used = Set(open.compactMap { Int($0) })
                    return used == before
                }
                let free = (0...).lazy.filter { !used.contains($0) }.prefix(descriptors + 1)
                try rig.run(
                    .node, "prlimit", "--pid", "\(process)", "--nofile=\(Array(free)[descriptors]):4096")
                try rig.makeNodeLink()
                try daemon.waitForLine(containing: "Too many open files")
                try rig.run(.node, "prlimit", "--pid", "\(process)", "--nofile=4096:4096")
                try daemon.waitUntilReady()
                try eventually("the program", 15) {
                    try daemon.status().interfaces[0].claimActive == "tcx"
                }
                let notes = try daemon.status().notes
                #expect(notes.isEmpty, "\(notes)")
            }
        }

        @Test func aDeviceWhoseNameIsTakenInThePodComesWhenItIsFree() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let path = "/run/netns/\(rig.name)-pod"
                try rig.ip(.pod, "link add pod1 type veth peer name other1\n")
                let daemon = try Daemon.ready(
                    rig,
                    Setup(more: ["devices: [{name: shuck0}, {name: pod1, netns: \"\(path)\"}]"]))
                try Self.waitForNote(daemon, "device pod1 is absent", "pod1 is already in there")
                #expect(daemon.isReady)
                try Self.expectForwarding(rig, "beside it")
                try rig.run(.pod, "ip", "link", "delete", "pod1")
                try eventually("the device", 15) { try daemon.status().devices[1].state == "up" }
                try daemon.expectConservation()
            }
        }

        /// As many devices as a node may have pods: taken by a reload, and each when its pod comes.
        @Test func namespacesMayComeAfterTheReloadThatNamesThem() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let extra = "\(rig.name)-extra"
                defer { _ = try? rig.launch(["ip", "netns", "delete", extra]).wait() }
                let devices = (1...129).map { number in
                    let name = number == 129 ? extra : "\(rig.name)-none\(number)"
                    return "{name: pod\(number), netns: /run/netns/\(name)}"
                }
                let names = ["{name: shuck0}"] + devices
                try daemon.configure(Setup(more: ["devices: [\(names.joined(separator: ", "))]"]))
                let answer = try daemon.reload()
                #expect(answer.status == 200, "\(answer)")
                try rig.launch(["ip", "netns", "add", extra]).wait().get()
                try eventually("its device") {
                    try daemon.status().devices.last?.state == "up"
                }
                #expect(daemon.isReady)
                #expect(try daemon.stop().status == 0)
            }
        }

        /// A kernel that lets a worker register one device and not three: the worker refuses, and all
        /// goes on as before.
        @Test func whatAWorkerRefusesIsNotInForce() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let helper = try rig.helper(
                    "refuse-files",
                    """
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_register, 0, 5),
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6 /* IORING_REGISTER_FILES_UPDATE */, 0, 3),
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
                    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 2, 0, 1),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                    """)
                let daemon = try Daemon(rig, Setup(workers: 2), wrapper: [helper])
                try daemon.waitUntilReady()
                // Its ring would have gone, too.
                try daemon.configure(
                    Setup(
                        interfaces: ["cali0"], workers: 2,
                        more: ["devices: [{name: shuck0, mtu: 1400}, {name: shuck1}, {name: shuck2}]"]))
                for _ in 1...2 {
                    let answer = try daemon.reload()
                    #expect(answer.status == 409 && answer.body.contains("worker 0"), "\(answer)")
                }
                #expect(try daemon.status().devices.map(\.name) == ["shuck0"])
                #expect(try daemon.status().interfaces.map(\.name) == ["eth0"])
                let link = try rig.run(.node, "ip", "link", "show", "shuck0")
                #expect(link.contains("mtu 1500"), "\(link)")
                #expect(try !rig.hasLink(.node, "shuck1"))
                #expect(daemon.isReady)
                try Self.expectForwarding(rig, "after a refusal")
                try daemon.expectConservation()
                try daemon.configure(Setup(workers: 2, more: ["mss: {ipv4: 1300}"]))
                #expect(try daemon.reload().status == 200)
                try Self.expectForwarding(rig, "after another reload")
                try daemon.expectConservation()
            }
        }
    }
}
