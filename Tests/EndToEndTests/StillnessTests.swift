// A worker that stands still: seen, named, and in nobody's way.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct StillnessTests {
        private static func health(_ daemon: Daemon) -> AdminAnswer? {
            AdminClient.ask(daemon.socket, "GET", "/healthz")
        }

        private static func hold(_ rig: Rig, _ daemon: Daemon, worker: Int) throws -> HeldThread {
            try HeldThread(
                rig, of: daemon.status().engineProcessID, name: "shuck-worker-\(worker)")
        }

        /// Nothing comes to it, so that nothing but the question for a sign of life shows it.
        @Test func anIdleWorkerThatStandsStillIsNamed() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                #expect(Self.health(daemon)?.status == 200)
                let held = try Self.hold(rig, daemon, worker: 1)
                let start = Date()
                try eventually("its mention", 10) { Self.health(daemon)?.status == 503 }
                // Promised are 2 s; the rest is for a busy host.
                #expect(Date().timeIntervalSince(start) < 4)
                #expect(Self.health(daemon)?.body.contains("worker 1 on CPU 1 stands still") == true)
                #expect(!daemon.isReady)
                let status = try daemon.status()
                #expect(status.notes.contains { $0.hasPrefix("worker 1 on CPU 1 stands still") })
                #expect(try daemon.metrics().sum("shuck_degraded", "what=\"worker\"") == 1)
                try daemon.waitForLine(containing: "worker 1 on CPU 1 stands still")
                held.release()
                try daemon.waitUntilReady()
                #expect(Self.health(daemon)?.status == 200)
                try daemon.waitForLine(containing: "no longer degraded: worker 1")
                let lines = daemon.process.errors.split(separator: "\n")
                #expect(lines.filter { $0.contains("stands still") }.count == 1, "\(lines)")
                #expect(try daemon.stop().status == 0)
            }
        }

        /// Routes are followed, a reload answers what is in force, and all of it reaches the worker later.
        @Test func whatChangesDoesNotWaitForIt() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                let held = try Self.hold(rig, daemon, worker: 0)
                try eventually("its mention", 10) { Self.health(daemon)?.status == 503 }
                // From now on no change waits for it: ten waits of a second each would show.
                let start = Date()
                for number in 1...10 {
                    let routes = try daemon.metrics().sum("shuck_routes", "ipv4")
                    try rig.run(
                        .node, "ip", "route", "add", "198.18.\(number).0/24", "dev", "cali0")
                    try eventually("the route") {
                        try daemon.metrics().sum("shuck_routes", "ipv4") > routes
                    }
                }
                try rig.run(.node, "ip", "link", "delete", "shuck0")
                try eventually("the device") { try daemon.status().devices[0].state == "up" }
                try daemon.configure(Setup(workers: 2, more: ["mss: {ipv4: 1300}"]))
                for _ in 1...5 {
                    let answer = try daemon.reload()
                    #expect(answer.status == 200)
                    #expect(answer.body.contains("worker 0 on CPU 0 has not taken it yet"), "\(answer)")
                }
                #expect(Date().timeIntervalSince(start) < 8)
                let shown = AdminClient.ask(daemon.socket, "GET", "/config")?.body
                #expect(shown?.contains("ipv4: 1300") == true)
                let printed = try rig.attempt(
                    .node, [Tools.shuck, "reload", "--socket", daemon.socket])
                #expect(printed.status == 0 && printed.output.hasPrefix("applied; worker 0"), "\(printed)")
                held.release()
                try daemon.waitUntilReady()
                try eventually("a reload that all take") { try daemon.reload().body.isEmpty }
                try rig.serve(.pod, "echo")
                let answer = try rig.lab(.client, "pingpong", Mode.ipip.vip, "7", "--count", "10")
                #expect(answer["lost"] == 0)
                try daemon.expectConservation()
            }
        }

        /// What then is shown is old, and nobody would follow a change.
        /// Before it is known to stand still, too.
        @Test func aReloadNamesWhoHasNotTakenItInTime() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                let held = try Self.hold(rig, daemon, worker: 1)
                try daemon.configure(Setup(workers: 2, more: ["mss: {ipv4: 1300}"]))
                let answer = try daemon.reload()
                #expect(answer.status == 200)
                #expect(answer.body.contains("worker 1 on CPU 1 has not taken it yet"), "\(answer)")
                held.release()
                try daemon.waitUntilReady()
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func aControlThreadThatStandsStillIsNamed() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let held = try HeldThread(
                    rig, of: daemon.status().processID, name: "shuck")
                try eventually("its mention", 15) { Self.health(daemon)?.status == 503 }
                #expect(Self.health(daemon)?.body.contains("control thread stands still") == true)
                #expect(!daemon.isReady)
                held.release()
                try daemon.waitUntilReady()
                #expect(Self.health(daemon)?.status == 200)
            }
        }

        @Test func sigtermEndsItBesideAWorkerThatStandsStill() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                _ = try Self.hold(rig, daemon, worker: 1)
                let result = try daemon.stop()
                #expect(result.status == 1)
                #expect(result.errors.contains("worker 1 on CPU 1 stands still and did not end"))
                #expect(result.errors.contains("stopped"))
                #expect(!FileManager.default.fileExists(atPath: daemon.socket))
                try rig.waitForEnd(of: "shuck0", .node)
            }
        }
    }
}
