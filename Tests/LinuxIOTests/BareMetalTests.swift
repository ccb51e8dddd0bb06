// A Kubernetes host with layer 3 to the host, as KubeCon EU 2020's "Kubernetes on bare metal" shows it:
// rules of its own, ECMP over two switches on /31 links, a service address of BIRD's.

import CLinux
import Foundation
import Glibc
import IP
import Routing
import Testing

@testable import Daemon
@testable import Forwarding
@testable import LinuxIO

extension OnHost {
    @Suite struct BareMetalTests {
        private static let host = """
            set -e
            ip link add tor2 type veth peer name away
            ip link set tor2 up
            ip link set away up
            ip link set near down
            ip link set near name tor1
            ip link set tor1 up
            ip link add pods type veth peer name pod
            ip link set pods up
            ip link set pod up
            ip address add 10.1.0.1/31 dev tor1
            ip address add 10.1.0.3/31 dev tor2
            ip address add 172.20.236.225/32 dev lo
            ip route add 10.20.0.0/16 nexthop via 10.1.0.0 nexthop via 10.1.0.2
            ip route add 10.21.0.0/16 via 10.1.0.0
            ip route add 10.244.7.0/24 dev pods
            ip route add default table 100 nexthop via 10.1.0.0 nexthop via 10.1.0.2
            ip rule add pref 1000 lookup main
            ip rule add pref 1001 from 172.20.236.225 lookup 100
            ip rule add pref 1002 lookup default
            ip rule add pref 1003 lookup 100
            ip rule delete pref 32766
            ip rule delete pref 32767
            """

        private struct Answers {
            let world: ForwardingTables
            let follower: RouteFollower
            let links: [Link]

            init() throws {
                let netlink = try NetlinkSocket()
                links = try netlink.links()
                follower = try RouteFollower(netlink, NetlinkSocket.notices(), links)
                let names = ["tor1", "tor2"]
                let links = links
                let policy = Policy(
                    interfaces: names.map { .init(name: $0, reversePath: .strict) },
                    tunnels: [
                        .init(
                            name: "lvs", interfaces: [0, 1],
                            local: [Prefix(host: Address(ipv4: 0x0a01_0001))],
                            remotes: [.allIPv4],
                            destinations: [.init(prefix: Prefix(host: Address(ipv4: 0xac14_ece1)))])
                    ])
                world = ForwardingTables(
                    policy: PolicyTables(policy), routes: follower.generation,
                    interfaces: names.map { name in
                        InterfaceState(
                            index: links.first { $0.name == name }!.index, mtu: 1500,
                            reversePath: .strict)
                    })
            }

            func why(_ source: UInt32, to destination: UInt32? = nil) -> RouteAnswer {
                let inquiry = RouteAnswer.Inquiry(
                    source: Address(ipv4: source), destination: destination.map(Address.init(ipv4:)))
                return RouteAnswer(inquiry, follower.mirror, world, links)!
            }
        }

        @Test("I9 rules over two switches: both links are accepted, a spoofed source is not")
        func rulesOverTwoSwitches() throws {
            try Network.with { _ in
                try Network.run(Self.host)
                let host = try Answers()
                let both = host.why(0xc633_6407, to: 0xac14_ece1)
                #expect(both.rule == "1001: from 172.20.236.225 lookup 100" && both.table == "100")
                #expect(both.routes == ["default dev tor1 dev tor2"])
                #expect(both.verdicts.map(\.isAccepted) == [true, true])
                #expect(both.passedOver == [])
                // Without the destination the rule with `from` may or may not match, and it says so.
                let anyway = host.why(0xc633_6407)
                #expect(anyway.rule == "1003: from all lookup 100")
                #expect(anyway.verdicts.map(\.isAccepted) == [true, true])
                #expect(anyway.passedOver == ["1001: from 172.20.236.225 lookup 100"])

                let cluster = host.why(0x0a14_0505)
                #expect(cluster.rule == "1000: from all lookup main")
                #expect(cluster.prefix == "10.20.0.0/16")
                #expect(cluster.verdicts.map(\.isAccepted) == [true, true])
                let one = host.why(0x0a15_0505)
                #expect(one.routes == ["10.21.0.0/16 dev tor1"])
                #expect(one.verdicts.map(\.reason) == [nil, "ip_rpfilter"])

                // A pod's address and the host's own never come from outside.
                let pod = host.why(0x0af4_0709)
                #expect(pod.routes == ["10.244.7.0/24 dev pods"])
                #expect(pod.verdicts.map(\.reason) == ["ip_local_source", "ip_local_source"])
                let own = host.why(0xac14_ece1)
                #expect(own.rule == "0: from all lookup local")
                #expect(own.verdicts.map(\.reason) == ["ip_local_source", "ip_local_source"])

                // A switch that goes leaves the other. That nothing comes in by a link that is down
                // the kernel leaves to the link (`fib_info_nh_uses_dev` does not ask).
                try Network.run("ip link set tor2 down")
                let less = try Answers().why(0xc633_6407, to: 0xac14_ece1)
                #expect(less.verdicts.map(\.isAccepted) == [true, true])
                let alone = try Answers().why(0x0a15_0505)
                #expect(alone.verdicts.map(\.isAccepted) == [true, false])
            }
        }
    }
}
