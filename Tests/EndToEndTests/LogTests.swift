// A log that cannot be written: forwarding, reload, following and the end go on without it.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct LogTests {
        private static func expectLosses(_ daemon: Daemon) throws {
            try eventually("the lost lines") {
                try daemon.metrics().sum("shuck_log_lines_dropped_total") > 0
            }
            let metrics = try daemon.metrics()
            #expect(metrics.values["shuck_degraded{what=\"log\"}"] == 1)
            #expect(daemon.isReady)
            #expect(try daemon.status().notes.contains { $0.contains("lines of the log are lost") })
        }

        @Test(arguments: ["2>/dev/full", "2>&-", "2>\"$0\""])
        func aLogThatFailsCostsNoPacket(_ redirection: String) throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                // A pipe whose reader is gone: opened while there was one.
                let fifo = rig.directory + "/fifo"
                try rig.launch(["mkfifo", fifo]).wait().get()
                let hold = redirection.contains("$0") ? "exec 3<>\"$0\"; " : ""
                let after = hold.isEmpty ? "" : " 3>&-"
                let daemon = try Daemon(
                    rig,
                    wrapper: ["sh", "-c", "\(hold)exec \"$@\" \(redirection)\(after)", fifo])
                try daemon.waitUntilReady()
                // Each says lines.
                for _ in 0..<3 { daemon.process.signal(SIGHUP) }
                #expect(try daemon.reload().status == 200)
                try Self.expectLosses(daemon)
                let answer = try rig.lab(.client, "pingpong", Mode.ipip.vip, "7", "--count", "10")
                #expect(answer["lost"] == 0, "\(answer)")
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func aPipeThatNobodyReadsDelaysNothing() throws {
            try Rig.with { rig in
                let fifo = rig.directory + "/fifo"
                try rig.launch(["mkfifo", fifo]).wait().get()
                // Open for reading, too, and never read.
                let daemon = try Daemon(
                    rig, wrapper: ["sh", "-c", "exec 3<>\"$0\"; exec \"$@\" 2>\"$0\"", fifo])
                try daemon.waitUntilReady()
                // Each refusal says some 60 KB in the log.
                let wrong = (0..<400).map { "key\($0): 1\n" }.joined()
                try daemon.configure(text: wrong)
                for _ in 0..<12 { #expect(try daemon.reload().status == 409) }
                try Self.expectLosses(daemon)
                try daemon.configure(Setup())
                #expect(try daemon.reload().status == 200)
                // Following goes on as well.
                try rig.run(.node, "ip", "link", "set", "eth0", "down")
                try eventually("its mention") { !daemon.isReady }
                try rig.run(.node, "ip", "link", "set", "eth0", "up")
                try daemon.waitUntilReady()
                let reader = try rig.launch(["cat", fifo])
                try eventually("the number of lost lines") {
                    reader.output.contains("log lines were lost")
                }
                try eventually("the end of the losses") {
                    try daemon.metrics().values["shuck_degraded{what=\"log\"}"] == 0
                }
                // Nobody reads again, and it ends all the same.
                reader.end()
                try daemon.configure(text: wrong)
                for _ in 0..<12 { #expect(try daemon.reload().status == 409) }
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func everyLineHasADate() throws {
            try Rig.with { rig in
                for (form, pattern) in [
                    ("text", #"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d notice forwarding"#),
                    ("json", #""time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d""#),
                ] {
                    let daemon = try Daemon.ready(rig, Setup(more: ["log: {format: \(form)}"]))
                    let lines = try daemon.stop().errors.split(separator: "\n")
                    let line = try #require(lines.first { $0.contains("forwarding") })
                    #expect(line.range(of: pattern, options: .regularExpression) != nil, "\(line)")
                }
            }
        }
    }
}
