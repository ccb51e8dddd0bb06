// What leaves the node when an allowed remote attacks: nothing, or no more bytes than came in.

import Foundation
import Testing

extension EndToEnd {
    /// The remote is taken over, or its address is spoofed: the tunnel lets its frames in.
    @Suite struct AttackEgressTests {
        private static let other4 = "192.0.2.55"
        private static let other6 = "2001:db8:1::55"

        private struct Attack {
            let name: String
            let reason: String
            let packets: [IPPacket]
            /// Frames that are held because they are parts of a datagram.
            var held = 0

            init(_ name: String, _ reason: String, _ packets: [IPPacket], held: Int = 0) {
                self.name = name
                self.reason = reason
                self.packets = packets
                self.held = held
            }
        }

        private static func client(_ mode: Mode) -> String {
            mode.innerIsIPv4 ? Rig.client4 : Rig.client6
        }

        /// A datagram of a TTL, in each mode of the inner destination's family.
        private static func datagrams(_ source: String, _ destination: String, ttl: UInt8 = 255) -> [IPPacket]
        {
            Mode.allCases.filter { $0.innerIsIPv4 != destination.contains(":") }.map { mode in
                var packet = IPPacket.datagram(source, destination)
                packet.ttl = ttl
                return packet.wrapped(mode)
            }
        }

        private static func vips(of family: String) -> String {
            (family.contains(":") ? Mode.ip6ip6 : Mode.ipip).vip
        }

        private static func from(_ sources: [String]) -> [IPPacket] {
            sources.flatMap { datagrams($0, vips(of: $0)) + datagrams($0, vips(of: $0), ttl: 1) }
        }

        private static func to(_ destinations: [String]) -> [IPPacket] {
            destinations.flatMap { destination in
                let source = destination.contains(":") ? Rig.client6 : Rig.client4
                return datagrams(source, destination) + datagrams(source, destination, ttl: 1)
            }
        }

        /// One hop behind the other, each from a host to the next: whoever strips such a packet sends it on.
        private static func chain(_ hops: Int, _ mode: Mode) -> IPPacket {
            var packet = IPPacket.datagram(client(mode), mode.vip)
            for hop in 1..<hops {
                let (from, to) = hop % 2 == 0 ? (other4, Rig.node4) : (Rig.node4, other4)
                let (from6, to6) = hop % 2 == 0 ? (other6, Rig.node6) : (Rig.node6, other6)
                packet =
                    mode.innerIsIPv4
                    ? packet.wrapped(from: from, to: to) : packet.wrapped(from: from6, to: to6)
                packet.ttl = 255
            }
            return packet.wrapped(mode)
        }

        /// As many levels as two fragments hold.
        private static func nestInFragments(_ mode: Mode, id: Int) -> [IPPacket] {
            let nest = chain(mode.innerIsIPv4 ? 60 : 55, mode)
            return nest.cut(at: nest.payload.count / 16 * 8, id: UInt16(id))
        }

        private static func attacks() -> [Attack] {
            let modes = Mode.allCases
            let proxy = ["198.51.100.200", other4, "2001:db8:c::200", other6].flatMap { destination in
                (destination.contains(":")
                    ? [Rig.client6, other6, "2001:db8:d::9"] : [Rig.client4, other4, "198.18.0.9"])
                    .filter { $0 != destination }.flatMap { datagrams($0, destination) }
            }
            return [
                Attack("one-way proxy", "destination_not_allowed", proxy),
                Attack("ping-pong", "tunnel_nested", modes.map { chain(2, $0) }),
                Attack(
                    "temporal lensing", "tunnel_nested",
                    modes.flatMap { mode in (2...10).flatMap { Array(repeating: chain($0, mode), count: 10) }
                    }),
                Attack(
                    "deep nests", "tunnel_nested",
                    modes.flatMap { mode in (2...30).map { chain($0, mode) } }),
                Attack(
                    "deep nests in fragments", "tunnel_nested",
                    modes.enumerated().flatMap { nestInFragments($1, id: $0) }, held: 4),
                Attack(
                    "routing loop", "ip_local_source",
                    from([Rig.node4, Rig.node6, vips(of: "."), vips(of: ":")])),
                Attack(
                    "automatic tunnels", "ip_invalid_source",
                    from(["::1.2.3.4", "::c000:202", "::ffff:1.2.3.4"])),
                Attack(
                    "a pod's address as source", "ip_local_source",
                    from([Rig.pod4, Rig.pod6, "10.2.1.77", "2001:db8:2::77"])),
                Attack(
                    "internal destinations", "destination_not_allowed",
                    to([
                        Rig.node4, Rig.node6, "10.2.1.1", "2001:db8:2::1", Rig.pod4, Rig.pod6, "10.2.1.77",
                        "10.96.0.1", "fd00::1",
                    ])),
                Attack(
                    "metadata and loopback", "ip_invalid_dest",
                    to([
                        "169.254.169.254", "127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "ff02::1",
                    ])),
            ]
        }

        /// Counts the IP packets and bytes that leave the node by each link. What IPv6 tells its neighbours
        /// is left out: its reports of multicast groups come whenever they like.
        private static func countEgress(_ rig: Rig) throws {
            try rig.nft(
                """
                table inet egress {
                    counter eth0 { }
                    counter cali0 { }
                    chain postrouting {
                        type filter hook postrouting priority 300
                        ip6 daddr ff00::/8 return
                        oifname "eth0" counter name eth0
                        oifname "cali0" counter name cali0
                    }
                }

                """)
        }

        private static func egress(_ rig: Rig, _ link: String) throws -> (packets: Int, bytes: Int) {
            let text = try rig.run(.node, "nft", "list", "counter", "inet", "egress", link)
            let match = try #require(text.firstMatch(of: /packets (\d+) bytes (\d+)/))
            return (try #require(Int(match.1)), try #require(Int(match.2)))
        }

        private static func bytes(_ packets: [IPPacket]) -> Int { packets.reduce(0) { $0 + $1.bytes.count } }

        /// GRE: the kernel answers it, so that every earlier answer is counted by then.
        private static let marker = IPPacket(
            source: Rig.balancer4, destination: Rig.node4, protocolNumber: 47,
            payload: [UInt8](repeating: 0, count: 24))

        @Test("from an allowed remote: nothing of an attack leaves the node")
        func nothingLeaves() throws {
            try Rig.with { rig in
                // Without coalescing, so that each packet is counted as one.
                let daemon = try Daemon.ready(rig, Setup(coalesce: false))
                try Self.countEgress(rig)
                var received = 0
                for (number, attack) in Self.attacks().enumerated() {
                    let before = try daemon.metrics().drops[attack.reason, default: 0]
                    try rig.send(attack.packets, pause: 10)
                    received += attack.packets.count
                    try daemon.wait(received: received)
                    let drops = try daemon.metrics().drops
                    #expect(
                        drops[attack.reason, default: 0] - before == attack.packets.count - attack.held,
                        "\(attack.name): \(drops)")
                    try rig.send([Self.marker])
                    try eventually("the marker behind \(attack.name)") {
                        try Self.egress(rig, "eth0").packets > number
                    }
                    #expect(try Self.egress(rig, "eth0").packets == number + 1, "\(attack.name)")
                    #expect(try Self.egress(rig, "cali0").packets == 0, "\(attack.name)")
                }
                // What may pass is counted, so that the zeros say something.
                try rig.send(Mode.allCases.flatMap { Self.datagrams(Self.client($0), $0.vip) })
                try eventually("what may pass") { try Self.egress(rig, "cali0").packets == 8 }
                try daemon.expectConservation()
            }
        }

        /// Each protocol to each address of the node, with a packet for the pod inside.
        @Test(
            "256 protocols to a tunnel that has one mode: the pod gets that one alone",
            arguments: Mode.allCases)
        func protocols(mode: Mode) throws {
            try Rig.with { rig in
                let tunnel = Setup.Tunnel(more: ["modes: [\(mode)]"])
                let daemon = try Daemon.ready(rig, Setup(tunnels: [tunnel]))
                try Self.countEgress(rig)
                let frames = Mode.allCases.flatMap { sent in
                    (UInt8.min...UInt8.max).map { number in
                        var packet = IPPacket.datagram(Self.client(sent), sent.vip).wrapped(sent)
                        packet.protocolNumber = number
                        return packet
                    }
                }
                // The ring keeps the order, so that the last frame proves that all others were judged.
                let last = IPPacket.datagram(Self.client(mode), mode.vip, port: 4243).wrapped(mode)
                try rig.send(frames + [last], pause: 10)
                try eventually("the last frame") { try Self.egress(rig, "cali0").packets == 2 }
                try eventually("it to be counted") { try daemon.status().packets["injected"] == 2 }
                #expect(try Self.egress(rig, "cali0").packets == 2)
                try daemon.expectConservation()
            }
        }

        /// The sender takes the victim's address as inner source, and makes the node answer.
        private static func reflected(_ mode: Mode, victim: Int = 77, ttl: UInt8 = 64, bytes: Int = 5)
            -> IPPacket
        {
            let source = mode.innerIsIPv4 ? "198.51.100.\(victim)" : "2001:db8:c::\(victim)"
            var packet = IPPacket.datagram(source, mode.vip, String(repeating: "x", count: bytes))
            packet.ttl = ttl
            return packet.wrapped(mode)
        }

        @Test("packets too big for a pod, from a spoofed source: errors at the rate, and fewer bytes")
        func reflectionOfPacketTooBig() throws {
            try Rig.with { rig in
                let device = "devices: [{name: pod0, netns: /run/netns/\(rig.name)-pod, mtu: 1300}]"
                let daemon = try Daemon.ready(rig, Setup(more: [device]))
                try Self.countEgress(rig)
                let packets = Mode.allCases.map { Self.reflected($0, bytes: 1300) }
                let start = Date()
                try rig.send(packets, repeat: 2_000, pause: 10)
                try daemon.wait(received: 8_000)
                let seconds = Date().timeIntervalSince(start)
                let replied = try daemon.metrics().sum("shuck_replied_packets_total")
                try eventually("the errors") { try Self.egress(rig, "eth0").packets >= replied }
                let out = try Self.egress(rig, "eth0")
                // icmp.burst and icmp.ratePerSecond.
                #expect(out.packets == replied && replied >= 50)
                #expect(Double(replied) <= 50 + 100 * (seconds + 1), "\(replied) in \(seconds) s")
                #expect(out.bytes <= 2_000 * Self.bytes(packets))
                // Neither is one error longer than one packet.
                #expect(out.bytes / out.packets <= packets.map { Self.bytes([$0]) }.min()!)
                try daemon.expectConservation()
            }
        }

        /// A device in the host's namespace: the routing behind it answers, at its own limits.
        @Test("packets whose TTL ends, from spoofed sources: fewer bytes", arguments: [1, 200])
        func reflectionOfTimeExceeded(victims: Int) throws {
            try Rig.with { rig in
                try rig.set(.node, "net.ipv4.icmp_ratelimit", "1000")
                try rig.set(.node, "net.ipv6.icmp.ratelimit", "1000")
                let daemon = try Daemon.ready(rig)
                try Self.countEgress(rig)
                let packets = (0..<2_000).map {
                    Self.reflected(Mode.allCases[$0 % 4], victim: 20 + $0 / 4 % victims, ttl: 1)
                }
                try rig.send(packets, pause: 10)
                try eventually("all packets") { try daemon.status().packets["injected"] == packets.count }
                try rig.send([Self.marker])
                try eventually("an answer") { try Self.egress(rig, "eth0").packets > 1 }
                let out = try Self.egress(rig, "eth0")
                #expect(out.bytes <= Self.bytes(packets))
                #expect(try Self.egress(rig, "cali0").packets == 0)
                try daemon.expectConservation()
            }
        }
    }
}
