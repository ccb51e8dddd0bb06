// Attacks of which decapsulators are known to die or to serve strangers, against the node as others see it.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct AttackTests {
        private static let scanner4 = "192.0.2.77"
        private static let scanner6 = "2001:db8:1::77"

        /// Last of each test: the kernel answers it, so that every earlier answer is there.
        private static let marker = IPPacket(
            source: Rig.balancer4, destination: Rig.node4, protocolNumber: 47,
            payload: [UInt8](repeating: 0, count: 24))

        /// All that leaves the node by one of its links, but for what IPv6 tells its neighbours:
        /// its reports of multicast groups come whenever they like.
        private static func egress(
            _ rig: Rig, to place: Place = .balancer, _ interface: String = "back"
        ) throws -> Capture {
            try Capture(rig, place, interface, "ip or (ip6 and not dst net ff00::/8)")
        }

        private static func echo(_ source: String, _ destination: String) -> IPPacket {
            var packet = IPPacket.datagram(source, destination)
            packet.protocolNumber = packet.isIPv4 ? 1 : 58
            // RFC 1071 over an echo request without data; ICMPv6's is left wrong, for it must
            // not matter.
            packet.payload =
                packet.isIPv4
                ? [8, 0, 0xf7, 0xfd, 0, 1, 0, 1] : [128, 0, 0, 0, 0, 1, 0, 1]
            return packet
        }

        /// What a scan for open tunnels sends in one mode, from its own address.
        private static func scan(_ mode: Mode) -> [IPPacket] {
            let isIPv4 = mode.innerIsIPv4
            let scanner = isIPv4 ? scanner4 : scanner6
            let node = isIPv4 ? Rig.node4 : Rig.node6
            let neighbour = isIPv4 ? "192.0.2.55" : "2001:db8:1::55"
            let elsewhere = isIPv4 ? "198.51.100.200" : "2001:db8:c::200"
            var expiring = IPPacket.datagram(scanner, mode.vip)
            expiring.ttl = 1
            let packets = [
                IPPacket.datagram(scanner, scanner), .datagram(node, scanner),
                .datagram(neighbour, scanner), .datagram(elsewhere, scanner), expiring,
                echo(scanner, node), echo(node, scanner), echo(scanner, mode.vip),
            ]
            return packets.map {
                mode.outerIsIPv4
                    ? $0.wrapped(from: scanner4, to: Rig.node4)
                    : $0.wrapped(from: scanner6, to: Rig.node6)
            }
        }

        @Test("scans for open tunnels see nothing: standard, spoofed, ping, TTL")
        func scans() throws {
            try Rig.with { rig in
                try rig.ip(
                    .node,
                    """
                    neighbour replace \(Self.scanner4) lladdr 02:00:00:00:02:01 dev eth0 nud permanent
                    neighbour replace \(Self.scanner6) lladdr 02:00:00:00:02:01 dev eth0 nud permanent

                    """)
                let daemon = try Daemon.ready(rig)
                let egress = try Self.egress(rig)
                let arrived = try Self.egress(rig, to: .pod, "eth0")
                let frames = Mode.allCases.flatMap(Self.scan)
                try rig.send(frames)
                try eventually("all frames") {
                    try daemon.metrics().drops == ["remote_not_allowed": frames.count]
                }
                try rig.send([Self.marker])
                try egress.wait(for: 1)
                #expect(egress.packets.count == 1, "\(egress.packets)")
                #expect(egress.packets[0].contains("protocol 47 unreachable"))
                // One that may pass, last: the pod would have seen others before it.
                try rig.send([IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(.ipip)])
                try arrived.wait(for: 1)
                #expect(arrived.packets.count == 1, "\(arrived.packets)")
                try daemon.expectConservation()
            }
        }

        /// From an allowed remote, under rules that let everything go anywhere.
        private static func loops(_ mode: Mode) -> [(what: String, packet: IPPacket, leaves: Int)] {
            let isIPv4 = mode.innerIsIPv4
            let client = isIPv4 ? Rig.client4 : Rig.client6
            let node = isIPv4 ? Rig.node4 : Rig.node6
            let remote = isIPv4 ? Rig.balancer4 : Rig.balancer6
            let nest = IPPacket.datagram(client, client).wrapped(from: remote, to: node)
            let packets: [(String, IPPacket, Int)] = [
                // The node's own answer: the port is closed.
                ("to the tunnel's exit", .datagram(client, node), 1),
                ("to the tunnel's entry", .datagram(client, remote), 1),
                ("back to where it says it is from", .datagram(client, client), 0),
                ("from the tunnel's exit", .datagram(node, client), 0),
                ("from the exit to the exit", .datagram(node, node), 0),
                ("in the same tunnel again", nest, 0),
                ("in it twice more", nest.wrapped(from: remote, to: node), 0),
            ]
            return packets.map { what, packet, leaves in
                var inner = packet
                inner.ttl = 255
                return ("\(mode) \(what)", inner.wrapped(mode), leaves)
            }
        }

        @Test("a packet of TTL 255 leaves the node once at most, wherever it goes")
        func loopsEnd() throws {
            try Rig.with { rig in
                let open = Setup.Tunnel(destinations: ["0.0.0.0/0", "::/0"])
                let daemon = try Daemon.ready(rig, Setup(tunnels: [open]))
                let egress = try Self.egress(rig)
                var seen = 0
                let all = Mode.allCases.flatMap(Self.loops)
                for (number, loop) in all.enumerated() {
                    try rig.send([loop.packet])
                    try eventually("\(loop.what) to be judged") {
                        try daemon.status().packets["received"] == number + 1
                    }
                    try rig.send([Self.marker])
                    try eventually("the marker") {
                        egress.packets.last?.contains("protocol 47 unreachable") == true
                            && egress.packets.count > seen
                    }
                    let packets = egress.packets
                    #expect(packets.count - seen - 1 == loop.leaves, "\(loop.what): \(packets)")
                    seen = packets.count
                }
                // Forwarded ones have lost a hop; the node's own answers begin with 64.
                let forwarded = egress.packets.filter { $0.contains("UDP") && !$0.contains("ICMP") }
                #expect(forwarded.count == 4)
                for packet in forwarded {
                    #expect(packet.contains(" ttl 254,") || packet.contains("(hlim 254,"), "\(packet)")
                }
                try daemon.expectConservation()
            }
        }
    }
}
