// Devices inside pods' namespaces: traffic, pods that go and come, and nothing left of either.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct PodDeviceTests {
        private static let vips = Mode.allCases.map(\.vip)

        @Test(arguments: [Offloads.on, .gro], [1, 2])
        func everyModeGoesStraightIn(offloads: Offloads, workers: Int) throws {
            try Rig.with(offloads: offloads) { rig in
                // As strict as a pod may be: the client's way back leads by another interface.
                for scope in ["all", "default", "eth0"] {
                    try rig.set(.pod, "net.ipv4.conf.\(scope).rp_filter", "1")
                }
                let path = rig.path(.pod)
                let daemon = try Daemon.ready(
                    rig, Setup(workers: workers, more: [Self.device(path, "mtu: 1460")]))
                try rig.serve(.pod, "serve", "--size", "4M", "--seed", "5")
                try rig.serve(.pod, "echo")
                let digest = try rig.launch([Tools.lab, "digest", "--size", "4M", "--seed", "5"])
                let expected = try digest.wait().get().trimmingCharacters(in: .newlines)
                for mode in Mode.allCases {
                    let pushed = try rig.lab(
                        .client, "push", mode.vip, "80", "--size", "4M", "--seed", "5")
                    #expect(pushed.text("sha256") == expected, "\(mode)")
                    let fetched = try rig.lab(.client, "fetch", mode.vip, "80", "--timeout", "20")
                    #expect(fetched.text("sha256") == expected, "\(mode)")
                    let answer = try rig.lab(
                        .client, "pingpong", mode.vip, "7", "--count", "20", "--size", "1200")
                    #expect(answer["lost"] == 0, "\(mode)")
                    try rig.expectEchoes(.client, mode.vip)
                }
                try Self.expectDevice(rig, daemon, path, workers: workers)
                try daemon.expectConservation()
            }
        }

        /// An ordinary node knows nothing of the service's addresses, filters the reverse path of pods'
        /// links, and drops what connection tracking has not seen begin, as kube-proxy and policies do.
        @Test(
            "the pod's answers pass a node with strict filters, by the two rules of the documents",
            arguments: ["1", "2"])
        func answersPassTheNode(filter: String) throws {
            try Rig.with { rig in
                try rig.set(.node, "net.ipv4.conf.all.rp_filter", "0")
                try rig.set(.node, "net.ipv4.conf.cali0.rp_filter", filter)
                try rig.ip(.node, Self.vips.map { "route delete \($0)\n" }.joined())
                try rig.nft(
                    """
                    table inet node {
                        chain forward {
                            type filter hook forward priority filter
                            ct state invalid counter drop
                            ct state established,related accept
                        }
                    }

                    """)
                let daemon = try Daemon.ready(rig, Setup(more: [Self.device(rig.path(.pod))]))
                try rig.serve(.pod, "serve", "--size", "1M", "--seed", "5")
                for vip in Self.vips {
                    let fetch = [Tools.lab, "fetch", vip, "80", "--timeout", "1"]
                    #expect(try rig.attempt(.client, fetch).status != 0, "\(vip) needed no rules")
                }
                try rig.nft(
                    """
                    table inet pods {
                        chain answers {
                            type filter hook prerouting priority raw
                            iifname "cali*" ip saddr { 203.0.113.4, 203.0.113.6 } notrack
                            iifname "cali*" ip6 saddr { 2001:db8:f::4, 2001:db8:f::6 } notrack
                        }
                    }

                    """)
                if filter == "1" {
                    let services = Self.vips.filter { !$0.contains(":") }
                    try rig.ip(.node, services.map { "route add \($0)/32 dev cali0\n" }.joined())
                }
                for vip in Self.vips {
                    let fetched = try rig.lab(.client, "fetch", vip, "80", "--timeout", "20")
                    #expect(fetched["bytes"] == 1 << 20, "\(vip)")
                }
                try daemon.expectConservation()
            }
        }

        private static func device(_ path: String, _ more: String = "mtu: 1500") -> String {
            "devices: [{name: pod0, netns: \"\(path)\", \(more)}]"
        }

        private static func expectDevice(
            _ rig: Rig, _ daemon: Daemon, _ path: String, workers: Int
        ) throws {
            #expect(try !rig.hasLink(.node, "pod0"))
            let link = try rig.run(.pod, "ip", "address", "show", "pod0")
            #expect(link.contains("mtu 1460"), "\(link)")
            #expect(link.contains("inet 127.0.0.42/32 scope host"), "\(link)")
            #expect(try rig.get(.pod, "net.ipv4.conf.pod0.rp_filter") == "2")
            #expect(try rig.get(.pod, "net.ipv4.conf.eth0.rp_filter") == "1")
            let status = try daemon.status()
            #expect(status.devices.map(\.netns) == [path])
            #expect(status.devices[0].state == "up" && status.devices[0].queues == workers)
            #expect(status.packets["dropped"] == 0, "\(status.dropsByReason)")
            #expect(status.notes.isEmpty, "\(status.notes)")
            // No descriptor of a namespace, on which it would live on.
            var namespace = stat()
            #expect(stat(path, &namespace) == 0)
            for process in [status.processID, status.engineProcessID] {
                let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd")
                for number in open {
                    var file = stat()
                    // 0 unless it was closed meanwhile.
                    guard stat("/proc/\(process)/fd/\(number)", &file) == 0 else { continue }
                    #expect(
                        file.st_dev != namespace.st_dev || file.st_ino != namespace.st_ino, "\(number)")
                }
            }
        }

        /// The kernel of the node has no part in it, so need not forward.
        @Test func noForwardingIsNeeded() throws {
            try Rig.with { rig in
                try rig.set(.node, "net.ipv4.ip_forward", "0")
                try rig.set(.node, "net.ipv6.conf.all.forwarding", "0")
                let daemon = try Daemon.ready(rig, Setup(more: [Self.device(rig.path(.pod))]))
                let arrived = try Capture(rig, .pod, "pod0", "udp")
                let packets = Mode.allCases.map {
                    IPPacket.datagram($0.innerIsIPv4 ? Rig.client4 : Rig.client6, $0.vip)
                        .wrapped($0)
                }
                try rig.send(packets)
                try arrived.wait(for: 4)
                #expect(try daemon.status().notes.isEmpty)
                try daemon.expectConservation()
            }
        }

        /// Path MTU discovery towards a pod whose device is smaller than the link: the answer comes
        /// from shuck, for no kernel routes in between.
        @Test func whatIsTooBigIsAnswered() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(
                    rig,
                    Setup(more: [
                        Self.device(rig.path(.pod), "mtu: 1400"), "icmp: {ratePerSecond: 10, burst: 5}",
                    ]))
                for mode in Mode.allCases {
                    let headers = mode.innerIsIPv4 ? 28 : 48
                    func ping(_ size: Int) throws -> String {
                        try rig.attempt(
                            .client,
                            [
                                "ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s",
                                "\(size - headers)", mode.vip,
                            ]
                        ).output
                    }
                    #expect(try ping(1400).contains("1 received"), "\(mode)")
                    let refused = try ping(1401)
                    #expect(
                        refused.contains("mtu = 1400") || refused.contains("mtu=1400"),
                        "\(mode): \(refused)")
                    try rig.run(.client, "ip", "route", "flush", "cache")
                    try rig.run(.client, "ip", "-6", "route", "flush", "cache")
                }
                try daemon.wait(received: 8)
                let replied = try daemon.metrics().sum("shuck_replied_packets_total")
                #expect(replied == 4)
                try Self.expectRate(rig, daemon)
                try daemon.expectConservation()
            }
        }

        /// A storm of them is answered at the rate that is set, and costs other traffic nothing.
        private static func expectRate(_ rig: Rig, _ daemon: Daemon) throws {
            // What the ring had no room for is the kernel's to count.
            func seen() throws -> Int {
                let metrics = try daemon.metrics()
                return metrics.sum("shuck_received_packets_total")
                    + metrics.sum("shuck_ring_dropped_packets_total")
            }
            let before = try daemon.metrics().sum("shuck_replied_packets_total")
            let all = try seen() + 20_000
            let large = IPPacket.datagram(
                Rig.client4, Mode.ipip.vip, String(repeating: "x", count: 1400)
            ).wrapped(.ipip)
            let start = Date()
            try rig.send([large], repeat: 20_000)
            try eventually("all to be judged") { try seen() >= all }
            let seconds = Date().timeIntervalSince(start)
            let replied = try daemon.metrics().sum("shuck_replied_packets_total") - before
            #expect(replied >= 1 && Double(replied) <= 5 + 10 * seconds + 1)
        }

        @Test func aPodGoesAndComesBesideAnother() throws {
            try Rig.with { rig in
                let extra = ExtraPod(rig)
                defer { extra.remove() }
                try extra.make()
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig, Self.beside(extra))
                let stays = try rig.start(
                    .client,
                    [
                        Tools.lab, "pingpong", Mode.ipip.vip, "7", "--count", "60000",
                        "--interval-us", "2000",
                    ])
                for round in 1...3 {
                    try extra.expectAnswers("in round \(round)")
                    extra.remove()
                    try eventually("its absence") {
                        try daemon.status().devices[1].state == "absent"
                    }
                    // The namespace is really gone, and its end of the link with it.
                    try eventually("the end of its link") { try !rig.hasLink(.node, "extra0") }
                    let status = try daemon.status()
                    #expect(status.notes.contains { $0.contains(extra.path) }, "\(status.notes)")
                    #expect(status.notes.contains { $0.contains("ip netns add \(extra.name)") })
                    #expect(try daemon.metrics().sum("shuck_device_up", "pod1") == 0)
                    #expect(daemon.isReady)
                    let drops = status.dropsByReason["device_error", default: 0]
                    try rig.send([
                        IPPacket.datagram(Rig.client4, Mode.ipip6.vip).wrapped(.ipip6)
                    ])
                    try eventually("the drop") {
                        try daemon.status().dropsByReason["device_error", default: 0] == drops + 1
                    }
                    try extra.make()
                    try eventually("its return", 5) {
                        try daemon.status().devices[1].state == "up"
                    }
                }
                try extra.expectAnswers("at the end")
                #expect(try daemon.metrics().sum("shuck_device_up", "pod1") == 1)
                #expect(stays.isRunning, "the pods took longer than the traffic")
                stays.signal(SIGINT)
                #expect(try Answer(stays.wait().get())["lost"] == 0)
                #expect(try daemon.status().dropsByReason == ["device_error": 3])
                try daemon.expectConservation()
            }
        }

        private static func beside(_ extra: ExtraPod, _ marker: Marker? = nil) -> Setup {
            var setup = Setup(tunnels: [Setup.Tunnel(destinations: [Mode.ipip.vip])])
            // It continues the list of destinations.
            setup.tunnels[0].more = ["  - {prefix: \(Mode.ipip6.vip), device: pod1}"]
            let last = marker.map { ", {name: \(Marker.device), netns: \"\($0.path)\"}" } ?? ""
            setup.more = [
                "devices: [{name: shuck0}, {name: pod1, netns: \"\(extra.path)\"}\(last)]"
            ]
            return setup
        }

        /// A pod whose name is taken by the next while its own processes still end.
        @Test func theNamespaceOfTheNameCounts() throws {
            try Rig.with { rig in
                let extra = ExtraPod(rig)
                let marker = Marker(rig)
                defer {
                    extra.remove()
                    marker.remove()
                }
                try extra.make()
                let daemon = try Daemon.ready(rig, Self.beside(extra, marker))
                // The pod's server keeps it alive.
                try extra.unname()
                // Without its name it goes on.
                try marker.comeAndGo(daemon)
                #expect(try daemon.status().devices[1].state == "up")
                try extra.expectAnswers("without its name")
                try extra.nameAgain()
                try eventually("the device in the new one", 5) { try extra.hasLink("pod1") }
                try eventually("its mention", 5) {
                    try daemon.status().devices[1].state == "up"
                }
            }
        }

        @Test func aNamespaceMayComeLate() throws {
            try Rig.with { rig in
                let extra = ExtraPod(rig)
                let marker = Marker(rig)
                defer {
                    extra.remove()
                    marker.remove()
                }
                let daemon = try Daemon.ready(rig, Self.beside(extra, marker))
                try daemon.waitForLine(containing: "pod1 is absent", extra.path, "ip netns add")
                #expect(try daemon.status().devices.map(\.state) == ["up", "absent", "absent"])
                // Something else under that name is none.
                try "".write(toFile: extra.path, atomically: false, encoding: .utf8)
                try marker.comeAndGo(daemon)
                #expect(try daemon.status().devices[1].state == "absent")
                try FileManager.default.removeItem(atPath: extra.path)
                try extra.make()
                try eventually("the device", 5) { try daemon.status().devices[1].state == "up" }
                try extra.expectAnswers("late")
                try daemon.expectConservation()
            }
        }

        @Test func itsEndIsTheDevicesEnd() throws {
            try Rig.with { rig in
                let setup = Setup(workers: 2, more: [Self.device(rig.path(.pod))])
                let first = try Daemon.ready(rig, setup)
                #expect(try rig.hasLink(.pod, "pod0"))
                #expect(try first.stop().status == 0)
                #expect(try !rig.hasLink(.pod, "pod0"))
                let second = try Daemon.ready(rig, setup)
                second.process.signal(SIGKILL)
                try second.process.wait()
                try rig.waitForEnd(of: "pod0", .pod)
                #expect(try Daemon.ready(rig, setup).stop().status == 0)
            }
        }

        @Test func aReloadMovesAndChangesIt() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                // Of one name they would be one device: refused, and the old one stays.
                try daemon.configure(
                    Setup(more: ["devices: [{name: shuck0, netns: \"\(rig.path(.pod))\"}]"]))
                let refused = try daemon.reload()
                #expect(refused.status == 409 && refused.body.contains("shuck0"), "\(refused.body)")
                #expect(try rig.hasLink(.node, "shuck0"))
                #expect(try !rig.hasLink(.pod, "shuck0"))
                for mtu in ["1500", "1300"] {
                    try daemon.configure(
                        Setup(more: [Self.device(rig.path(.pod), "mtu: \(mtu)")]))
                    #expect(try daemon.reload().status == 200)
                    let link = try rig.run(.pod, "ip", "link", "show", "pod0")
                    #expect(link.contains("mtu \(mtu) "), "\(link)")
                }
                try daemon.configure(
                    Setup(more: [Self.device(rig.path(.pod), "mtu: 1300, address: 127.0.0.43")]))
                #expect(try daemon.reload().status == 200)
                let addresses = try rig.run(.pod, "ip", "-4", "address", "show", "pod0")
                #expect(addresses.contains("127.0.0.43/32"), "\(addresses)")
                #expect(!addresses.contains("127.0.0.42"), "\(addresses)")
                try rig.serve(.pod, "echo")
                let answer = try rig.lab(.client, "pingpong", Mode.ip6ip.vip, "7", "--count", "10")
                #expect(answer["lost"] == 0)
                // Deleted from within the pod: made again.
                try rig.run(.pod, "ip", "link", "delete", "pod0")
                try eventually("the device", 5) { try rig.hasLink(.pod, "pod0") }
                try daemon.configure(Setup())
                #expect(try daemon.reload().status == 200)
                try rig.waitForEnd(of: "pod0", .pod)
                try daemon.expectConservation()
            }
        }

        @Test func whatStandsInTheWayIsSaid() throws {
            try Rig.with { rig in
                let setup = Setup(more: [Self.device(rig.path(.pod))])
                let bounded = try Daemon(
                    rig, setup,
                    wrapper: ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"])
                let unpermitted = try bounded.process.wait(seconds: 20)
                #expect(unpermitted.status == 3)
                #expect(unpermitted.errors.contains("CAP_SYS_ADMIN"), "\(unpermitted.errors)")
                #expect(try !rig.hasLink(.pod, "pod0"))
                try rig.ip(.pod, "link add pod0 type veth peer name other0\n")
                let taken = try Daemon(rig, setup).process.wait(seconds: 20)
                #expect(taken.status == 3)
                #expect(taken.errors.contains("pod0 is already in there"), "\(taken.errors)")
                #expect(taken.errors.contains(rig.path(.pod)))
                #expect(try !rig.hasLink(.node, "pod0"))
            }
        }
    }
}

/// A second pod, which owns one of the rig's addresses.
private final class ExtraPod {
    private static let vip = Mode.ipip6.vip
    private let rig: Rig
    let name: String
    private var server: RunningCommand?

    init(_ rig: Rig) {
        self.rig = rig
        name = rig.name + "-extra"  // as `Rig.removeStale` knows it
    }

    var path: String { "/run/netns/" + name }

    private func run(_ arguments: String...) throws {
        try rig.launch(["ip"] + arguments).wait().get()
    }

    func hasLink(_ link: String) throws -> Bool {
        try rig.launch(["ip", "-n", name, "link", "show", link]).wait().status == 0
    }

    /// The namespace first: what goes into it may be there before its link is.
    func make() throws {
        try run("netns", "add", name)
        try run(
            "link", "add", "extra0", "netns", rig.name + "-node", "type", "veth", "peer", "eth0",
            "netns", name)
        try rig.ip(
            .node,
            """
            link set extra0 up
            address add 10.3.1.1/24 dev extra0
            route replace \(Self.vip) via 10.3.1.9

            """)
        for arguments in [
            ["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
            ["address", "add", "10.3.1.9/24", "dev", "eth0"],
            ["address", "add", "\(Self.vip)/32", "dev", "lo"],
            ["route", "add", "default", "via", "10.3.1.1"],
        ] { try rig.launch(["ip", "-n", name] + arguments).wait().get() }
        let server = try rig.launch(["ip", "netns", "exec", name, Tools.lab, "echo"])
        try eventually("echo to listen") { server.output.hasSuffix("\n") }
        self.server = server
    }

    func remove() {
        server?.end()
        server = nil
        _ = try? rig.launch(["ip", "netns", "delete", name]).wait()
    }

    /// Takes its name away; its processes go on.
    func unname() throws { try run("netns", "delete", name) }

    func nameAgain() throws { try run("netns", "add", name) }

    func expectAnswers(_ when: String) throws {
        // The link's carrier takes its moment, not shuck.
        try rig.waitForAnswer(Self.vip, when)
        let answer = try rig.lab(.client, "pingpong", Self.vip, "7", "--count", "10")
        #expect(answer["lost"] == 0, "\(when): \(answer)")
    }
}

/// An empty namespace whose device stands behind all others in the configuration. What becomes of
/// it shows that the daemon has looked at those since, however slow it is.
private final class Marker {
    static let device = "marker0"
    private let rig: Rig
    private let name: String

    init(_ rig: Rig) {
        self.rig = rig
        name = rig.name + "-extra-marker"  // as `Rig.removeStale` knows it
    }

    var path: String { "/run/netns/" + name }

    func remove() { _ = try? rig.launch(["ip", "netns", "delete", name]).wait() }

    /// The round that sees it come may have begun before; the one that sees it go has not.
    func comeAndGo(_ daemon: Daemon) throws {
        try rig.launch(["ip", "netns", "add", name]).wait().get()
        try wait(daemon, for: "up")
        try rig.launch(["ip", "netns", "delete", name]).wait().get()
        try wait(daemon, for: "absent")
    }

    private func wait(_ daemon: Daemon, for state: String) throws {
        try eventually("\(name) to be \(state)") {
            try daemon.status().devices.first { $0.name == Self.device }?.state == state
        }
    }
}

extension Rig {
    fileprivate func path(_ place: Place) -> String { "/run/netns/\(name)-\(place)" }
}
