// Outer fragments: made whole in every mode, given up in time, and no flood in the others' way.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct FragmentTests {
        private static func large(_ mode: Mode, _ number: Int = 0) -> IPPacket {
            let text = String(repeating: "fragment \(number) ", count: 80)
            return .datagram(
                mode.innerIsIPv4 ? Rig.client4 : Rig.client6, mode.vip, String(text.prefix(900)))
        }

        /// For each mode a datagram in order, one in reverse, and one with a duplicate between.
        @Test(arguments: [1, 2])
        func everyModeIsMadeWhole(workers: Int) throws {
            try Rig.with { rig in
                // Single writes: the two equal datagrams of an IPv6 mode would come as one.
                let daemon = try Daemon.ready(rig, Setup(workers: workers, coalesce: false))
                let arrived = try Capture(rig, .pod, "eth0", "udp port 4242 and greater 900")
                for (number, mode) in Mode.allCases.enumerated() {
                    let pieces = (0..<3).map {
                        Self.large(mode).wrapped(mode).cut(at: 480, id: UInt16(number * 8 + $0))
                    }
                    try rig.send(pieces[0] + pieces[1].reversed())
                    try rig.send([pieces[2][0], pieces[2][0], pieces[2][1]])
                }
                try arrived.wait(for: 12)
                try daemon.wait(received: 28)
                let metrics = try daemon.metrics()
                #expect(metrics.sum("shuck_held_packets_total") == 12)
                #expect(metrics.drops == ["dup_frag": 4])
                #expect(metrics.sum("shuck_reassembly_failures_total") == 0)
                try daemon.expectConservation()
            }
        }

        /// Also when nothing else comes: the worker sleeps, and a timer wakes it.
        @Test func whatStaysIncompleteIsGivenUpInTime() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(
                    rig, Setup(more: ["outer: {fragments: {timeout: 1s}}"]))
                try rig.send(
                    Mode.allCases.enumerated().map { number, mode in
                        Self.large(mode).wrapped(mode).cut(at: 480, id: UInt16(number))[0]
                    })
                try eventually("four to be held") {
                    try daemon.metrics().sum("shuck_held_packets_total") == 4
                }
                try eventually("four to be given up") {
                    let timeout = "reason=\"frag_reasm_timeout\""
                    return try daemon.metrics()
                        .sum("shuck_reassembly_failures_total", timeout) == 4
                }
                try daemon.expectConservation()
            }
        }

        /// 30,000 first fragments of one remote at once; between them those of another.
        @Test func aFloodCostsTheOthersNothing() throws {
            try Rig.with { rig in
                let tunnel = Setup.Tunnel(remotes: [Rig.balancer4, "192.0.2.7"])
                let daemon = try Daemon.ready(rig, Setup(tunnels: [tunnel]))
                let arrived = try Capture(rig, .pod, "eth0", "udp port 4242")
                let good = (0..<300).map {
                    Self.large(.ipip, $0).wrapped(.ipip).cut(at: 480, id: UInt16($0))
                }
                let flood = IPPacket.datagram(Rig.client4, Mode.ipip.vip)
                    .wrapped(from: "192.0.2.7", to: Rig.node4)
                var frames: [IPPacket] = []
                for number in 0..<30_000 {
                    if number % 100 == 0 { frames.append(good[number / 100][0]) }
                    frames.append(flood.cut(at: 24, id: UInt16(number))[0])
                    if number % 100 == 99 { frames.append(good[number / 100][1]) }
                    if number % 100 == 50 {
                        frames.append(
                            IPPacket.datagram(Rig.client4, Mode.ipip.vip, "whole").wrapped(.ipip))
                    }
                }
                // In portions that the ring holds, whatever else this host does just now.
                for start in stride(from: 0, to: frames.count, by: 6000) {
                    let end = min(start + 6000, frames.count)
                    try rig.send(Array(frames[start..<end]))
                    try eventually("\(end) frames to be judged") {
                        try daemon.metrics().sum("shuck_received_packets_total") >= end
                    }
                }
                try arrived.wait(for: 600)
                let metrics = try daemon.metrics()
                #expect(metrics.sum("shuck_ring_dropped_packets_total") == 0)
                #expect(metrics.sum("shuck_injected_packets_total") == 600)
                #expect(metrics.drops.isEmpty, "\(metrics.drops)")
                #expect(metrics.sum("shuck_reassembly_failures_total") > 28_000)
                try daemon.expectConservation()
            }
        }
    }
}
