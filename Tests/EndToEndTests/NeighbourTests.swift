// Beside what else the node does: reverse-path filters, DNAT, connection tracking and marks.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct NeighbourTests {
        /// Packets that a named counter of the table inet test has seen.
        private static func counted(_ rig: Rig, _ name: String) throws -> Int {
            let text = try rig.run(.node, "nft", "list", "counter", "inet", "test", name)
            let words = text.split { $0.isWhitespace }
            guard let place = words.firstIndex(of: "packets"), let count = Int(words[place + 1])
            else { throw Failure("no counter \(name): \(text)") }
            return count
        }

        @Test(arguments: [("1", "1"), ("0", "1"), ("1", "0"), ("2", "1")])
        func strictReversePathFiltersStay(all: String, other: String) throws {
            try Rig.with { rig in
                try rig.set(.node, "net.ipv4.conf.all.rp_filter", all)
                try rig.set(.node, "net.ipv4.conf.default.rp_filter", other)
                let names = ["all", "default", "eth0", "cali0", "lo"]
                let values = {
                    try names.map { try rig.get(.node, "net.ipv4.conf.\($0).rp_filter") }
                }
                let before = try values()
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                for mode in Mode.allCases {
                    let answer = try rig.lab(.client, "pingpong", mode.vip, "7", "--count", "10")
                    #expect(answer["lost"] == 0, "\(mode)")
                }
                #expect(try values() == before)
                #expect(try rig.get(.node, "net.ipv4.conf.shuck0.rp_filter") == "2")
                let addresses = try rig.run(.node, "ip", "-4", "address", "show", "shuck0")
                #expect(addresses.contains("inet 127.0.0.42/32 scope host"), "\(addresses)")
                try daemon.expectConservation()
            }
        }

        /// The service's address ends at the node, as kube-proxy has it: the pod sees its own.
        @Test func addressTranslationWorks() throws {
            try Rig.with { rig in
                try rig.ip(
                    .pod,
                    Mode.allCases.map { mode in
                        "address delete \(mode.vip)/\(mode.innerIsIPv4 ? 32 : 128) dev lo\n"
                    }.joined())
                try rig.nft(
                    """
                    table inet test {
                        chain prerouting {
                            type nat hook prerouting priority dstnat
                            ip daddr 203.0.113.0/24 dnat ip to \(Rig.pod4)
                            ip6 daddr 2001:db8:f::/64 dnat ip6 to \(Rig.pod6)
                        }
                    }

                    """)
                let daemon = try Daemon.ready(rig)
                try rig.serve(.pod, "serve", "--size", "1M", "--seed", "3")
                try rig.serve(.pod, "echo")
                // A connected socket takes answers from the service's address alone.
                for mode in Mode.allCases {
                    let fetched = try rig.lab(.client, "fetch", mode.vip, "80", "--timeout", "20")
                    #expect(fetched["bytes"] == 1 << 20, "\(mode)")
                    let answer = try rig.lab(.client, "pingpong", mode.vip, "7", "--count", "10")
                    #expect(answer["lost"] == 0, "\(mode)")
                    let echo = try rig.run(.client, "ping", "-n", "-c", "1", "-W", "5", mode.vip)
                    #expect(echo.contains("from \(mode.vip)"), "\(echo)")
                }
                try daemon.expectConservation()
            }
        }

        /// What an outer packet was marked with, and the connection that it belongs to, ends
        /// with it. With raw sockets the kernel's stack sees the outer packets, too.
        @Test(arguments: ["auto", "socket"])
        func marksStayOutside(consume: String) throws {
            try Rig.with { rig in
                try rig.nft(
                    """
                    table netdev early {
                        chain ingress {
                            type filter hook ingress device eth0 priority 0
                            meta mark set 0x7
                        }
                    }
                    table inet test {
                        counter outer {}
                        counter inner {}
                        counter marked {}
                        counter connection {}
                        chain prerouting {
                            type filter hook prerouting priority mangle
                            iifname eth0 ip protocol { 4, 41 } ct mark set 0x9 counter name outer
                            iifname eth0 ip6 nexthdr { 4, 41 } ct mark set 0x9 counter name outer
                            iifname shuck0 counter name inner
                            iifname shuck0 meta mark != 0 counter name marked
                            iifname shuck0 ct mark != 0 counter name connection
                        }
                    }

                    """)
                let daemon = try Daemon.ready(rig, Setup(more: ["consume: \(consume)"]))
                try rig.serve(.pod, "echo")
                for mode in Mode.allCases {
                    let answer = try rig.lab(.client, "pingpong", mode.vip, "7", "--count", "10")
                    #expect(answer["lost"] == 0, "\(mode)")
                }
                #expect(try Self.counted(rig, "inner") == 40)
                #expect(try Self.counted(rig, "outer") == (consume == "socket" ? 40 : 0))
                #expect(try Self.counted(rig, "marked") == 0)
                #expect(try Self.counted(rig, "connection") == 0)
                try daemon.expectConservation()
            }
        }
    }
}
