// The packet tests of `shuck selftest`: `PacketTest.all`.

import Forwarding
import IP
import Settings

extension PacketTest {
    /// - Parameter modes: those that this host has.
    public static func all(_ modes: [Mode]) -> [PacketTest] {
        [
            segmentSizes(modes), congestion(modes), fragments(modes),
            reversePath("strict", modes, behindOther: false, far: true),
            reversePath("loose", modes, behindOther: true, far: true),
            reversePath("loose-no-default", modes, behindOther: true, far: false),
            remotes(modes), destinations(modes), ports(modes), allowedModes(modes), spoofing(modes),
            malformed(modes),
        ]
    }

    /// What fits a link of 1500 bytes when it is encapsulated; smaller ones stay.
    private static func segmentSizes(_ modes: [Mode]) -> PacketTest {
        var test = PacketTest("mss")
        for mode in modes {
            for size in [1460, 1500 - mode.headerBytes, 1220] {
                var packet = InnerPacket.plain(mode)
                packet.body = .syn(mss: size)
                var arriving = packet.forwarded
                arriving.body = .syn(mss: min(size, 1500 - mode.headerBytes))
                test.add(
                    "\(mode.name), a SYN with MSS \(size)", packet, TestNetwork.outerHeader(mode),
                    arriving: arriving)
            }
        }
        test.close()
        return test
    }

    /// RFC 6040 §4.2: the inner field that arrives, by inner and outer field; nil: the packet is dropped.
    static func congestionField(inner: UInt8, outer: UInt8) -> UInt8? {
        let (notCapable, ect1, ce): (UInt8, UInt8, UInt8) = (0, 1, 3)
        if inner == notCapable { return outer == ce ? nil : notCapable }
        if inner == ce || outer == ce { return ce }
        return outer == ect1 ? ect1 : inner
    }

    private static func congestion(_ modes: [Mode]) -> PacketTest {
        var test = PacketTest("ecn")
        for mode in modes {
            for (inner, outer) in (0..<4).flatMap({ inner in (0..<4).map { (UInt8(inner), UInt8($0)) } }) {
                var (packet, header) = (InnerPacket.plain(mode), TestNetwork.outerHeader(mode))
                (packet.ecn, header.ecn) = (inner, outer)
                var arriving = packet.forwarded
                let field = congestionField(inner: inner, outer: outer)
                arriving.ecn = field ?? 0
                let what = "\(mode.name), ECN field \(inner) in \(outer)"
                test.add(
                    what, packet, header, arriving: field == nil ? nil : arriving, reason: "ip_tunnel_ecn")
            }
        }
        test.close()
        return test
    }

    private static func fragments(_ modes: [Mode]) -> PacketTest {
        var test = PacketTest("fragments")
        for mode in modes {
            var packet = InnerPacket.plain(mode)
            packet.body = .datagram(bytes: 1000)
            let end = packet.bytes.count
            let (a, b, c) = (0..<400, 400..<800, 800..<end)
            for (what, cuts) in [
                ("two fragments", [0..<800, c]), ("two fragments in reverse", [c, 0..<800]),
                ("three fragments, the last first", [c, a, b]),
            ] {
                test.add(
                    "\(mode.name), \(what)", packet, TestNetwork.outerHeader(mode),
                    arriving: packet.forwarded, cuts: cuts)
            }
            test.add(
                "\(mode.name), fragments that overlap", packet, TestNetwork.outerHeader(mode), arriving: nil,
                reason: "frag_overlap", cuts: [a, 392..<800])
        }
        test.close()
        return test
    }

    /// - Parameters:
    ///   - behindOther: whether sources pass to which the other interface leads.
    ///   - far: whether sources pass to which only the default route leads.
    private static func reversePath(
        _ kind: String, _ modes: [Mode], behindOther: Bool, far: Bool
    ) -> PacketTest {
        var configuration = NodeConfiguration()
        configuration.reversePath = kind
        configuration.interfaces.append("eth1")
        var test = PacketTest("reverse-path \(kind)", configuration)
        for mode in modes {
            for (what, source, passes) in [
                ("a client behind the other interface", TestNetwork.behindOther, behindOther),
                ("a client behind the default route", TestNetwork.far, far),
            ] {
                let packet = InnerPacket.plain(mode, from: source)
                test.add(
                    "\(mode.name), \(what)", packet, TestNetwork.outerHeader(mode),
                    arriving: passes ? packet.forwarded : nil, reason: "ip_rpfilter")
            }
        }
        test.close(from: far ? TestNetwork.far : TestNetwork.behindOther)
        return test
    }

    // MARK: Allowlists

    private static func remotes(_ modes: [Mode]) -> PacketTest {
        var test = PacketTest("allowlist remotes")
        for mode in modes {
            let node = TestNetwork.of(TestNetwork.node, isIPv4: mode.outerIsIPv4)
            for (what, remote) in [
                ("another balancer", TestNetwork.of(TestNetwork.client, isIPv4: mode.outerIsIPv4)),
                ("the node's own address", node),
            ] {
                test.add(
                    "\(mode.name) from \(what)", .plain(mode), OuterHeader(from: remote, to: node),
                    arriving: nil, reason: "remote_not_allowed")
            }
        }
        test.close()
        return test
    }

    private static func destinations(_ modes: [Mode]) -> PacketTest {
        var configuration = NodeConfiguration()
        configuration.services = [.ipip]
        var test = PacketTest("allowlist destinations", configuration)
        for mode in modes where mode != .ipip {
            test.add(
                "\(mode.name) to a service that is not listed", .plain(mode), TestNetwork.outerHeader(mode),
                arriving: nil, reason: "destination_not_allowed")
        }
        var packet = InnerPacket.plain(.ipip)
        packet.destination = TestNetwork.of(TestNetwork.far, isIPv4: true)
        test.add(
            "ipip to another network", packet, TestNetwork.outerHeader(.ipip), arriving: nil,
            reason: "destination_not_allowed")
        test.close()
        return test
    }

    private static func ports(_ modes: [Mode]) -> PacketTest {
        var configuration = NodeConfiguration()
        configuration.ports = [InnerPacket.testPort]
        var test = PacketTest("allowlist ports", configuration)
        for mode in modes {
            var other = InnerPacket.plain(mode)
            other.port += 1
            test.add(
                "\(mode.name) to a port that is not listed", other, TestNetwork.outerHeader(mode),
                arriving: nil, reason: "destination_not_allowed")
            var connection = InnerPacket.plain(mode)
            connection.body = .syn(mss: 1220)
            test.add(
                "\(mode.name) to the port of another protocol", connection, TestNetwork.outerHeader(mode),
                arriving: nil, reason: "destination_not_allowed")
        }
        test.close()
        return test
    }

    private static func allowedModes(_ modes: [Mode]) -> PacketTest {
        var configuration = NodeConfiguration()
        configuration.modes = [.ipip]
        var test = PacketTest("allowlist modes", configuration)
        for mode in modes {
            let isAllowed = mode == .ipip
            test.add(
                "\(mode.name), where ipip alone is allowed", .plain(mode), TestNetwork.outerHeader(mode),
                arriving: isAllowed ? InnerPacket.plain(mode).forwarded : nil, reason: "mode_not_allowed")
        }
        test.close()
        return test
    }

    // MARK: What no client sends

    private static func spoofing(_ modes: [Mode]) -> PacketTest {
        let invalid = [
            [Address(ipv4: 0), Address(ipv4: 0x7f00_0001), Address(ipv4: 0xe000_0001), Address(ipv4: .max)],
            [
                Address(high: 0, low: 0), Address(high: 0, low: 1),
                Address(high: 0xff02 << 48, low: 1), Address(high: 0xfe80 << 48, low: 1),
            ],
        ]
        var test = PacketTest("spoofing")
        for mode in modes {
            let own = [TestNetwork.node, TestNetwork.gateway, TestNetwork.behindPod].map {
                TestNetwork.of($0, isIPv4: mode.innerIsIPv4)
            }
            let sources =
                invalid[mode.innerIsIPv4 ? 0 : 1].map { ($0, "ip_invalid_source") }
                + (own + [TestNetwork.service(mode)]).map { ($0, "ip_local_source") }
            for (source, reason) in sources {
                var packet = InnerPacket.plain(mode)
                packet.source = source
                test.add(
                    "\(mode.name) from \(source.text)", packet, TestNetwork.outerHeader(mode), arriving: nil,
                    reason: reason)
            }
        }
        test.close()
        return test
    }

    private static func malformed(_ modes: [Mode]) -> PacketTest {
        var test = PacketTest("malformed")
        for mode in modes {
            func add(_ what: String, _ reason: String, _ change: (inout InnerPacket) -> Void) {
                var packet = InnerPacket.plain(mode)
                change(&packet)
                test.add(
                    "\(mode.name), \(what)", packet, TestNetwork.outerHeader(mode), arriving: nil,
                    reason: reason)
            }
            add("a tunnel in the tunnel", "tunnel_nested") {
                $0.body = .upper(protocolNumber: ProtocolNumber.ipv4)
            }
            add("no hops left", "ip_ttl") { $0.hops = 0 }
            add("to a loopback address", "ip_invalid_dest") {
                $0.destination = mode.innerIsIPv4 ? Address(ipv4: 0x7f00_0001) : Address(high: 0, low: 1)
            }
            if mode.innerIsIPv4 { add("a wrong checksum", "ip_csum") { $0.isChecksumRight = false } }
        }
        test.close()
        return test
    }
}
