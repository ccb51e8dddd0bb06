// The process that forwards is killed: another one goes on where it stopped, and the supervisor, which holds
// everything, stays.

import Foundation
import Glibc
import Testing

extension EndToEnd {
    @Suite struct EngineTests {
        private static func waitForAnother(_ daemon: Daemon, after restarts: Int) throws {
            try eventually("another engine", 10) {
                guard daemon.process.isRunning else { throw Failure(daemon.process.errors) }
                guard daemon.isReady else { return false }
                return try daemon.status().engineRestarts > restarts
            }
        }

        @Test func oneThatIsKilledLosesNothing() throws {
            try Rig.with { rig in
                let setup = Setup(
                    workers: 2,
                    more: [
                        "devices: [{name: shuck0}, {name: shuck1, netns: /run/netns/\(rig.name)-pod}]",
                        "mss: {ipv4: 1300, replies: nft}",
                    ])
                let daemon = try Daemon.ready(rig, setup)
                let before = try HeldState(rig, daemon, namespaces: ["\(rig.name)-pod"], prefix: "shuck")
                var twice = 0
                let answer = try rig.stream {
                    for number in 0..<3 {
                        let status = try daemon.status()
                        kill(status.engineProcessID, SIGKILL)
                        try Self.waitForAnother(daemon, after: number)
                        let now = try daemon.status()
                        #expect(now.engineProcessID != status.engineProcessID)
                        #expect(now.processID == daemon.process.processID)
                        #expect(now.lastEngineEnd?.contains("signal 9") == true)
                        #expect(now.packets["received", default: 0] >= status.packets["received", default: 0])
                        // It lives for a while.
                        usleep(700_000)
                    }
                    twice = Int(try daemon.metrics().sum("shuck_repeated_packets_total"))
                }
                for what in ["lost", "late", "altered"] { #expect(answer[what] == 0, "\(answer)") }
                #expect(Int(answer["twice"]) <= twice, "\(answer)")
                #expect(try daemon.metrics().sum("shuck_engine_restarts_total") == 3)
                try daemon.expectConservation()
                try eventually("the state of before") {
                    try HeldState(rig, daemon, namespaces: ["\(rig.name)-pod"], prefix: "shuck") == before
                }
                // What it is told still reaches it.
                try daemon.configure(setup)
                #expect(try daemon.reload().status == 200)
                #expect(try daemon.stop().status == 0)
                try rig.waitForEnd(of: "shuck0", .node)
            }
        }

        /// The fourth that does not live for half a second is waited with; then there is one again.
        @Test func thoseThatEndAtOnceAreWaitedWith() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                for number in 0..<5 {
                    kill(try daemon.status().engineProcessID, SIGKILL)
                    try Self.waitForAnother(daemon, after: number)
                }
                try daemon.waitForLine(containing: "4 engines in a row did not live for half a second")
                #expect(try daemon.stop().status == 0)
            }
        }

        /// A worker that stands still while its ring fills costs its engine; another forwards what waits.
        @Test func oneThatTakesNothingIsReplaced() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                let held = try HeldThread(
                    rig, of: daemon.status().engineProcessID, name: "shuck-worker-0")
                // One that is idle may stand still for as long as it likes.
                usleep(6_000_000)
                #expect(try daemon.status().engineRestarts == 0)
                let arrived = try Capture(rig, .pod, "eth0", "udp and dst host \(Mode.ipip.vip)")
                let packet = IPPacket.datagram(Rig.client4, Mode.ipip.vip, port: 4242, "waits")
                try rig.send([packet.wrapped(.ipip)])
                try eventually("what waited", 10) { !arrived.packets.isEmpty }
                try daemon.waitForLine(containing: "worker 0 took nothing for 5 s")
                try Self.waitForAnother(daemon, after: 0)
                try rig.waitForAnswer(Mode.ipip.vip, "by another engine")
                held.release()
                try daemon.expectConservation()
                #expect(try daemon.stop().status == 0)
            }
        }

        /// A supervisor that is killed leaves nothing behind.
        @Test func itEndsWithItsSupervisor() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let engine = try daemon.status().engineProcessID
                daemon.process.signal(SIGKILL)
                try eventually("its end", 5) { kill(engine, 0) != 0 }
                try rig.waitForEnd(of: "shuck0", .node)
            }
        }

        /// Its own limit of descriptors is reached: it says what it could not take, and gets it once it can.
        @Test func descriptorsThatItCannotTakeComeAgain() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                let engine = try daemon.status().engineProcessID
                try rig.run(.node, "prlimit", "--pid", "\(engine)", "--nofile=4:4096")
                try rig.run(.node, "ip", "link", "delete", "eth0")
                try rig.makeNodeLink()
                try daemon.waitForLine(containing: "the engine could not take all that was opened")
                usleep(500_000)
                try rig.run(.node, "prlimit", "--pid", "\(engine)", "--nofile=4096:4096")
                try daemon.waitUntilReady()
                #expect(try daemon.status().engineRestarts == 0)
                try rig.waitForAnswer(Mode.ipip.vip, "by what it got again")
                #expect(try daemon.stop().status == 0)
            }
        }
    }
}
