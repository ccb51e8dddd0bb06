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

        /// Everything that shuck sets of its device, broken one after the other.
        @Test func aDeviceIsSetRightAgain() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                // What systemd-sysctl writes to each new device, where a distribution asks for it.
                try rig.set(.node, "net.ipv4.conf.all.rp_filter", "1")
                let daemon = try Daemon.ready(rig)
                for (change, isRight) in Self.changes("shuck0") {
                    // Not so often that it is taken for somebody who insists.
                    let next = daemon.repairs + 1
                    try rig.run(.node, "sh", "-c", change)
                    try eventually("\(change) to be set right") {
                        try rig.attempt(.node, ["sh", "-c", isRight]).status == 0
                            && daemon.repairs >= next
                    }
                    for mode in Mode.allCases { try rig.waitForAnswer(mode.vip, "after \(change)") }
                }
                try eventually("no degradation") {
                    try daemon.isReady && daemon.metrics().sum("shuck_degraded", "host") == 0
                }
                try daemon.expectConservation()
            }
        }

        /// A change, and what holds once it is set right.
        private static func changes(_ device: String) -> [(String, String)] {
            let four = "net.ipv4.conf.\(device)"
            let off = "net.ipv6.conf.\(device).disable_ipv6"
            return [
                ("sysctl -qw \(four).rp_filter=1", "[ $(sysctl -n \(four).rp_filter) = 2 ]"),
                ("ip addr flush dev \(device)", "ip addr show \(device) | grep -q 127.0.0.42/32"),
                ("ip link set \(device) mtu 1000", "ip link show \(device) | grep -q 'mtu 1500'"),
                ("sysctl -qw \(off)=1", "[ $(sysctl -n \(off)) = 0 ]"),
                ("ip link set \(device) down", "ip link show \(device) | grep -q ,UP"),
                ("sysctl -qw \(four).forwarding=0", "[ $(sysctl -n \(four).forwarding) = 1 ]"),
            ]
        }

        /// What is the host's to decide: named everywhere with what to type, for as long as it is so.
        @Test(arguments: [
            ("net.ipv4.ip_forward", "0", "1"), ("net.ipv6.conf.all.forwarding", "0", "1"),
            ("net.ipv6.conf.all.disable_ipv6", "1", "0"),
        ])
        func aSysctlOfTheHostIsNamed(name: String, bad: String, good: String) throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.set(.node, name, bad)
                try eventually("its mention") { !daemon.isReady }
                let ready = AdminClient.ask(daemon.socket, "GET", "/readyz")
                #expect(ready?.status == 503)
                #expect(ready?.body.contains("sysctl -w \(name)=\(good)") == true, "\(ready?.body ?? "")")
                #expect(try daemon.status().notes.contains { $0.contains("\(name) is \(bad)") })
                #expect(try daemon.metrics().sum("shuck_degraded", "host") == 1)
                try daemon.waitForLine(containing: "\(name) is \(bad)")
                // It is not shuck's to change.
                #expect(try rig.get(.node, name) == bad)
                try rig.set(.node, name, good)
                try daemon.waitUntilReady()
                #expect(try daemon.metrics().sum("shuck_degraded", "host") == 0)
                // IPv6 comes back with routes, which are read again.
                try eventually("nothing to note") { try daemon.status().notes == [] }
                try daemon.waitForLine(containing: "no longer degraded: host \(name)")
            }
        }

        /// Somebody who insists is not fought with.
        @Test func whatIsChangedAgainAndAgainIsNamed() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let setting = "net.ipv4.conf.shuck0.rp_filter"
                _ = try rig.start(
                    .node,
                    [
                        "sh", "-c",
                        """
                        while sleep 0.02; do
                            [ $(sysctl -n \(setting)) = 1 ] || sysctl -qw \(setting)=1
                        done
                        """,
                    ])
                try eventually("its mention") {
                    try !daemon.isReady
                        && daemon.status().notes.contains {
                            $0.contains("its rp_filter is 1 instead of 2: something on this host")
                        }
                }
                #expect(try daemon.metrics().sum("shuck_degraded", "host") == 1)
                // Three at once, and then after 1, 2, 4 … seconds.
                try eventually("three repairs") { daemon.repairs >= 3 }
                let repairs = daemon.repairs
                #expect(repairs <= 6, "\(repairs)")
            }
        }

        /// Through its namespace, of which nothing stays open.
        @Test func aPodsDeviceIsSetRightAgain() throws {
            try Rig.with { rig in
                let path = "/run/netns/\(rig.name)-pod"
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(
                    rig, Setup(more: ["devices: [{name: pod0, netns: \(path)}]"]))
                // Forwarding is none of a pod's.
                for (change, isRight) in Self.changes("pod0").dropLast() {
                    let next = daemon.repairs + 1
                    try rig.run(.pod, "sh", "-c", change)
                    try eventually("\(change) to be set right", 5) {
                        try rig.attempt(.pod, ["sh", "-c", isRight]).status == 0
                            && daemon.repairs >= next
                    }
                }
                for mode in Mode.allCases { try rig.waitForAnswer(mode.vip, "in \(mode)") }
                try rig.set(.pod, "net.ipv6.conf.all.disable_ipv6", "1")
                let command = "nsenter --net=\(path) sysctl -w net.ipv6.conf.all.disable_ipv6=0"
                try eventually("its mention", 5) {
                    try daemon.status().notes.contains { $0.contains(command) }
                }
                // The other pods' traffic goes on.
                #expect(daemon.isReady)
                #expect(try daemon.metrics().sum("shuck_degraded", "host") == 1)
                try rig.set(.pod, "net.ipv6.conf.all.disable_ipv6", "0")
                try eventually("its end", 5) { try daemon.status().notes == [] }
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

extension Daemon {
    /// How often it told that it set a device right.
    fileprivate var repairs: Int { process.errors.components(separatedBy: "set right again").count - 1 }
}
