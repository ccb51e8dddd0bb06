// The routing behind shuck as others see it: TTL, path MTU, the kernel's own errors, and the host's rules.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct RouterTests {
        private static func inner(_ mode: Mode, ttl: UInt8 = 64, port: UInt16 = 4242) -> IPPacket {
            var packet = IPPacket.datagram(
                mode.innerIsIPv4 ? Rig.client4 : Rig.client6, mode.vip, port: port)
            packet.ttl = ttl
            return packet
        }

        private static func inAllModes(ttl: UInt8) -> [IPPacket] {
            Mode.allCases.map { inner($0, ttl: ttl).wrapped($0) }
        }

        @Test("I2 the routing lowers the TTL, once")
        func ttlIsLoweredOnce() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let arrived = try Capture(rig, .pod, "eth0", "udp port 4242")
                try rig.send(Self.inAllModes(ttl: 40))
                try arrived.wait(for: 4)
                for packet in arrived.packets {
                    #expect(packet.contains(" ttl 39,") || packet.contains("(hlim 39,"), "\(packet)")
                }
                try daemon.expectConservation()
            }
        }

        @Test("I2 straight into a pod's namespace the TTL stays, and 1 is enough")
        func ttlStays() throws {
            try Rig.with { rig in
                let device = "devices: [{name: pod0, netns: /run/netns/\(rig.name)-pod}]"
                let daemon = try Daemon.ready(rig, Setup(more: [device]))
                let arrived = try Capture(rig, .pod, "pod0", "udp port 4242")
                try rig.send(Self.inAllModes(ttl: 40) + Self.inAllModes(ttl: 1))
                try arrived.wait(for: 8)
                // tcpdump does not print an IPv4 TTL of 1.
                let packets = arrived.packets
                let kept = packets.filter { $0.contains(" ttl 40,") || $0.contains("(hlim 40,") }
                #expect(kept.count == 4, "\(packets)")
                #expect(packets.filter { $0.contains("(hlim 1,") }.count == 2, "\(packets)")
                #expect(!packets.contains { $0.contains(" ttl 39,") || $0.contains("(hlim 39,") })
                try daemon.expectConservation()
            }
        }

        @Test("I1 the routing answers for a TTL of 1, and nobody for 0")
        func ttlThatEnds() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let errors = try Capture.nodeErrors(rig)
                try rig.send(Self.inAllModes(ttl: 0) + Self.inAllModes(ttl: 1))
                try errors.wait(for: 4)
                #expect(errors.packets.count == 4)
                for error in errors.packets {
                    #expect(error.contains("time exceeded in-transit"), "\(error)")
                }
                try daemon.wait(received: 8)
                #expect(try daemon.metrics().drops == ["ip_ttl": 4])
                try daemon.expectConservation()
            }
        }

        /// The way to the node takes whole packets of 1500 bytes and their outer header.
        private static func widen(_ rig: Rig) throws {
            try rig.run(.balancer, "ip", "link", "set", "back", "mtu", "1540")
            try rig.run(.node, "ip", "link", "set", "eth0", "mtu", "1540")
        }

        private static func ping(_ rig: Rig, _ mode: Mode, _ discovery: String, bytes: Int) throws
            -> CommandResult
        {
            try rig.attempt(
                .client,
                [
                    "ping", "-n", "-M", discovery, "-c", "1", "-W", "5", "-s",
                    "\(bytes - (mode.innerIsIPv4 ? 28 : 48))", mode.vip,
                ])
        }

        @Test("M1 M2 what a pod's MTU of 1460 takes arrives, one byte more is refused with 1460")
        func pathMTU() throws {
            try Rig.with { rig in
                try Self.widen(rig)
                let daemon = try Daemon.ready(rig)
                let errors = try Capture.nodeErrors(rig)
                for mode in Mode.allCases {
                    let fits = try Self.ping(rig, mode, "do", bytes: 1460)
                    #expect(fits.output.contains("1 received"), "\(mode): \(fits)")
                }
                for (number, mode) in Mode.allCases.enumerated() {
                    let refused = try Self.ping(rig, mode, "do", bytes: 1461)
                    #expect(refused.status == 1)
                    let said =
                        mode.innerIsIPv4
                        ? "From \(Rig.node4) icmp_seq=1 Frag needed and DF set (mtu = 1460)"
                        : "From \(Rig.node6) icmp_seq=1 Packet too big: mtu=1460"
                    #expect(refused.output.contains(said), "\(mode): \(refused)")
                    try errors.wait(for: number + 1)
                }
                // None about those that fitted, which would have come first.
                #expect(errors.packets.count == 4, "\(errors.packets)")
                // Its own length, which stands first in the line: IPv4's whole, IPv6's payload.
                for error in errors.packets {
                    let length = error.firstMatch(of: /length:? (\d+)\)/).flatMap { Int($0.1) } ?? 0
                    #expect(length > 500 && length <= (error.contains("ICMP6") ? 1240 : 576), "\(error)")
                }
                try daemon.expectConservation()
            }
        }

        @Test("M1 an IPv4 packet that may be fragmented is, by the routing", arguments: [1461, 1500])
        func fragmentation(bytes: Int) throws {
            try Rig.with { rig in
                try Self.widen(rig)
                let daemon = try Daemon.ready(rig)
                let arrived = try Capture(rig, .pod, "eth0", "ip[6:2] & 0x3fff != 0")
                for mode in [Mode.ipip, .ipip6] {
                    let answer = try Self.ping(rig, mode, "dont", bytes: bytes)
                    #expect(answer.output.contains("1 received"), "\(mode): \(answer)")
                }
                try arrived.wait(for: 4)
                #expect(arrived.packets.count == 4)
                try daemon.expectConservation()
            }
        }

        @Test("M1 M2 traceroute --mtu finds the pod's MTU through every tunnel")
        func tracedMTU() throws {
            try Rig.with { rig in
                try Self.widen(rig)
                let daemon = try Daemon.ready(rig)
                for mode in Mode.allCases {
                    let text = try rig.run(
                        .client, "traceroute", "-n", "--mtu", "-q", "1", "-w", "5", mode.vip)
                    let hops = text.split(separator: "\n").dropFirst()
                        .map { $0.split(separator: " ").map(String.init) }
                    try #require(hops.count == 3, "\(text)")
                    #expect(hops[1][1] == (mode.innerIsIPv4 ? Rig.node4 : Rig.node6), "\(text)")
                    #expect(hops[2][1] == mode.vip, "\(text)")
                    let found = hops.flatMap { $0 }.filter { $0.hasPrefix("F=") }
                    #expect(found == ["F=1500", "F=1460"], "\(text)")
                }
                try daemon.expectConservation()
            }
        }

        @Test("M3 the routing sends no error about an error or a later fragment")
        func ineligible() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let errors = try Capture.nodeErrors(rig)
                var error4 = Self.inner(.ipip, ttl: 1)
                error4.protocolNumber = 1
                error4.payload = [3, 1, 0, 0, 0, 0, 0, 0] + Self.inner(.ipip).bytes
                var error6 = Self.inner(.ip6ip6, ttl: 1)
                error6.protocolNumber = 58
                error6.payload = [1, 0, 0, 0, 0, 0, 0, 0] + Self.inner(.ip6ip6).bytes
                let later = Self.inner(.ipip, ttl: 1).cut(at: 8, id: 9)[1]
                try rig.send([
                    error4.wrapped(.ipip), error6.wrapped(.ip6ip6), later.wrapped(.ipip),
                ])
                try eventually("three packets") {
                    try daemon.status().packets["injected"] == 3
                }
                // Last, so that their answers prove that others would have been seen.
                try rig.send(Self.inAllModes(ttl: 1))
                try errors.wait(for: 4)
                #expect(errors.packets.count == 4, "\(errors.packets)")
                try daemon.expectConservation()
            }
        }

        @Test("M4 the routing's rate limit holds for errors about inner packets")
        func rateLimit() throws {
            try Rig.with { rig in
                try rig.set(.node, "net.ipv4.icmp_ratelimit", "1000")
                try rig.set(.node, "net.ipv6.icmp.ratelimit", "1000")
                let daemon = try Daemon.ready(rig)
                let errors = try Capture.nodeErrors(rig)
                try rig.send(Self.inAllModes(ttl: 1), repeat: 100)
                try eventually("all packets") { try daemon.status().packets["injected"] == 400 }
                try errors.wait(for: 2)
                // The answer to another client, whose own limit is not reached, comes behind all others.
                var other = IPPacket.datagram("198.51.100.77", Mode.ipip.vip)
                other.ttl = 1
                try eventually("the answer to another client") {
                    try rig.send([other.wrapped(.ipip)])
                    return errors.packets.contains { $0.contains("> \(other.source): ICMP") }
                }
                #expect(errors.packets.count < 60, "\(errors.packets.count) answers to 400")
                try daemon.expectConservation()
            }
        }

        @Test("M10 the host's rules meet what is injected as they meet native packets")
        func rulesOfTheHost() throws {
            try Rig.with { rig in
                try rig.nft(
                    """
                    table inet test {
                        chain forward {
                            type filter hook forward priority filter
                            udp dport 4243 drop
                        }
                    }

                    """)
                let daemon = try Daemon.ready(rig)
                let arrived = try Capture(rig, .pod, "eth0", "udp")
                try rig.send(Mode.allCases.map { Self.inner($0, port: 4243).wrapped($0) })
                try rig.send(Mode.allCases.map { Self.inner($0, port: 4242).wrapped($0) })
                try arrived.wait(for: 4)
                #expect(arrived.packets.count == 4)
                #expect(!arrived.packets.contains { $0.contains(".4243:") })
                try daemon.wait(received: 8)
                #expect(try daemon.status().packets["injected"] == 8)
                try daemon.expectConservation()
            }
        }
    }
}
