// The kernel's own lookups as oracle while carriers come and go: random tables with nexthop objects and
// groups, random changes of links and of what a linkdown route is worth. The seed is printed; SHUCK_SEED
// repeats it.

import CLinux
import Foundation
import Glibc
import IP
import Routing
import TestPackets
import Testing

@testable import Daemon
@testable import LinuxIO

extension OnHost {
    @Suite struct CarrierOracleTests {
        /// `RTM_GETROUTE` with `RTM_F_FIB_MATCH`: the route that a lookup of the kernel ends in.
        @Test("I9 the kernel finds the same routes while carriers come and go")
        func theKernelFindsTheSame() throws {
            let seed = try Random.seed(usually: 20_261_122)
            print("carrier oracle: seed \(seed)")
            var (asked, found) = (0, 0)
            for number in 0..<12 {
                var random = Random(seed &+ UInt64(number))
                try Network.with { _ in
                    var host = try CarrierHost(&random)
                    var following = try Following()
                    var history: [String] = []
                    for _ in 0..<4 {
                        history += try host.change(&random)
                        try following.settle()
                        for isIPv4 in [true, false] {
                            for _ in 0..<150 {
                                let address = CarrierHost.address(isIPv4: isIPv4, &random)
                                let kernel = try host.find(address, following.netlink)
                                let ours = Self.find(address, following.follower.generation)
                                asked += 1
                                found += kernel == nil ? 0 : 1
                                if kernel == ours { continue }
                                Issue.record(
                                    """
                                    host \(number), seed \(seed): \(address): the kernel \
                                    \(kernel ?? []), we \(ours ?? [])
                                    \(host.script)\(history.joined(separator: "\n"))
                                    """)
                                return
                            }
                        }
                    }
                    #expect(try following.differences() == [], "seed \(seed)")
                }
            }
            print("carrier oracle: \(asked) questions, \(found) routes found")
            // Neither everything nor nothing.
            #expect(found > asked / 10 && found < asked * 19 / 20)
        }

        /// - Returns: the interfaces of the route that is found; nil: none.
        private static func find(_ address: Address, _ table: RouteTable) -> [Int32]? {
            let any = address.isIPv4 ? Address(ipv4: 0) : Address(high: 0, low: 0)
            let record = table.view.find(
                ReversePathQuestion(source: address, destination: any), isIPv4: address.isIPv4)
            guard record.kind == .unicast else { return nil }
            return (1...9).filter { table.view.bestUses(record, interface: $0) }
        }
    }
}

/// Three uplinks, and routes by each.
private struct CarrierHost {
    private var scripts = ["", ""]
    private static let uplinks = ["near", "side", "third"]
    private static let peers = ["near": "far", "side": "away", "third": "beyond"]

    init(_ random: inout Random) throws {
        try Network.run(
            """
            set -e
            ip link add side type veth peer name away
            ip link add third type veth peer name beyond
            for link in side third away beyond; do ip link set $link up; done
            number=0
            for link in near side third; do
                number=$((number + 1))
                ip address add 192.0.$number.2/24 dev $link
                ip address add 2001:db8:ff0$number::2/64 dev $link nodad
            done
            echo \(random.below(2)) >/proc/sys/net/ipv4/nexthop_compat_mode
            """)
        try Network.waitForCarrier(Self.uplinks)
        for (family, isIPv4) in [true, false].enumerated() {
            for _ in 0..<20 { scripts[family] += Self.route(isIPv4: isIPv4, &random) }
        }
        try install()
    }

    var script: String { "-4\n\(scripts[0])-6\n\(scripts[1])" }

    private func install() throws {
        try Self.run("-4", Self.nexthops)
        try Self.run("-4", scripts[0])
        try Self.run("-6", scripts[1])
    }

    /// Again after their links came back: the kernel has removed them.
    private static let nexthops =
        (1...3).map { number in
            """
            nexthop add id \(number) via 192.0.\(number).9 dev \(uplinks[number - 1])
            nexthop add id 6\(number) via 2001:db8:ff0\(number)::9 dev \(uplinks[number - 1])

            """
        }.joined() + """
            nexthop add id 12 group 1/2
            nexthop add id 123 group 1/2/3
            nexthop add id 612 group 61/62
            nexthop add id 6123 group 61/62/63
            nexthop add id 9 blackhole

            """

    /// What the kernel refuses it refuses: the mirror sees the rest.
    private static func run(_ family: String, _ batch: String) throws {
        try Network.run("ip \(family) -force -batch - >/dev/null 2>&1 <<'END' || true\n\(batch)END\n")
    }

    /// No two of one prefix and metric: which of them IPv6 takes hangs on its neighbours.
    private static func route(isIPv4: Bool, _ random: inout Random) -> String {
        let (b, c) = (random.below(3), random.below(3))
        let prefix =
            random.chance(20)
            ? "default"
            : isIPv4
                ? random.pick(["10.0.0.0/9", "10.\(b).0.0/16", "10.\(b).\(c).0/24"])
                : random.pick(
                    ["2001:db8::/47", "2001:db8:\(b)::/48", "2001:db8:\(b):\(c)::/64"])
        func hop() -> String {
            let number = 1 + random.below(3)
            return "via " + (isIPv4 ? "192.0.\(number).9" : "2001:db8:ff0\(number)::9")
        }
        let six = isIPv4 ? "" : "6"
        let hops = random.pick([
            hop(), hop(), "dev \(random.pick(uplinks))", "nexthop \(hop()) nexthop \(hop())",
            "nhid \(six)1", "nhid \(six)2", "nhid \(six)3", "nhid \(six)12", "nhid \(six)123",
            "nhid 9",
        ])
        return "route add \(prefix) metric \(1 + random.below(4)) \(hops)\n"
    }

    /// Some change of an uplink, done when the kernel has followed it.
    mutating func change(_ random: inout Random) throws -> [String] {
        var lines: [String] = []
        var (gone, come): ([String], [String]) = ([], [])
        for uplink in Self.uplinks {
            let peer = Self.peers[uplink]!
            switch random.below(6) {
            case 0, 1:
                lines.append("ip link set \(peer) down")
                gone.append(uplink)
            case 2:
                lines.append("ip link set \(uplink) down")
                lines.append("ip link set \(uplink) up; ip link set \(peer) up")
                come.append(uplink)
            default:
                lines.append("ip link set \(uplink) up; ip link set \(peer) up")
                come.append(uplink)
            }
            for family in ["ipv4", "ipv6"] where random.chance(3) {
                let scope = random.pick(["all", uplink, uplink])
                lines.append(
                    "echo \(random.below(2)) >/proc/sys/net/\(family)/conf/\(scope)/"
                        + "ignore_routes_with_linkdown")
            }
        }
        try Network.run((["set -e"] + lines).joined(separator: "\n"))
        try Network.waitForCarrierLoss(gone)
        try Network.waitForCarrier(come)
        if random.chance(2) {
            lines.append("all nexthop objects and routes again")
            try install()
        }
        return lines
    }

    static func address(isIPv4: Bool, _ random: inout Random) -> Address {
        let (b, c) = (random.below(4), random.below(4))
        let outside = random.chance(5)
        let text =
            isIPv4
            ? "10.\(outside ? 200 : b).\(c).7" : "2001:db8:\(outside ? 200 : b):\(c)::7"
        var bytes = [UInt8](repeating: 0, count: isIPv4 ? 4 : 16)
        inet_pton(isIPv4 ? AF_INET : AF_INET6, text, &bytes)
        return Address(bytes: bytes)!
    }

    /// - Returns: the interfaces of the route that the kernel finds; nil: none.
    func find(_ address: Address, _ netlink: NetlinkSocket) throws -> [Int32]? {
        let bytes = address.bytes
        let route: KernelRoute?
        do {
            route = try netlink.answer(to: "a route") { message in
                message.begin(type: RTM_GETROUTE, flags: 0)
                message.extraHeader(rtmsg.self, family: address.isIPv4 ? AF_INET : AF_INET6) { header in
                    header.rtm_dst_len = UInt8(bytes.count * 8)
                    header.rtm_flags = UInt32(RTM_F_FIB_MATCH)
                }
                message.attribute(RTA_DST.rawValue, bytes)
            } _: {
                NetlinkParser.route($0)
            }
        } catch {
            return nil
        }
        guard let route, route.entry.kind == .unicast else { return nil }
        let hops =
            route.entry.interfaces.isEmpty
            ? try netlink.nexthops()[route.nexthop] ?? [] : route.entry.interfaces
        return Set(hops).sorted()
    }
}
