// tools/bench on two hosts: the balancer's namespace sends, the node's receives.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct BenchTests {
        private static let bench = Tools.root + "/tools/bench"
        private static let control = "\(Rig.balancer4):7000"

        @Test func twoHostsMeasureTogether() throws {
            try Rig.with(offloads: .on) { rig in
                // The way that is under test there; the bench makes a pod of its own.
                let routes = [
                    "203.0.113.4", "203.0.113.6", "2001:db8:f::4", "2001:db8:f::6",
                    "default via \(Rig.balancer4)", "default via \(Rig.balancer6)",
                ]
                try rig.ip(.node, routes.map { "route delete \($0)\n" }.joined())
                let sender = try rig.start(
                    .balancer,
                    [
                        Self.bench, "send", "back", "--listen", Self.control, "--rate", "5000",
                        "--seconds", "0.3", "--mode", "ip6ip", "--size", "imix",
                    ])
                try eventually("the sender to listen") { sender.output.hasPrefix("listening") }
                let rows = rig.directory + "/rows.jsonl"
                let links = try rig.run(.node, "ip", "-brief", "link")
                try rig.run(
                    .node, Self.bench, "receive", "eth0", "--from", Self.control, "--pairs", "1",
                    "--peers", "shuck", "--shuck", Tools.shuck, "--json", rows)
                #expect(try sender.wait().status == 0)
                try Self.expectDelivery(rows)
                #expect(try rig.run(.node, "ip", "-brief", "link") == links)
            }
        }

        private static func expectDelivery(_ path: String) throws {
            var delivered: [String: Double] = [:]
            for line in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n") {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
                let row = try #require(object as? [String: Any])
                guard row["figure"] as? String == "delivered_mpps" else { continue }
                delivered[row["peer"] as? String ?? ""] = row["median"] as? Double
            }
            #expect(Set(delivered.keys) == ["tc-bpf", "tc-bpf again", "shuck"])
            for (peer, rate) in delivered { #expect(rate > 0, "\(peer)") }
        }

        @Test func theDefaultRouteIsNotMeasuredOn() throws {
            try Rig.with { rig in
                for words in [
                    ["receive", "eth0", "--from", Self.control, "--shuck", Tools.shuck],
                    ["send", "eth0", "--listen", Self.control],
                ] {
                    let result = try rig.attempt(.node, [Self.bench] + words)
                    #expect(result.status == 3)
                    #expect(result.errors.contains("eth0 carries this host's default route"))
                }
            }
        }
    }
}
