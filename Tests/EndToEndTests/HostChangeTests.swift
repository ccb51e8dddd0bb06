// What others change on the host while shuck runs: carriers, sysctls, addresses and links.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct HostChangeTests {
        private static var datagrams: [IPPacket] {
            Mode.allCases.map {
                IPPacket.datagram($0.innerIsIPv4 ? Rig.client4 : Rig.client6, $0.vip).wrapped($0)
            }
        }

        /// Routes by nexthop objects, as FRR installs them: those of the lost uplink go without a notice.
        @Test("I9 an uplink that loses its carrier leaves the reverse path to the other")
        func theOtherUplinkTakesOver() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                try Self.addUplink(rig)
                let daemon = try Daemon.ready(rig)
                try rig.send(Self.datagrams)
                try daemon.wait(received: 4)
                #expect(try daemon.status().dropsByReason == ["ip_rpfilter": 4])
                try rig.run(.node, "ip", "link", "set", "peer1", "down")
                for mode in Mode.allCases { try rig.waitForAnswer(mode.vip, "in \(mode)") }
                #expect(try daemon.metrics().sum("shuck_routes_resyncs_total", "links") >= 1)
                try daemon.expectConservation()
            }
        }

        private static func addUplink(_ rig: Rig) throws {
            try rig.run(.node, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "peer1")
            try rig.ip(
                .node,
                """
                link set peer1 up
                link set eth1 up
                address add 192.0.3.2/24 dev eth1
                address add 2001:db8:33::2/64 dev eth1 nodad

                """)
            try eventually("the carrier of eth1") {
                try rig.run(.node, "ip", "-brief", "link", "show", "eth1").contains(" UP ")
            }
            try rig.ip(
                .node,
                """
                nexthop add id 10 via \(Rig.balancer4) dev eth0
                nexthop add id 11 via 192.0.3.1 dev eth1
                nexthop add id 60 via \(Rig.balancer6) dev eth0
                nexthop add id 61 via 2001:db8:33::1 dev eth1
                route del 0.0.0.0/0
                route del ::/0
                route add 0.0.0.0/0 nhid 11 metric 50
                route add 0.0.0.0/0 nhid 10 metric 100
                route add ::/0 nhid 61 metric 50
                route add ::/0 nhid 60 metric 100

                """)
        }
    }
}
