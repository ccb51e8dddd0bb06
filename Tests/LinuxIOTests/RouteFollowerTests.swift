// The mirror of the kernel's routes under change: followed and dumped, what it holds is the same; and a
// host whose rules lead over two switches.

import CLinux
import Foundation
import Glibc
import IP
import Routing
import TestPackets
import Testing

@testable import Daemon
@testable import Forwarding
@testable import LinuxIO

/// The follower beside its two sockets, as the control thread has it.
struct Following {
    let netlink: NetlinkSocket
    let notices: NetlinkSocket
    var follower: RouteFollower

    init(bufferBytes: Int = 16 << 20) throws {
        notices = try NetlinkSocket.notices(bufferBytes: bufferBytes)
        netlink = try NetlinkSocket()
        follower = try RouteFollower(netlink, notices, netlink.links())
    }

    /// Until nothing is told any more and no dump is due.
    mutating func settle() throws {
        let end = Host.monotonicNanoseconds() + 20_000_000_000
        while Host.monotonicNanoseconds() < end {
            let told = notices.takeNotices()
            if told.isEmpty && follower.due == nil { return }
            _ = try follower.follow(told, netlink, notices, links: netlink.links())
            follower.reclaim()
            if told.isEmpty { usleep(1000) }
        }
        throw Failure(description: "the mirror does not settle: \(follower.due?.rawValue ?? "")")
    }

    /// The mirror against one made anew.
    func differences() throws -> [String] {
        let other = try Following()
        func count(_ mirror: RouteMirror) -> [RouteEntry: Int] {
            Dictionary(
                mirror.entries().map { entry in
                    var sorted = entry
                    // A nexthop of IPv6 that joins others is told in another order than dumped.
                    let hops = zip(entry.interfaces, entry.gateways).sorted { $0 < $1 }
                    if !entry.prefix.isIPv4 {
                        sorted.interfaces = hops.map(\.0)
                        sorted.gateways = hops.map(\.1)
                    }
                    return (sorted, 1)
                }, uniquingKeysWith: +)
        }
        let (mine, fresh) = (count(follower.mirror), count(other.follower.mirror))
        return mine.filter { fresh[$0.key] != $0.value }.map { "too much: \($0.key)" }
            + fresh.filter { mine[$0.key] != $0.value }.map { "missing: \($0.key)" }
            + (follower.mirror.rules == other.follower.mirror.rules ? [] : ["other rules"])
    }
}

extension OnHost {
    @Suite struct RouteFollowerTests {
        private static let links = """
            set -e
            ip link add side type veth peer name away
            ip link set side up
            ip link set away up
            ip address add 192.0.2.2/24 dev near
            ip address add 198.51.100.1/24 dev side
            ip address add 2001:db8:ff::2/64 dev near nodad
            ip address add 2001:db8:fe::2/64 dev side nodad
            """

        private static func makeLinks() throws {
            try Network.run(links)
            try Network.waitForCarrier(["near", "side", "away"])
        }

        /// A dump takes notices itself. What they say of links others must still hear: the interface that
        /// went down while routes were read was up for ever.
        @Test func aDumpHidesNoChangeOfLinks() throws {
            try Network.with { _ in
                try Self.makeLinks()
                var following = try Following()
                try following.settle()
                _ = following.follower.takeUnseen()
                var lost = KernelNotices()
                lost.areLost = true
                let links = try following.netlink.links()
                try Network.run("ip link set side down")
                // Told of before the dump, behind the links that it is given.
                try Network.eventually("the dump") {
                    try following.follower.follow(
                        lost, following.netlink, following.notices, links: links)
                }
                #expect(!following.notices.takeNotices().links)
                #expect(following.follower.patience == 0)
                #expect(following.follower.takeUnseen().concernsLinks)
                #expect(following.follower.takeUnseen().isEmpty)
            }
        }

        /// A batch of ip(8) for one family; what the kernel refuses it refuses.
        private static func batch(isIPv4: Bool, _ random: inout Random) -> String {
            let hops =
                isIPv4
                ? [
                    "via 192.0.2.9", "via 192.0.2.8", "via 198.51.100.9", "dev side",
                    "nexthop via 192.0.2.9 nexthop via 198.51.100.9",
                ]
                : [
                    "via 2001:db8:ff::9", "via 2001:db8:ff::8", "via 2001:db8:fe::9", "dev side",
                    "nexthop via 2001:db8:ff::9 nexthop via 2001:db8:fe::9",
                ]
            return (0..<40).map { _ in
                let verb = random.pick(
                    ["add", "add", "append", "prepend", "replace", "change", "delete", "delete"])
                let number = random.below(4)
                let prefix =
                    isIPv4
                    ? random.pick(["10.\(number).0.0/16", "10.0.\(number).0/24", "default"])
                    : random.pick(
                        ["2001:db8:\(number)::/48", "2001:db8:0:\(number)::/64", "default"])
                let metric = random.chance(3) ? " metric \(100 + random.below(2))" : ""
                let tos = isIPv4 && random.chance(8) ? " tos 0x10" : ""
                let table = random.chance(3) ? " table 1000" : ""
                let kind = random.chance(6) ? "blackhole " : ""
                return "route \(verb) \(kind)\(prefix)\(tos)\(table)\(metric)"
                    + (kind.isEmpty ? " \(random.pick(hops))" : "") + "\n"
            }.joined()
        }

        @Test("I9 changes that are followed come to what a dump shows")
        func followed() throws {
            let seed = try Random.seed(usually: 3_122_588_517)
            print("route follower: seed \(seed)")
            var random = Random(seed)
            try Network.with { _ in
                try Self.makeLinks()
                var following = try Following()
                for round in 0..<40 {
                    let isIPv4 = round % 2 == 0
                    let text = Self.batch(isIPv4: isIPv4, &random)
                    let resyncs = following.follower.resyncs
                    try Network.run(
                        """
                        ip \(isIPv4 ? "-4" : "-6") -force -batch - 2>/dev/null <<'END' || true
                        \(text)END

                        """)
                    if round % 5 != 4 && isIPv4 {
                        // What IPv4 tells is enough to follow it.
                        try following.settle()
                        #expect(following.follower.resyncs == resyncs, "round \(round)")
                    } else if round % 5 == 4 {
                        let change = random.pick([
                            "ip rule add pref \(100 + round) lookup 1000", "ip link set side down",
                            "ip link set side up", "ip address add 192.0.2.\(100 + round)/24 dev near",
                            "ip address del 198.51.100.1/24 dev side || true",
                        ])
                        try Network.run(change)
                        // What the kernel does by and by is done, or it would do it between the two mirrors.
                        if change.hasSuffix("side up") { try Network.waitForCarrier(["side", "away"]) }
                    }
                    try following.settle()
                    let differences = try following.differences()
                    #expect(differences == [], "seed \(seed), round \(round)")
                    if !differences.isEmpty { return }
                }
                #expect(following.follower.changes > 100)
                print("route follower: \(following.follower.changes) changes, \(following.follower.resyncs)")
            }
        }

        /// A dump of IPv6 jumps from the first nexthop of a route to its last, over what stands between them
        /// (net/ipv6/ip6_fib.c `fib6_dump_node`): a route nobody was told of is there when they go.
        @Test("I9 a route that nexthops of another hid is found when they go")
        func aRouteHiddenBySiblings() throws {
            try Network.with { _ in
                try Self.makeLinks()
                try Network.run(
                    """
                    ip -6 route add 2001:db8:a::/48 via 2001:db8:ff::9
                    ip -6 route append blackhole 2001:db8:a::/48
                    ip -6 route append 2001:db8:a::/48 via 2001:db8:fe::9
                    """)
                var following = try Following()
                func kinds() -> [RouteKind] {
                    following.follower.mirror.entries().filter { $0.prefix.length == 48 }.map(\.kind)
                }
                #expect(kinds() == [.unicast])
                // All of them, and they are told of as one.
                try Network.run("ip -6 route delete 2001:db8:a::/48 dev near")
                try following.settle()
                #expect(kinds() == [.blackhole])
                #expect(try following.differences() == [])
            }
        }

        /// As FRR installs them. The kernel removes the nexthop objects of a link without a carrier, the
        /// routes by them and their places in groups, and tells of the link alone.
        @Test("I9 a carrier that goes takes routes with it", arguments: [0, 1])
        func aCarrierThatGoes(compatibility: Int) throws {
            try Network.with { _ in
                try Self.makeLinks()
                try Network.run(
                    """
                    set -e
                    echo \(compatibility) >/proc/sys/net/ipv4/nexthop_compat_mode
                    ip nexthop add id 1 via 192.0.2.9 dev near
                    ip nexthop add id 2 via 198.51.100.9 dev side
                    ip nexthop add id 12 group 1/2
                    ip nexthop add id 61 via 2001:db8:ff::9 dev near
                    ip nexthop add id 62 via 2001:db8:fe::9 dev side
                    ip nexthop add id 612 group 61/62
                    """)
                var following = try Following()
                let routes = """
                    set -e
                    ip route add default nhid 2 metric 50
                    ip route add default nhid 1 metric 100
                    ip route add 10.0.0.0/8 nhid 12
                    ip route add 10.1.0.0/16 nexthop via 192.0.2.9 nexthop via 198.51.100.9
                    ip -6 route add default nhid 62 metric 50
                    ip -6 route add default nhid 61 metric 100
                    ip -6 route add 2001:db8:a::/48 nhid 612
                    """
                try Network.run(routes)
                try following.settle()
                // Told by number, they are followed by what the dump said of their objects.
                #expect(following.follower.resyncs.values.allSatisfy { $0 == 0 })
                #expect(try following.differences() == [])
                let side = Int32(if_nametoindex("side"))
                func defaults() -> [Int32] {
                    following.follower.mirror.entries()
                        .filter { $0.prefix.length == 0 && $0.table == RouteEntry.tableMain }
                        .flatMap(\.interfaces)
                }
                #expect(defaults().filter { $0 == side }.count == 2)
                try Network.run("ip link set away down")
                try Network.waitForCarrierLoss(["side"])
                try following.settle()
                #expect(try following.differences() == [])
                #expect(!defaults().contains(side))
                // It flaps between two looks: the carrier's count alone tells.
                try Network.run("ip link set away up")
                try Network.waitForCarrier(["side", "away"])
                try following.settle()
                #expect(try following.differences() == [])
            }
        }

        /// Two changes between two looks leave the link as it was, and routes gone.
        @Test("I9 a link that was down for a moment took its routes along")
        func aLinkThatFlapped() throws {
            try Network.with { _ in
                try Self.makeLinks()
                // IPv6 would tell of its addresses.
                try Network.run(
                    """
                    echo 1 >/proc/sys/net/ipv6/conf/side/disable_ipv6
                    ip route add 10.0.0.0/8 via 198.51.100.9
                    """)
                var following = try Following()
                try Network.run("ip link set side down && ip link set side up")
                try Network.waitForCarrier(["side", "away"])
                try following.settle()
                #expect(try following.differences() == [])
                let kept = following.follower.mirror.entries().filter {
                    $0.prefix.length == 8 && $0.table == RouteEntry.tableMain
                }
                #expect(kept == [])
            }
        }

        @Test("I9 ignore_routes_with_linkdown decides whether a route by a dead link is one")
        func linkdownRoutes() throws {
            try Network.with { _ in
                try Self.makeLinks()
                let routes = """
                    ip route add 10.0.0.0/8 via 198.51.100.9
                    ip route add 10.1.0.0/16 nexthop via 198.51.100.9 nexthop via 198.51.100.8
                    ip route add 10.2.0.0/16 nexthop via 192.0.2.9 nexthop via 198.51.100.9
                    ip -6 route add 2001:db8:a::/48 via 2001:db8:fe::9
                    ip -6 route add 2001:db8:b::/48 nexthop via 2001:db8:ff::9 nexthop via 2001:db8:fe::9
                    """
                try Network.run(routes)
                var following = try Following()
                let (near, side) = (Int32(if_nametoindex("near")), Int32(if_nametoindex("side")))
                func interfaces(_ length: Int, _ isIPv4: Bool, _ second: UInt8) -> [Int32]? {
                    following.follower.mirror.entries().first {
                        $0.prefix.isIPv4 == isIPv4 && $0.prefix.length == length
                            && $0.table == RouteEntry.tableMain
                            && $0.prefix.address.bytes[isIPv4 ? 1 : 5] == second
                    }?.interfaces
                }
                func settle(_ change: String) throws {
                    try Network.run(change)
                    try following.settle()
                    #expect(try following.differences() == [], "\(change)")
                }
                try Network.run("ip link set away down")
                try Network.waitForCarrierLoss(["side"])
                try settle("true")
                #expect(interfaces(8, true, 0) == [side] && interfaces(16, true, 1) == [side, side])
                #expect(interfaces(48, false, 0x0a) == [side])
                for scope in ["all", "side"] {
                    try settle("echo 1 >/proc/sys/net/ipv4/conf/\(scope)/ignore_routes_with_linkdown")
                    #expect(interfaces(8, true, 0) == nil && interfaces(16, true, 1) == nil)
                    // A packet that comes in by the dead one of two is still accepted.
                    #expect(interfaces(16, true, 2) == [near, side])
                    #expect(interfaces(48, false, 0x0a) == [side])
                    try settle("echo 0 >/proc/sys/net/ipv4/conf/\(scope)/ignore_routes_with_linkdown")
                    #expect(interfaces(8, true, 0) == [side], "\(scope)")
                    try settle("echo 1 >/proc/sys/net/ipv6/conf/\(scope)/ignore_routes_with_linkdown")
                    #expect(interfaces(48, false, 0x0a) == nil)
                    #expect(interfaces(48, false, 0x0b) == [near])
                    #expect(interfaces(8, true, 0) == [side])
                    // A dead route takes the place of another.
                    try settle("ip -6 route add 2001:db8:c::/48 via 2001:db8:ff::9")
                    #expect(interfaces(48, false, 0x0c) == [near])
                    try settle("ip -6 route replace 2001:db8:c::/48 via 2001:db8:fe::9")
                    #expect(interfaces(48, false, 0x0c) == nil)
                    try settle("ip -6 route del 2001:db8:c::/48")
                    try settle("echo 0 >/proc/sys/net/ipv6/conf/\(scope)/ignore_routes_with_linkdown")
                    #expect(interfaces(48, false, 0x0a) == [side], "\(scope)")
                }
            }
        }

        /// Without any change of a route.
        @Test func aChangeOfRulesIsANewGeneration() throws {
            try Network.with { _ in
                try Self.makeLinks()
                try Network.run("ip route add 10.0.0.0/8 via 198.51.100.9 table 7")
                var following = try Following()
                try following.settle()
                let source = Address(ipv4: 0x0a00_0001)
                func isFound() -> Bool {
                    let question = ReversePathQuestion(
                        source: source, destination: Address(ipv4: 0xc000_0202))
                    return following.follower.generation.view.find(question, isIPv4: true).hasInterface
                }
                #expect(!isFound())
                for (verb, isThere) in [("add", true), ("delete", false)] {
                    let old = following.follower.generation
                    try Network.run("ip rule \(verb) lookup 7 priority 7")
                    try following.settle()
                    #expect(following.follower.generation !== old)
                    #expect(isFound() == isThere)
                }
                // Nor is it without one of rules: workers are handed a generation, not a mirror.
                let old = following.follower.generation
                try Network.run("ip route add 10.77.0.0/16 via 198.51.100.9")
                try following.settle()
                #expect(following.follower.generation !== old)
                #expect(following.follower.changes == 1)
            }
        }

        /// 20,000 routes overrun a buffer of 64 KiB that nobody reads.
        @Test func lostNoticesLeadToADump() throws {
            try Network.with { _ in
                try Self.makeLinks()
                var following = try Following(bufferBytes: 32 << 10)
                let old = following.follower.generation
                try Network.run(
                    """
                    for b in $(seq 0 77); do for c in $(seq 0 255); do
                    echo "route add 10.$b.$c.0/24 dev near"; done; done | ip -batch -
                    """)
                // Until the dump is whole, the old generation is what there is.
                #expect(following.follower.generation === old)
                try following.settle()
                #expect(following.follower.resyncs[.lost] ?? 0 >= 1)
                #expect(following.follower.mirror.countIPv4 >= 78 * 256)
                #expect(try following.differences() == [])
                // What comes after it is followed again, route by route.
                let resyncs = following.follower.resyncs
                try Network.run("ip route delete 10.7.7.0/24 dev near")
                try following.settle()
                #expect(following.follower.resyncs == resyncs)
                #expect(try following.differences() == [])
            }
        }
    }
}
