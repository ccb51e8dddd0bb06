// The nftables rules of `mss.replies: nft`, as text: which answers, and how small.

import Forwarding
import Testing

@testable import Settings

@Suite struct SynAckClampTests {
    private func chains(
        _ tunnels: String, mss: String = "{replies: nft}", mtu: @escaping (String) -> Int? = { _ in 1500 }
    ) throws -> String {
        let text = "interfaces: [eth0, eth1]\nmss: \(mss)\ntunnels: [\(tunnels)]\n"
        let (configuration, problems) = Configuration.load(files: [("f", text)])
        return SynAckClamp.chains(try #require(configuration, "\(problems)"), mtu: mtu)
    }

    /// The rules of one tunnel.
    private func rules(_ chains: String, tunnel: Int = 0) throws -> [String] {
        let start = try #require(chains.range(of: "chain tunnel-\(tunnel) {\n"))
        return chains[start.upperBound...].split(separator: "\n").prefix { $0 != "}" }.map {
            $0.trimmingPrefix(while: { $0 == " " }).description
        }
    }

    private let both = """
        {name: a, local: [192.0.2.2, "2001:db8::2"], remotes: [192.0.2.1, "2001:db8::1"],
        """

    @Test func theWholeText() throws {
        let text = try chains(
            """
            {name: a, local: [192.0.2.2], remotes: [192.0.2.1],
             destinations: [{prefix: 203.0.113.4, protocol: tcp, ports: [443, 80, "79-81"]}]}
            """)
        #expect(
            text == """
                chain mss-1440 {
                    tcp option maxseg size > 1440 counter tcp option maxseg size set 1440
                }
                chain tunnel-0 {
                    ip saddr 203.0.113.4/32 tcp sport { 79-81, 443 } goto mss-1440
                }
                chain replies {
                    type filter hook postrouting priority 150
                    policy accept
                    tcp flags & (fin|syn|rst|ack) == syn|ack jump tunnel-0
                }

                """)
    }

    @Test("the lowest bound of each tunnel and family, and nothing where nothing bounds")
    func theLowest() throws {
        let text = """
            interfaces: [eth0]
            mss: {replies: nft, ipv6: off}
            tunnels:
              - \(both) destinations: [
                  {prefix: 203.0.113.4}, {prefix: 203.0.113.5, mss: 1300}, {prefix: "2001:db8:f::4"}]}

            """
        let configuration = try #require(Configuration.load(files: [("f", text)]).configuration)
        let lowest = SynAckClamp.lowest(configuration, mtu: { _ in 1500 })
        #expect(lowest.map(\.tunnel) == ["a"])
        #expect(lowest.map(\.isIPv4) == [true])
        #expect(lowest.map(\.bytes) == [1300])
        #expect(SynAckClamp.lowest(configuration, mtu: { _ in nil }).map(\.bytes) == [1300])
        let other = text.replacing("ipv6: off", with: "ipv6: auto")
        let both = try #require(Configuration.load(files: [("f", other)]).configuration)
        // The same order each time: the larger first.
        let sorted = SynAckClamp.lowest(both, mtu: { _ in 1500 })
        #expect(sorted.map(\.bytes) == [1400, 1300])
        #expect(sorted.map(\.isIPv4) == [false, true])
    }

    @Test(arguments: [
        ("ipip", 1440), ("ipip6", 1420), ("ip6ip", 1420), ("ip6ip6", 1400),
        ("ipip, ipip6", 1420), ("ip6ip, ip6ip6", 1400),
    ])
    func theLargestOuterHeaderDecides(modes: String, size: Int) throws {
        let isIPv4 = modes.hasPrefix("ipip")
        let prefix = isIPv4 ? "203.0.113.4" : "2001:db8:f::4"
        let text = try chains(
            both + "modes: [\(modes)], destinations: [{prefix: \"\(prefix)\"}]}")
        #expect(
            try rules(text) == [
                "\(isIPv4 ? "ip" : "ip6") saddr \(prefix)/\(isIPv4 ? 32 : 128) goto mss-\(size)"
            ])
        #expect(text.contains("maxseg size > \(size) counter tcp option maxseg size set \(size)\n"))
    }

    /// No encapsulation in IPv6 can come where `local` has no such address.
    @Test func aModeThatCannotComeDoesNotCount() throws {
        let text = try chains(
            """
            {name: a, local: [192.0.2.2], remotes: [192.0.2.1],
             destinations: [{prefix: 203.0.113.4}, {prefix: "2001:db8:f::4"}]}
            """)
        #expect(
            try rules(text) == [
                "ip saddr 203.0.113.4/32 goto mss-1440",
                "ip6 saddr 2001:db8:f::4/128 goto mss-1420",
            ])
    }

    @Test func theNarrowestInterfaceDecides() throws {
        let tunnel = both + "destinations: [{prefix: 203.0.113.4}]}"
        let mtus = ["eth0": 9000, "eth1": 1400]
        #expect(try rules(chains(tunnel) { mtus[$0] }) == ["ip saddr 203.0.113.4/32 goto mss-1320"])
        // One that is absent carries nothing; without any there is nothing to go by.
        #expect(
            try rules(chains(tunnel) { $0 == "eth0" ? 9000 : nil })
                == ["ip saddr 203.0.113.4/32 goto mss-8920"])
        #expect(try rules(chains(tunnel) { _ in nil }) == ["ip saddr 203.0.113.4/32 return"])
    }

    @Test func aDestinationsOwnComesFirst() throws {
        let text = try chains(
            both + """
                destinations: [
                  {prefix: 203.0.113.4, protocol: tcp, ports: [80], mss: 1000},
                  {prefix: 203.0.113.4, protocol: tcp, ports: [81], mss: off},
                  {prefix: 203.0.113.4, protocol: udp},
                  {prefix: 203.0.113.0/24, mss: auto},
                  {prefix: 198.51.100.0/24}, {prefix: "2001:db8:f::/64"}]}
                """, mss: "{ipv4: 1200, ipv6: off, replies: nft}")
        #expect(
            try rules(text) == [
                "ip saddr 203.0.113.4/32 tcp sport { 80 } goto mss-1000",
                "ip saddr 203.0.113.4/32 tcp sport { 81 } return",
                "ip saddr 203.0.113.0/24 goto mss-1420",
                "ip saddr 198.51.100.0/24 goto mss-1200",
                "ip6 saddr 2001:db8:f::/64 return",
            ])
    }

    @Test func everyTunnelLooksAtAnAnswer() throws {
        let text = try chains(
            """
            {name: a, local: [192.0.2.2], remotes: [192.0.2.1], modes: [ipip]},
            {name: b, local: ["2001:db8::2"], remotes: ["2001:db8::1"],
             destinations: [{prefix: 203.0.113.4}]}
            """)
        // A tunnel without destinations serves any: its rules name none.
        #expect(
            try rules(text, tunnel: 0)
                == ["ip saddr 0.0.0.0/0 goto mss-1440", "ip6 saddr ::/0 return"])
        #expect(try rules(text, tunnel: 1) == ["ip saddr 203.0.113.4/32 goto mss-1420"])
        let hook = try #require(text.range(of: "chain replies"))
        #expect(text[hook.lowerBound...].components(separatedBy: "jump tunnel-").count == 3)
    }
}
