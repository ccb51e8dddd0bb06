// Frames that must go nowhere: each under its own reason, and nothing of them in the pod.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct SecurityTests {
        private static let client4 = Rig.client4
        private static let client6 = Rig.client6

        private static func inner4(from source: String) -> IPPacket {
            .datagram(source, Mode.ipip.vip)
        }

        private static func inner6(from source: String) -> IPPacket {
            .datagram(source, Mode.ip6ip6.vip)
        }

        private static func sources(_ list: [String]) -> [IPPacket] {
            list.map { source in
                source.contains(":")
                    ? inner6(from: source).wrapped(.ip6ip6) : inner4(from: source).wrapped(.ipip)
            }
        }

        private static let nested: [IPPacket] = [UInt8]([4, 41, 47, 137]).flatMap { number in
            var four = inner4(from: client4)
            var six = inner6(from: client6)
            four.protocolNumber = number
            six.protocolNumber = number
            return [four.wrapped(.ipip), six.wrapped(.ip6ip6)]
        }

        /// Packets that must be refused, and the reason under which.
        private struct Refused {
            let reason: String
            let packets: [IPPacket]
            init(_ reason: String, _ packets: [IPPacket]) {
                self.reason = reason
                self.packets = packets
            }
        }

        private static let wrongHeaders: [Refused] = {
            var checksum = inner4(from: client4)
            checksum.checksumError = 1
            var outer = inner4(from: client4).wrapped(.ipip)
            outer.checksumError = 1
            var dead = inner6(from: client6)
            dead.ttl = 0
            var cut = inner4(from: client4).wrapped(.ipip)
            cut.payload = Array(cut.payload.dropLast(8))
            return [
                Refused("ip_csum", [checksum.wrapped(.ipip), outer]),
                Refused("ip_ttl", [dead.wrapped(.ip6ip6)]),
                Refused("pkt_too_small", [cut]),
                Refused(
                    "ip_tunnel_ecn",
                    [
                        inner4(from: client4).wrapped(.ipip, trafficClass: 3),
                        inner6(from: client6).wrapped(.ip6ip, trafficClass: 3),
                    ]),
            ]
        }()

        private static let wrongAddresses: [Refused] = [
            Refused(
                "ip_invalid_source",
                sources([
                    "127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255",
                    "240.0.0.1", "169.254.169.254", "::", "::1", "ff02::1", "fe80::1",
                    "::ffff:198.51.100.2", "fe80::1234:5678:9abc",
                ])),
            Refused(
                "ip_local_source",
                sources([
                    Rig.node4, "10.2.1.1", Rig.node6, "2001:db8:2::1", Mode.ipip.vip,
                    Mode.ipip6.vip, Mode.ip6ip.vip, "203.0.113.200", "2001:db8:dead::1",
                    Rig.pod4, Rig.pod6, "10.2.1.77", "2001:db8:2::77", "2002:a02:109::1",
                    "64:ff9b::10.2.1.9",
                ])),
            Refused("ip_rpfilter", sources(["198.18.7.1", "2001:db8:7::1"])),
            Refused(
                "destination_not_allowed",
                [
                    IPPacket.datagram(client4, Rig.pod4).wrapped(.ipip),
                    IPPacket.datagram(client4, "203.0.113.99").wrapped(.ipip),
                    IPPacket.datagram(client4, "198.51.100.99").wrapped(.ipip6),
                    IPPacket.datagram(client6, Rig.pod6).wrapped(.ip6ip6),
                    IPPacket.datagram(client6, Rig.node6).wrapped(.ip6ip),
                ]),
        ]

        private static let wrongTunnels: [Refused] = [
            Refused("tunnel_nested", nested),
            Refused(
                "remote_not_allowed",
                [
                    inner4(from: client4).wrapped(from: "192.0.2.99", to: Rig.node4),
                    inner6(from: client6).wrapped(from: "2001:db8:1::99", to: Rig.node6),
                    inner4(from: client4).wrapped(from: Rig.node4, to: Rig.node4),
                ]),
            Refused(
                "mode_not_allowed",
                [inner6(from: client6).wrapped(from: "192.0.2.7", to: Rig.node4)]),
        ]

        /// A second uplink: a default route leaves by it, too.
        private static let secondUplink = """
            link add eth1 type veth peer name far
            link set eth1 up
            link set far up
            route add 0.0.0.0/0 dev eth1 metric 9999
            route add ::/0 dev eth1 metric 9999

            """

        /// Sources that would be answered by another way than the frames came.
        private static let detour = """
            route add 198.18.7.0/24 dev eth1
            route add 2001:db8:7::/64 dev eth1

            """

        private static let setup = Setup(
            tunnels: [
                Setup.Tunnel(),
                Setup.Tunnel(
                    name: "narrow", local: [Rig.node4], remotes: ["192.0.2.7"],
                    more: ["modes: [ipip]"]),
            ],
            more: [
                "reversePath: {mode: strict}",
                "inner: {deny: [203.0.113.128/25, \"2001:db8:dead::/48\"]}",
            ])

        private static func good() -> [IPPacket] {
            Mode.allCases.map {
                IPPacket.datagram($0.innerIsIPv4 ? client4 : client6, $0.vip, "good").wrapped($0)
            } + [inner4(from: client4).wrapped(from: "192.0.2.7", to: Rig.node4)]
        }

        @Test func refusedFramesGoNowhere() throws {
            try Rig.with { rig in
                try rig.ip(.node, Self.secondUplink + Self.detour)
                let daemon = try Daemon.ready(rig, Self.setup)
                let arrived = try Capture(
                    rig, .pod, "eth0", "udp port 4242 or proto 4 or proto 41 or ip6 proto 4")
                let cases = Self.wrongHeaders + Self.wrongAddresses + Self.wrongTunnels
                try rig.send(cases.flatMap(\.packets))
                try rig.send(Self.good())
                try arrived.wait(for: 5)
                #expect(arrived.packets.count == 5, "\(arrived.packets)")
                try daemon.wait(received: cases.flatMap(\.packets).count + 5)
                let expected = Dictionary(
                    uniqueKeysWithValues: cases.map { ($0.reason, $0.packets.count) })
                #expect(try daemon.metrics().drops == expected)
                #expect(try daemon.status().dropsByReason == expected)
                try daemon.expectConservation()
            }
        }

        @Test func theReversePathFollowsTheRoutes() throws {
            try Rig.with { rig in
                try rig.ip(.node, Self.secondUplink)
                let daemon = try Daemon.ready(rig, Self.setup)
                let arrived = try Capture(rig, .pod, "eth0", "udp port 4242")
                let packets = Self.sources(["198.18.7.1", "2001:db8:7::1"])
                try rig.send(packets)
                try arrived.wait(for: 2)
                try rig.ip(.node, Self.detour)
                try eventually("both to be refused") {
                    let refused = try daemon.metrics().drops["ip_rpfilter", default: 0]
                    try rig.send(packets)
                    usleep(5_000)
                    return try daemon.metrics().drops["ip_rpfilter", default: 0] == refused + 2
                }
                try rig.ip(.node, Self.detour.replacingOccurrences(of: "add", with: "delete"))
                try eventually("both to pass again") {
                    let seen = arrived.packets.count
                    try rig.send(packets)
                    usleep(20_000)
                    return arrived.packets.count == seen + 2
                }
                try daemon.expectConservation()
            }
        }

        /// Of the node's own side, and of a destination prefix that the node has no route for: were they let
        /// in, pods would answer there, and the answer would circle between node and router.
        private static let inside = sources([
            Rig.node4, Rig.node6, Rig.pod4, Rig.pod6, "10.2.1.77", "2001:db8:2::77", "203.0.113.77",
            Mode.ipip.vip, Mode.ip6ip6.vip, "2002:a02:109::1", "2002:cb00:714d::1",
            "64:ff9b::10.2.1.9",
        ])

        /// Neighbours on the uplink, the balancer among them.
        private static let outside = sources([
            Rig.balancer4, Rig.balancer6, "192.0.2.77", "2001:db8:1::77",
        ])

        @Test func podsAreNoSourcesInAnyMode() throws {
            try Rig.with { rig in
                func setup(_ mode: String) -> Setup {
                    let destinations = Mode.allCases.map(\.vip) + ["203.0.113.64/26"]
                    return Setup(
                        tunnels: [Setup.Tunnel(destinations: destinations)],
                        more: ["reversePath: {mode: \(mode)}"])
                }
                let modes = ["strict", "feasible", "loose-no-default", "loose", "off"]
                let daemon = try Daemon.ready(rig, setup(modes[0]))
                let arrived = try Capture(rig, .pod, "eth0", "udp port 4242")
                for (number, mode) in modes.enumerated() {
                    try daemon.configure(setup(mode))
                    #expect(try daemon.reload().status == 200)
                    try rig.send(Self.inside + Self.outside)
                    try daemon.wait(
                        received: (number + 1) * (Self.inside.count + Self.outside.count))
                    try arrived.wait(for: (number + 1) * Self.outside.count)
                    #expect(
                        try daemon.metrics().drops
                            == ["ip_local_source": (number + 1) * Self.inside.count], "\(mode)")
                }
                #expect(arrived.packets.count == modes.count * Self.outside.count)
                try Self.expectFollowing(rig, daemon, arrived)
                try daemon.expectConservation()
            }
        }

        /// A network becomes a pod's, and an uplink's again.
        private static func expectFollowing(
            _ rig: Rig, _ daemon: Daemon, _ arrived: Capture
        ) throws {
            let routes = """
                route add 198.18.7.0/24 via \(Rig.pod4)
                route add 2001:db8:7::/64 via \(Rig.pod6)

                """
            let packets = sources(["198.18.7.1", "2001:db8:7::1"])
            try rig.ip(.node, routes)
            try eventually("both to be refused") {
                let refused = try daemon.metrics().drops["ip_local_source", default: 0]
                try rig.send(packets)
                usleep(5_000)
                return try daemon.metrics().drops["ip_local_source", default: 0] == refused + 2
            }
            try rig.ip(.node, routes.replacingOccurrences(of: "add", with: "delete"))
            try eventually("both to pass again") {
                let seen = arrived.packets.count
                try rig.send(packets)
                usleep(20_000)
                return arrived.packets.count == seen + 2
            }
        }

        /// Offload fields are written by whoever is on the link: a virtual machine, say.
        @Test func aSumOverAPortIsRefused() throws {
            try Rig.with(offloads: .on) { rig in
                let daemon = try Daemon.ready(rig)
                let arrived = try Capture(rig, .pod, "eth0", "udp")
                for mode in Mode.allCases {
                    let inner =
                        mode.innerIsIPv4
                        ? IPPacket.datagram(Self.client4, mode.vip)
                        : .datagram(Self.client6, mode.vip)
                    let transport = 14 + (mode.outerIsIPv4 ? 20 : 40) + (mode.innerIsIPv4 ? 20 : 40)
                    // The destination port, and the checksum.
                    for offset in [2, 6] {
                        try rig.run(
                            .balancer, Tools.lab, "send-raw", "back", "--csum-start",
                            "\(transport)", "--csum-offset", "\(offset)", "--hex",
                            inner.wrapped(mode).frame)
                    }
                }
                try arrived.wait(for: 4)
                try daemon.wait(received: 8)
                #expect(try daemon.metrics().drops == ["gso_invalid": 4])
                #expect(arrived.packets.count == 4)
                for packet in arrived.packets {
                    #expect(packet.contains(".\(IPPacket.port): "), "\(packet)")
                }
                try daemon.expectConservation()
            }
        }
    }
}
