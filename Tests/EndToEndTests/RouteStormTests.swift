// A storm of routes under traffic: what it costs beside the same storm, followed by another daemon, where no
// packet asks for them. SHUCK_STORM_ROUTES makes it larger than 50,000.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct RouteStormTests {
        private static let count =
            ProcessInfo.processInfo.environment["SHUCK_STORM_ROUTES"]
            .flatMap(Int.init) ?? 50_000

        private struct Loss: CustomStringConvertible {
            var sent = 0
            var injected = 0
            var seconds = 0.0
            var share: Double { Double(sent - injected) / Double(max(sent, 1)) }
            var description: String {
                "\(sent - injected) of \(sent) packets (\(share * 100) %) in \(Int(seconds)) s"
            }
        }

        /// As many adds, then as many deletes, in one namespace, while traffic passes the node.
        private static func storm(_ place: Place, _ rig: Rig, _ daemon: Daemon) throws -> Loss {
            var loss = Loss()
            let before = try daemon.status().packets["injected", default: 0]
            let start = Date()
            for verb in ["add", "delete"] {
                let batch = try rig.start(
                    place, ["ip", "-force", "-batch", "\(rig.directory)/\(verb)"])
                repeat {
                    loss.sent += try rig.lab(
                        .balancer, "generate", "back", "--mode", "ipip", "--flows", "64", "--rate",
                        "20000", "--seconds", "1")["sent"]
                } while batch.isRunning
                #expect(try batch.wait().status == 0)
                if place == .node {
                    let extra = verb == "add" ? count : 0
                    try expectRoutes(extra, rig, daemon)
                }
            }
            loss.seconds = Date().timeIntervalSince(start)
            try eventually("what lies in the ring") {
                let packets = try daemon.status().packets
                return packets["injected", default: 0] + packets["ringDropped", default: 0]
                    - before >= loss.sent
            }
            loss.injected = try daemon.status().packets["injected", default: 0] - before
            return loss
        }

        /// Until the mirror is the kernel's again, and as large.
        private static func expectRoutes(_ extra: Int, _ rig: Rig, _ daemon: Daemon) throws {
            func kernel(_ option: String) throws -> Int {
                let lines = try rig.run(
                    .node, "sh", "-c", "ip \(option) route show table all | grep -c .")
                return Int(lines.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
            }
            let expected = try kernel("-4") + kernel("-6")
            #expect(expected >= extra)
            try eventually("\(expected) routes in the mirror", 60) {
                let metrics = try daemon.metrics()
                return metrics.sum("shuck_routes_age_seconds") == 0
                    && metrics.sum("shuck_routes") == expected
            }
        }

        @Test("I9 a storm of routes costs no packet that its load does not cost")
        func storm() throws {
            try Rig.with { rig in
                for verb in ["add", "delete"] {
                    let lines = (0..<Self.count).map { number in
                        let (b, c, d) = (11 + number >> 16, number >> 8 & 255, number & 255)
                        return "route \(verb) \(b).\(c).\(d).0/24 dev eth0\n"
                    }
                    try lines.joined().write(
                        toFile: "\(rig.directory)/\(verb)", atomically: true, encoding: .utf8)
                }
                let daemon = try Daemon.ready(rig)
                // The other follows the client's routes: the same work, and nobody asks for them.
                try rig.set(.client, "net.ipv4.ip_forward", "1")
                try rig.set(.client, "net.ipv6.conf.all.forwarding", "1")
                let other = try Daemon(rig, name: "other", place: .client)
                try other.waitUntilReady()
                let control = try Self.storm(.client, rig, daemon)
                let storm = try Self.storm(.node, rig, daemon)
                let metrics = try daemon.metrics()
                let resyncs = metrics.sum("shuck_routes_resyncs_total")
                print(
                    """
                    route storm: \(2 * Self.count) changes: lost \(storm); in another namespace \
                    \(control); \(resyncs) resyncs
                    """)
                // A thousandth is what one burst of softirq work is.
                #expect(storm.share <= control.share * 1.2 + 0.001)
                try daemon.expectConservation()
            }
        }
    }
}
