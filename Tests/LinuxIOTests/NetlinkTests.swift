// Links and routes as rtnetlink gives them, against what ip(8) prints.

import CLinux
import Foundation
import Glibc
import IP
import Routing
import Testing

@testable import LinuxIO

extension OnHost {
    @Suite struct NetlinkTests {
        private static let routes = """
            set -e
            ip link set near mtu 1400
            ip link set far down
            ip link set far up
            ip address add 192.0.2.2/24 dev near
            ip address add 2001:db8::2/64 dev near nodad
            ip address add 198.51.100.1/31 dev far
            ip route add default via 192.0.2.1
            ip route add default via 192.0.2.9 metric 100
            ip route add 10.1.0.0/16 via 192.0.2.1 metric 20
            ip route add 10.1.0.0/16 via 198.51.100.0 metric 10
            ip route add 10.2.0.0/16 nexthop via 192.0.2.1 nexthop via 198.51.100.0 weight 3
            ip route add 10.3.0.0/16 tos 0x10 via 192.0.2.1
            ip route add 10.4.4.4 dev near table 1000
            ip route add default via 192.0.2.3 table 70000
            ip route add blackhole 10.5.0.0/16
            ip route add unreachable 10.6.0.0/16 metric 7
            ip route add prohibit 10.7.0.0/16
            ip route add throw 10.8.0.0/16 table 1000
            ip -6 route add default via 2001:db8::1
            ip -6 route add 2001:db8:1::/48 nexthop via 2001:db8::1 nexthop via 2001:db8::3
            ip -6 route add 2001:db8:2::/48 via 2001:db8::1 metric 10
            ip -6 route add 2001:db8:2::/48 via 2001:db8::3 metric 20
            ip -6 route add blackhole 2001:db8:3::/48
            ip -6 route add unreachable default metric 9999 table 1000
            ip -6 route add 2001:db8:4::4 dev near table 1000
            """

        private static func objects(_ command: String) throws -> [[String: Any]] {
            let text = try Network.run(command)
            let list = try JSONSerialization.jsonObject(with: Data(text.utf8))
            guard let list = list as? [[String: Any]] else { throw Failure(description: text) }
            return list
        }

        private static func number(_ value: Any?) -> Int {
            (value as? NSNumber)?.intValue ?? (value as? String).flatMap { Int($0) } ?? 0
        }

        @Test func linksAreThoseOfIP() throws {
            try Network.with { _ in
                try Network.run(Self.routes)
                let links = try NetlinkSocket().links()
                let shown = try Self.objects("ip -j link show")
                #expect(links.count == 3 && shown.count == 3)
                for one in shown {
                    let link = links.first { Int($0.index) == Self.number(one["ifindex"]) }
                    #expect(link?.name == one["ifname"] as? String)
                    #expect(link?.mtu == Self.number(one["mtu"]))
                    let flags = one["flags"] as? [String] ?? []
                    #expect(link?.isUp == flags.contains("UP"))
                    let isEthernet = one["link_type"] as? String == "ether"
                    #expect(link?.hardwareType == (isEthernet ? 1 : 772))
                }
            }
        }

        @Test func routesAreThoseOfIP() throws {
            try Network.with { _ in
                try Network.run(Self.routes)
                // With it come routes of the kernel's own.
                try Network.waitForCarrier()
                let routes = try NetlinkSocket().routes()
                for isIPv4 in [true, false] {
                    // IPv6 tells the nexthops of one route as ip(8) does: one a list entry or
                    // one a route, by kernel and tool. Compared hop by hop, they are the same.
                    let found = routes.map(\.entry).filter { $0.prefix.isIPv4 == isIPv4 }.flatMap(Self.lines)
                    let shown = try Self.objects(
                        "ip -j -N -d \(isIPv4 ? "-4" : "-6") route show table all"
                    ).flatMap { Self.lines($0, isIPv4) }
                    #expect(found.sorted() == shown.sorted())
                    #expect(found.count > 10)
                }
            }
        }

        private static func lines(_ route: RouteEntry) -> [String] {
            let head = """
                \(route.prefix.address.bytes)/\(route.prefix.length) table \(route.table) \
                type \(route.kind.rawValue) metric \(route.metric) tos \(route.tos)
                """
            if route.interfaces.isEmpty { return [head] }
            let names = ["near", "far", "lo"]
            return route.interfaces.map { index in
                let name = names.first { if_nametoindex($0) == UInt32(index) }
                return head + " dev " + (name ?? "\(index)")
            }
        }

        private static func lines(_ route: [String: Any], _ isIPv4: Bool) -> [String] {
            let text = route["dst"] as? String ?? ""
            let parts = (text == "default" ? (isIPv4 ? "0.0.0.0/0" : "::/0") : text)
                .split(separator: "/").map(String.init)
            var bytes = [UInt8](repeating: 0, count: isIPv4 ? 4 : 16)
            inet_pton(isIPv4 ? AF_INET : AF_INET6, parts[0], &bytes)
            let length = parts.count > 1 ? Int(parts[1])! : isIPv4 ? 32 : 128
            // Main is not named where it is meant.
            let table = route["table"] == nil ? 254 : number(route["table"])
            let tos =
                (route["tos"] as? String).map { text in
                    text.hasPrefix("0x") ? Int(text.dropFirst(2), radix: 16)! : Int(text)!
                } ?? 0
            let head = """
                \(bytes)/\(length) table \(table) type \(number(route["type"])) \
                metric \(number(route["metric"])) tos \(tos)
                """
            let hops = (route["nexthops"] as? [[String: Any]] ?? [route]).compactMap {
                $0["dev"] as? String
            }
            return hops.isEmpty ? [head] : hops.map { head + " dev " + $0 }
        }

        @Test func changesAreNoticed() throws {
            try Network.with { _ in
                let notices = try NetlinkSocket.notices()
                #expect(notices.takeNotices().isEmpty)
                for change in [
                    "ip address add 192.0.2.2/24 dev near", "ip route add 10.0.0.0/8 dev near",
                    "ip link set far down", "ip link delete far",
                ] {
                    try Network.run(change)
                    #expect(
                        Host.waitReadable([notices.descriptor], milliseconds: 2000) == [true])
                    #expect(!notices.takeNotices().isEmpty, "\(change)")
                    // Of the other end's carrier the kernel tells a moment later.
                    try Network.eventually("their end") { notices.takeNotices().isEmpty }
                }
            }
        }

        @Test func aRefusedRequestIsAnError() throws {
            try Network.with { _ in
                let netlink = try NetlinkSocket()
                #expect(throws: SystemError.self) {
                    try netlink.request(object: "nothing") { message in
                        message.begin(type: RTM_NEWLINK, flags: 0)
                        message.linkHeader(index: 9999, up: true)
                    }
                }
                // The socket goes on.
                #expect(try netlink.links().count == 3)
            }
        }

        @Test func aDeviceHasWhatItWasGiven() throws {
            try Network.with { _ in
                try Network.run("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter")
                var device: TunDevice? = try TunDevice(name: "shucktest0", queues: 2)
                try device?.configure(mtu: 1480, address: Prefix(host: Address(ipv4: 0x7f00_002a)))
                // Twice, as every reload does.
                try device?.configure(mtu: 1470, address: Prefix(host: Address(ipv4: 0x7f00_002a)))
                #expect(device?.queues.count == 2)
                #expect(device?.offloads.contains([.checksum, .tcp]) == true)
                #expect(device.map { Int32(if_nametoindex("shucktest0")) == $0.index } == true)
                let link = try NetlinkSocket().links().first { $0.name == "shucktest0" }
                #expect(link?.mtu == 1470 && link?.isUp == true)
                #expect(link?.hardwareType == 0xfffe)
                #expect(Host.read("/proc/thread-self/net/dev")?.contains("shucktest0") == true)
                let filters = try Network.run(
                    "cat /proc/sys/net/ipv4/conf/shucktest0/rp_filter "
                        + "/proc/sys/net/ipv4/conf/near/rp_filter")
                #expect(filters == "2\n0\n")
                let shown = try Network.run("ip address show shucktest0")
                #expect(shown.contains("inet 127.0.0.42/32 scope host shucktest0"))
                device = nil
                #expect(if_nametoindex("shucktest0") == 0)
            }
        }
    }
}
