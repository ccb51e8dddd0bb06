// limits: one remote's flood is cut to its rate, and the others' packets pass.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct InjectionLimitTests {
        private static func flood(_ rig: Rig) throws -> (sent: Int, seconds: Double) {
            let start = Date()
            let answer = try rig.lab(
                .balancer, "generate", "back", "--mode", "ipip", "--flows", "64", "--rate", "20000",
                "--seconds", "2")
            return (answer["sent"], Date().timeIntervalSince(start))
        }

        @Test func aFloodIsCutAndOthersPass() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(
                    rig, Setup(workers: 2, more: ["limits: {perRemote: 1000, packetsPerSecond: 100000}"]))
                // IPv6 remotes are others than the flood's.
                let other = try rig.start(
                    .client,
                    [Tools.lab, "pingpong", Mode.ipip6.vip, "7", "--count", "100", "--interval-us", "10000"])
                let (sent, seconds) = try Self.flood(rig)
                let answered = try Answer(other.wait().get())
                #expect(answered["lost"] == 0)
                try daemon.wait(received: sent + 100)
                let (status, metrics) = (try daemon.status(), try daemon.metrics())
                let passed = sent - status.dropsByReason["rate_limit", default: 0]
                #expect(passed >= 1000 && passed <= Int(1000 * seconds) + 65, "\(passed) in \(seconds) s")
                #expect(metrics.sum("shuck_injected_packets_total") == passed + 100)
                try daemon.expectConservation()
                // A reload takes the limits off.
                try daemon.configure(Setup(workers: 2))
                #expect(try daemon.reload().status == 200)
                let (more, _) = try Self.flood(rig)
                try daemon.wait(received: sent + 100 + more)
                #expect(try daemon.status().dropsByReason["rate_limit"] == sent - passed)
                try daemon.expectConservation()
            }
        }
    }
}
