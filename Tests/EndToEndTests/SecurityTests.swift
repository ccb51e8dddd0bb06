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
                ])),
            Refused(
                "ip_rpfilter", sources([Rig.pod4, Rig.pod6, "198.18.7.1", "2001:db8:7::1"])),
            Refused(
                "destination_not_allowed",
                [
                    IPPacket.datagram(client4, Rig.pod4).wrapped(.ipip),
                    IPPacket.datagram(client4, "203.0.113.99").wrapped(.ipip),
                    IPPacket.datagram(client4, Rig.client4).wrapped(.ipip6),
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

        /// Sources that would be answered by another way than the frames came.
        private static let detour = """
            route add 198.18.7.0/24 via \(Rig.pod4)
            route add 2001:db8:7::/64 via \(Rig.pod6)

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
                try rig.ip(.node, Self.detour)
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
    }
}
