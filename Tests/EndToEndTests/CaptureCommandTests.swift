// shuck capture: what reaches a file, a pipe and a terminal, and what ends it.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct CaptureCommandTests {
        private static func good(_ mode: Mode = .ipip) -> IPPacket {
            IPPacket.datagram(mode.innerIsIPv4 ? Rig.client4 : Rig.client6, mode.vip).wrapped(
                from: mode.outerIsIPv4 ? Rig.balancer4 : Rig.balancer6,
                to: mode.outerIsIPv4 ? Rig.node4 : Rig.node6)
        }

        private static let stranger = IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(
            from: "198.51.100.77", to: Rig.node4)

        /// Starts one, and waits until the workers write for it. The one before it may not have left yet.
        private static func start(
            _ rig: Rig, _ daemon: Daemon, _ arguments: String...
        ) throws -> RunningCommand {
            try start(rig, daemon, arguments)
        }

        private static func start(
            _ rig: Rig, _ daemon: Daemon, _ arguments: [String]
        ) throws -> RunningCommand {
            var command: RunningCommand?
            try eventually("the capture to run") {
                if command?.isRunning ?? false {
                    return command?.errors.contains("capturing") ?? false
                }
                if let command, !command.errors.contains("another capture runs") {
                    throw Failure("it ended: \(command.errors)")
                }
                command = try rig.start(
                    .node, [Tools.shuck, "capture", "--socket", daemon.socket] + arguments)
                return false
            }
            return try #require(command)
        }

        private static func fields(_ rig: Rig, _ file: String, _ names: String...) throws -> [String] {
            let text = try rig.attempt(
                .node, ["tshark", "-n", "-r", file, "-T", "fields"] + names.flatMap { ["-e", $0] })
            return text.output.split(separator: "\n").map(String.init)
        }

        @Test("a file has the frames as they came, with verdicts in comments, and what was injected")
        func file() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let file = "\(rig.directory)/frames.pcapng"
                try "what was there before".write(toFile: file, atomically: false, encoding: .utf8)
                let capture = try Self.start(rig, daemon, "-w", file, "--injected", "-c", "3")
                try rig.send([Self.good(), Self.stranger])
                let result = try capture.wait(seconds: 20)
                #expect(result.status == 0 && result.errors.contains("3 packets captured"), "\(result)")
                let lines = try Self.fields(
                    rig, file, "frame.interface_name", "frame.comment", "ip.src")
                let verdict =
                    "verdict=inject tunnel=lvs mode=ipip interface=eth0 device=shuck0 worker=0 generation=1"
                #expect(
                    lines.sorted()
                        == [
                            "eth0\tverdict=drop reason=remote_not_allowed tunnel=lvs mode=ipip "
                                + "interface=eth0 worker=0 generation=1\t"
                                + "198.51.100.77,\(Rig.client4)",
                            "eth0\t\(verdict)\t\(Rig.balancer4),\(Rig.client4)",
                            "shuck0\t\(verdict)\t\(Rig.client4)",
                        ].sorted(), "\(lines)")
                let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
                // It was there before.
                #expect(mode == 0o644)
            }
        }

        @Test("lines: only what the reason, the verdict, the tunnel and the filter let through")
        func filters() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let frames = [Self.good(), Self.stranger, Self.good(.ip6ip6)]
                for (options, sources) in [
                    (["--reason", "remote_not_allowed", "-c", "1"], ["198.51.100.77"]),
                    (["--verdict", "inject", "-c", "2"], [Rig.balancer4, Rig.balancer6]),
                    (["--tunnel", "lvs", "-c", "3"], [Rig.balancer4, "198.51.100.77", Rig.balancer6]),
                    (["-c", "1", "ip6 proto 41"], [Rig.balancer6]),
                ] {
                    let capture = try Self.start(rig, daemon, options)
                    try rig.send(frames)
                    let lines = try capture.wait(seconds: 20).get().split(separator: "\n")
                    #expect(lines.count == sources.count, "\(options): \(lines)")
                    for (line, source) in zip(lines, sources) {
                        #expect(line.contains(" \(source) > "), "\(options): \(lines)")
                    }
                }
            }
        }

        @Test("what ends a capture: a signal, a closed pipe, a full disk, the daemon")
        func endings() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let interrupted = try Self.start(rig, daemon)
                interrupted.signal(SIGINT)
                let result = try interrupted.wait(seconds: 20)
                #expect(result.status == 0 && result.errors.contains("0 packets captured"), "\(result)")
                let closed = try rig.attempt(
                    .node,
                    [
                        "bash", "-c",
                        "\(Tools.shuck) capture --socket \(daemon.socket) -w - | head -c 24 | wc -c",
                    ],
                    seconds: 20)
                #expect(closed.output == "24\n" && closed.status == 0, "\(closed)")
                let full = try rig.attempt(
                    .node, [Tools.shuck, "capture", "--socket", daemon.socket, "-w", "/dev/full"])
                #expect(full.status == 1 && full.errors.contains("No space left on device"), "\(full)")
                let last = try Self.start(rig, daemon)
                _ = try daemon.stop()
                let ended = try last.wait(seconds: 20)
                #expect(ended.status == 1 && ended.errors.contains("ended the capture"), "\(ended)")
            }
        }

        @Test("a second capture is refused, wrong names are named")
        func refusals() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let first = try Self.start(rig, daemon)
                let second = try rig.attempt(
                    .node, [Tools.shuck, "capture", "--socket", daemon.socket])
                #expect(second.status == 1 && second.errors.contains("another capture runs"), "\(second)")
                first.signal(SIGTERM)
                try first.wait(seconds: 20)
                for arguments in [["--reason", "ip_rpfliter"], ["--verdict", "lost"], ["-c", "0"]] {
                    let wrong = try rig.attempt(.node, [Tools.shuck, "capture"] + arguments)
                    #expect(wrong.status == 2, "\(wrong)")
                }
                let filter = try rig.attempt(
                    .node, [Tools.shuck, "capture", "--socket", daemon.socket, "no such filter"])
                #expect(filter.status == 1 && filter.errors.contains("filter"), "\(filter)")
            }
        }

        @Test("a reload during a capture: each frame has the generation and the names that judged it")
        func reload() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let capture = try Self.start(rig, daemon, "-c", "2")
                try rig.send([Self.good()])
                try daemon.wait(received: 1)
                try daemon.configure(Setup(tunnels: [Setup.Tunnel(name: "renamed")]))
                #expect(try daemon.reload().status == 200)
                try rig.send([Self.good()])
                let lines = try capture.wait(seconds: 20).get().split(separator: "\n")
                #expect(lines.count == 2, "\(lines)")
                #expect(lines[0].contains("tunnel=lvs ") && lines[0].contains("generation=1 "), "\(lines)")
                #expect(
                    lines[1].contains("tunnel=renamed ") && lines[1].contains("generation=2 "), "\(lines)")
            }
        }

        @Test("a reader that stalls costs no packet: what finds no room is counted")
        func stall() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let capture = try Self.start(
                    rig, daemon, "--verdict", "inject", "-w", "\(rig.directory)/some.pcapng")
                capture.signal(SIGSTOP)
                let large = IPPacket.datagram(
                    Rig.client4, Mode.ipip.vip, String(repeating: "x", count: 1300)
                ).wrapped(from: Rig.balancer4, to: Rig.node4)
                try rig.send([large], repeat: 20_000, pause: 20)
                try eventually("all to be injected") {
                    try daemon.status().packets["injected", default: 0] >= 20_000
                }
                #expect(try daemon.status().packets["injected"] == 20_000)
                let dropped = try daemon.metrics().sum("shuck_capture_dropped_packets_total")
                #expect(dropped > 0 && dropped < 20_000)
                capture.signal(SIGCONT)
                try eventually("the rest to be taken") {
                    let text = try rig.attempt(.node, ["stat", "-c", "%s", "\(rig.directory)/some.pcapng"])
                    // A block: 1362 bytes of frame, 87 of comment, and what stands around them.
                    return (Int(text.output.dropLast()) ?? 0) > 1492 * (20_000 - dropped)
                }
                capture.signal(SIGINT)
                let result = try capture.wait(seconds: 20)
                #expect(result.errors.contains("\(20_000 - dropped) packets captured"), "\(result)")
                #expect(result.errors.contains("\(dropped) that found no room"), "\(result)")
            }
        }

        @Test("the last drop of each reason is kept without a capture")
        func lastDrops() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.send([Self.stranger])
                try daemon.wait(received: 1)
                let line = try rig.run(
                    .node, Tools.shuck, "capture", "--socket", daemon.socket, "--last-drops")
                #expect(
                    line.contains(
                        "verdict=drop reason=remote_not_allowed interface=eth0 198.51.100.77 > "), "\(line)")
                let file = "\(rig.directory)/last.pcapng"
                _ = try rig.run(
                    .node, Tools.shuck, "capture", "--socket", daemon.socket, "--last-drops", "-w", file)
                let fields = try Self.fields(rig, file, "frame.comment", "ip.src")
                #expect(
                    fields
                        == [
                            "verdict=drop reason=remote_not_allowed interface=eth0\t"
                                + "198.51.100.77,\(Rig.client4)"
                        ], "\(fields)")
            }
        }
    }
}
