// A shuck that takes over from the running one, and one that becomes the binary on disk: nothing is lost or
// comes twice, and what fails on the way leaves the running one as it was.

import Foundation
import Glibc
import LinuxIO
import Testing

extension EndToEnd {
    @Suite struct HandOverTests {
        /// All kinds of things that are handed over: rings of two workers, a device here and one in a pod,
        /// sockets, a claim, a table, routes and a device that is read.
        private static func setup(_ rig: Rig) -> Setup {
            Setup(
                workers: 2,
                more: [
                    "devices: [{name: shuck0}, {name: shuck1, netns: /run/netns/\(rig.name)-pod}]",
                    "mss: {ipv4: 1300, replies: nft}",
                    "inner: {rewriteSources: [{interface: eth0, from: \"fe80::1\", to: \"2001:db8:99::1\"}]}",
                ])
        }

        private static func stream(_ rig: Rig, _ body: () throws -> Void) throws {
            let answer = try rig.stream(body)
            #expect(answer["sent"] > 4_000)
            for what in ["lost", "twice", "late", "altered"] { #expect(answer[what] == 0, "\(answer)") }
        }

        private static func held(_ rig: Rig, _ daemon: Daemon) throws -> HeldState {
            try HeldState(
                rig, daemon, namespaces: ["\(rig.name)-pod"], prefix: "shuck")
        }

        /// - Parameter exceptThreads: libdispatch keeps the threads that end an event loop.
        private static func expect(
            _ rig: Rig, _ daemon: Daemon, holds before: HeldState, exceptThreads: Bool = false
        ) throws {
            var difference: [String] = []
            for _ in 0..<50 {
                difference = try held(rig, daemon).difference(from: before).filter {
                    !exceptThreads || !($0.contains("threads") || $0.contains("anon_inode:["))
                }
                if difference.isEmpty { break }
                usleep(100_000)
            }
            #expect(difference.isEmpty)
        }

        private static func handOvers(_ daemon: Daemon) -> Int? {
            AdminClient.ask(daemon.socket, "GET", "/status").flatMap {
                try? JSONDecoder().decode(Status.self, from: Data($0.body.utf8))
            }?.handOvers
        }

        @Test func anotherOneTakesOverAndNothingIsLost() throws {
            try Rig.with { rig in
                let first = try Daemon.ready(rig, Self.setup(rig))
                let before = try Self.held(rig, first)
                var running = first
                try Self.stream(rig) {
                    for number in 1...3 {
                        let received = try running.status().packets["received", default: 0]
                        let next = try Daemon(rig, Self.setup(rig), options: ["--take-over"])
                        #expect(
                            try running.process.wait(seconds: 20).status == 0, "\(running.process.errors)")
                        try eventually("hand-over \(number)") { Self.handOvers(next) == number }
                        #expect(try next.status().processID == next.process.processID)
                        #expect(try next.status().packets["received", default: 0] >= received)
                        running = next
                    }
                }
                try running.expectConservation()
                try Self.expect(rig, running, holds: before)
                // Who comes now is told of the one that holds the interface.
                let second = try rig.attempt(
                    .node, [Tools.shuck, "run", "--config", running.configurationPath])
                #expect(second.status == 3 && second.errors.contains("process \(running.process.processID),"))
                #expect(try running.stop().status == 0)
                #expect(try !rig.hasLink(.node, "shuck0"))
                #expect(!FileManager.default.fileExists(atPath: running.socket + ".hand-over"))
            }
        }

        @Test func anUpgradeKeepsTheProcessAndLosesNothing() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Self.setup(rig))
                func upgrade(_ number: Int) throws {
                    let result = try rig.attempt(
                        .node, [Tools.shuck, "upgrade", "--socket", daemon.socket])
                    #expect(result.status == 0, "\(result.errors) \(daemon.process.errors)")
                    #expect(result.output.hasPrefix("upgraded from "))
                    #expect(Self.handOvers(daemon) == 2 * number)
                }
                // What it was started with beside is closed.
                try upgrade(1)
                let before = try Self.held(rig, daemon)
                try Self.stream(rig) {
                    for number in 2...3 {
                        try upgrade(number)
                        // Between them another configuration.
                        try daemon.configure(number == 2 ? Setup(workers: 2) : Self.setup(rig))
                        #expect(try daemon.reload().status == 200)
                    }
                    daemon.process.signal(SIGUSR2)
                    try eventually("the upgrade by a signal") { Self.handOvers(daemon) == 8 }
                }
                #expect(try daemon.status().processID == daemon.process.processID)
                try daemon.expectConservation()
                try Self.expect(rig, daemon, holds: before)
                #expect(try daemon.stop().status == 0)
            }
        }

        /// More than fit one message.
        @Test func hundredsOfDescriptorsAreHandedOver() throws {
            try Rig.with { rig in
                let devices = (0..<260).map { "{name: shuck\($0)}" }.joined(separator: ", ")
                let setup = Setup(more: ["devices: [\(devices)]"])
                let first = try Daemon.ready(rig, setup)
                let next = try Daemon(rig, setup, options: ["--take-over"])
                #expect(try first.process.wait(seconds: 20).status == 0, "\(first.process.errors)")
                try next.waitUntilReady()
                #expect(try next.status().devices.allSatisfy { $0.state == "up" })
                try rig.serve(.pod, "echo")
                try rig.waitForAnswer(Mode.ipip.vip, "behind the hand-over")
            }
        }

        @Test func itsOwnConfigurationIsTakenUpBehindTheHandOver() throws {
            try Rig.with { rig in
                let first = try Daemon.ready(rig)
                let next = try Daemon(
                    rig, Setup(more: ["reversePath: {mode: feasible}"]), options: ["--take-over"])
                #expect(try first.process.wait(seconds: 20).status == 0)
                try next.waitForLine(containing: "reload applied")
                // One that asks for what only a start can do changes nothing, and forwards.
                let last = try Daemon(rig, Setup(workers: 2), options: ["--take-over"])
                #expect(try next.process.wait(seconds: 20).status == 0)
                try last.waitForLine(containing: "reload refused", "workers.cpus")
                #expect(last.isReady)
            }
        }

        @Test func whereNoneRunsItStarts() throws {
            try Rig.with { rig in
                let daemon = try Daemon(rig, options: ["--take-over"])
                try daemon.waitUntilReady()
                try daemon.waitForLine(containing: "no shuck runs that could hand over")
                let refused = try Daemon(
                    rig, Setup(whole: "interfaces: 7\n"), options: ["--take-over"], name: "other")
                #expect(try refused.process.wait().status == 1)
                #expect(daemon.isReady)
            }
        }

        // MARK: what fails on the way

        /// Speaks as a process that takes over, as far as it wants.
        private static func peer(_ daemon: Daemon) throws -> HandOverSocket {
            try #require(try HandOverSocket.connect(to: daemon.socket + ".hand-over"))
        }

        private static func say(_ peer: HandOverSocket, _ text: String) throws {
            try peer.send(Array(text.utf8), milliseconds: 1000)
        }

        private static func hear(_ peer: HandOverSocket) throws -> String? {
            try peer.receive(milliseconds: 10_000).map { String(decoding: $0.message, as: UTF8.self) }
        }

        private static let ask = #"{"ask":{"format":3,"version":"test","processID":7}}"#

        private static func takeOffer(_ peer: HandOverSocket) throws {
            #expect(try hear(peer)?.hasPrefix(#"{"offer""#) ?? false)
            #expect(try hear(peer) == #"{"descriptors":{}}"#)
        }

        private static func expectForwarding(_ rig: Rig, _ daemon: Daemon) throws {
            #expect(daemon.process.isRunning && daemon.isReady)
            try rig.waitForAnswer(Mode.ipip.vip, "by the one that goes on")
            try daemon.expectConservation()
        }

        @Test func anotherFormatIsRefusedBeforeAnythingStops() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                for words in [
                    #"{"ask":{"format":999,"version":"9","processID":7}}"#, "not JSON", #"{"go":{}}"#, #"{}"#,
                ] {
                    let peer = try Self.peer(daemon)
                    try Self.say(peer, words)
                    let answer = try Self.hear(peer)
                    #expect(words.contains("999") ? answer?.contains("format 999") ?? false : answer == nil)
                }
                try daemon.waitForLine(containing: "did not take over", "format 999")
                try Self.expectForwarding(rig, daemon)
            }
        }

        /// What changed since the offer is offered before anything stops.
        @Test func aChangeInBetweenIsOfferedAnew() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                let peer = try Self.peer(daemon)
                try Self.say(peer, Self.ask)
                try Self.takeOffer(peer)
                // A second one has to wait for its turn.
                let second = try Self.peer(daemon)
                #expect(try Self.hear(second)?.contains("another process is about to take over") ?? false)
                try daemon.configure(Setup(more: ["reversePath: {mode: feasible}"]))
                #expect(try daemon.reload().status == 200)
                try Self.say(peer, #"{"ready":{}}"#)
                try Self.takeOffer(peer)
                try Self.say(peer, #"{"refuse":{"_0":"it rains"}}"#)
                try daemon.waitForLine(containing: "did not take over", "it rains")
                try Self.expectForwarding(rig, daemon)
            }
        }

        /// Where it cannot, it ends, so that a service manager starts another one.
        @Test func whoCannotGoOnEnds() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let peer = try Self.peer(daemon)
                try Self.say(peer, Self.ask)
                try Self.takeOffer(peer)
                try Self.say(peer, #"{"ready":{}}"#)
                #expect(try Self.hear(peer) == #"{"go":{}}"#)
                // Of the new rings' places, and of the new counters.
                let call = try FailingCall(
                    rig, of: daemon.process.processID, .init(name: "memfd_create", error: "EMFILE"),
                    error: "EMFILE", occurrence: 2)
                try Self.say(peer, #"{"refuse":{"_0":"no memory"}}"#)
                let end = try daemon.process.wait(seconds: 20)
                try call.end()
                #expect(end.status == 1, "\(end.errors)")
                #expect(end.errors.contains("workers could not be started again"), "\(end.errors)")
                #expect(try !rig.hasLink(.node, "shuck0"))
                #expect(!FileManager.default.fileExists(atPath: daemon.socket))
            }
        }

        /// The moment at which nobody forwards: the one that had stopped goes on, on new rings.
        @Test(arguments: [#"{"refuse":{"_0":"no memory"}}"#, nil])
        func whoHadStoppedGoesOnWhenTheOtherFails(last: String?) throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Self.setup(rig))
                let before = try Self.held(rig, daemon)
                do {
                    let peer = try Self.peer(daemon)
                    try Self.say(peer, Self.ask)
                    try Self.takeOffer(peer)
                    try Self.say(peer, #"{"ready":{}}"#)
                    #expect(try Self.hear(peer) == #"{"go":{}}"#)
                    if let last { try Self.say(peer, last) }
                }
                try daemon.waitForLine(containing: "workers run here again")
                try daemon.waitForLine(containing: "did not take over", last == nil ? "ended" : "no memory")
                try Self.expectForwarding(rig, daemon)
                try Self.expect(rig, daemon, holds: before, exceptThreads: true)
                // And it can be taken over.
                let next = try Daemon(rig, Self.setup(rig), options: ["--take-over"])
                #expect(try daemon.process.wait(seconds: 20).status == 0)
                try next.waitUntilReady()
                try Self.expectForwarding(rig, next)
            }
        }

        @Test func aBinaryThatDoesNotRunChangesNothing() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let binary = "\(rig.directory)/shuck"
                try FileManager.default.copyItem(atPath: Tools.shuck, toPath: binary)
                let daemon = try Daemon(rig, wrapper: [], binary: binary)
                try daemon.waitUntilReady()
                func upgrade() throws -> CommandResult {
                    try rig.attempt(.node, [Tools.shuck, "upgrade", "--socket", daemon.socket])
                }
                // As packages put another file in place.
                try FileManager.default.removeItem(atPath: binary)
                var result = try upgrade()
                #expect(result.status == 1 && result.errors.contains("No such file"), "\(result)")
                try "#!/bin/sh\nexit 1\n".write(toFile: binary, atomically: false, encoding: .utf8)
                chmod(binary, 0o755)
                result = try upgrade()
                #expect(result.status == 1 && result.errors.contains("the old shuck goes on"), "\(result)")
                try Self.expectForwarding(rig, daemon)
                try FileManager.default.removeItem(atPath: binary)
                try FileManager.default.copyItem(atPath: Tools.shuck, toPath: binary)
                result = try upgrade()
                #expect(result.status == 0, "\(result)")
                try Self.expectForwarding(rig, daemon)
            }
        }
    }
}
