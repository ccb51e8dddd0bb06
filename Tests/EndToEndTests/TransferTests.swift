// Real TCP, UDP and ICMP through all four encapsulations, with and without offloads.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct TransferTests {
        private static let size = "16M"
        private static let seed = "7"

        @Test(arguments: Offloads.allCases, [1, 2])
        func everyModeCarriesEverything(offloads: Offloads, workers: Int) throws {
            try Rig.with(offloads: offloads) { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: workers))
                try rig.serve(.pod, "serve", "--size", Self.size, "--seed", Self.seed)
                try rig.serve(.pod, "echo")
                // Segments that open a connection, of either family.
                let opening = try Capture(
                    rig, .pod, "eth0",
                    "tcp[13] & 2 != 0 or (ip6 and ip6[6] == 6 and ip6[53] & 2 != 0)")
                for mode in Mode.allCases {
                    let before = try daemon.status()
                    try Self.transfer(rig, mode)
                    try Self.datagrams(rig, mode)
                    try Self.echoes(rig, mode)
                    try Self.expectOnly(mode, before, daemon.status())
                }
                for mode in Mode.allCases {
                    try eventually("two connections in \(mode)") {
                        Self.openings(opening, mode).count >= 2
                    }
                    let openings = Self.openings(opening, mode)
                    #expect(openings.count == 2)
                    for segment in openings.values.joined() {
                        #expect(segment.contains("mss \(mode.clampedMSS),"), "\(mode)")
                    }
                }
                try Self.expectGoodChecksums(rig)
                try daemon.expectConservation()
                let devices = try daemon.status().devices
                #expect(devices.map(\.queues) == [workers])
            }
        }

        /// Segments that open connections in a mode, by who sent them: on a host that stands still for a
        /// second, one is sent twice.
        private static func openings(_ capture: Capture, _ mode: Mode) -> [String: [String]] {
            let segments = capture.packets.filter { $0.contains(" > \(mode.vip).80: ") }
            return Dictionary(grouping: segments) { segment in
                let before = segment.components(separatedBy: " > \(mode.vip).80: ")[0]
                return before.components(separatedBy: " ").last ?? ""
            }
        }

        private static func transfer(_ rig: Rig, _ mode: Mode) throws {
            let digest = try rig.launch([Tools.lab, "digest", "--size", size, "--seed", seed])
            let expected = try digest.wait().get().trimmingCharacters(in: .newlines)
            let fetched = try rig.lab(.client, "fetch", mode.vip, "80", "--timeout", "30")
            let pushed = try rig.lab(
                .client, "push", mode.vip, "80", "--size", size, "--seed", seed, "--timeout", "30")
            // The pod answers with what its own MTU of 1460 leaves, whatever was asked for.
            let answered = 1460 - (mode.innerIsIPv4 ? 20 : 40) - 20
            for answer in [fetched, pushed] {
                #expect(answer.text("sha256") == expected, "\(mode) \(answer)")
                #expect(answer["bytes"] == 16 << 20)
                #expect(answer["mss_announced"] == answered, "\(mode)")
            }
        }

        private static func datagrams(_ rig: Rig, _ mode: Mode) throws {
            for size in ["64", "512", "1232"] {
                let answer = try rig.lab(
                    .client, "pingpong", mode.vip, "7", "--count", "20", "--size", size)
                #expect(answer["lost"] == 0, "\(mode), \(size) bytes: \(answer)")
            }
        }

        /// 84 and 1400 bytes of inner packet.
        private static func echoes(_ rig: Rig, _ mode: Mode) throws {
            for size in [56, 1400 - (mode.innerIsIPv4 ? 28 : 48)] {
                try rig.expectEchoes(.client, mode.vip, count: 5, bytes: size)
            }
        }

        private static func expectOnly(_ mode: Mode, _ before: Status, _ after: Status) throws {
            for other in Mode.allCases {
                let grown =
                    after.injectedByMode[other.rawValue, default: 0]
                    - before.injectedByMode[other.rawValue, default: 0]
                if other == mode {
                    // 60 datagrams, 10 echo requests, and two connections.
                    #expect(grown > 70, "\(mode)")
                } else {
                    #expect(grown == 0, "\(other) during \(mode)")
                }
            }
            let clamped =
                after.packets["mssClamped", default: 0]
                - before.packets["mssClamped", default: 0]
            #expect(clamped >= 1, "\(mode)")
            #expect(after.packets["dropped"] == 0, "\(after.dropsByReason)")
        }

        /// No layer of the pod's stack has met a wrong checksum.
        private static func expectGoodChecksums(_ rig: Rig) throws {
            let counters = try rig.run(
                .pod, "nstat", "-asz", "TcpInCsumErrors", "UdpInCsumErrors", "IcmpInCsumErrors",
                "Udp6InCsumErrors", "Icmp6InCsumErrors", "IpExtInCsumErrors")
            let lines = counters.split(separator: "\n").filter { $0.contains("CsumErrors") }
            #expect(lines.count >= 5, "\(counters)")
            for line in lines {
                let words = line.split(separator: " ")
                #expect(words[1] == "0", "\(line)")
            }
        }

        /// Services move to a tunnel one by one: what comes without one is the kernel's, as ever.
        @Test func nativeTrafficPassesBeside() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.serve(.pod, "serve", "--size", "1M", "--seed", Self.seed)
                try rig.run(.balancer, Tools.lab, "encap", "detach", "back")
                for mode in [Mode.ipip, .ip6ip6] {
                    let answer = try rig.lab(.client, "fetch", mode.vip, "80", "--timeout", "20")
                    #expect(answer["bytes"] == 1 << 20)
                }
                #expect(try daemon.status().packets["received"] == 0)
                try daemon.expectConservation()
            }
        }
    }
}
