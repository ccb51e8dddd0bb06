// A host on which nothing is wrong, and one thing after the other that breaks on it.

import IP
import Routing
import Settings

@testable import HostPlan

/// A fact that breaks a condition, and what doctor must say of it.
struct DoctorCase: Sendable {
    let condition: String
    let level: Diagnosis.Level
    /// A part of the fact.
    let fact: String
    /// The whole command; nil: there is none.
    let command: String?
    let configuration: String
    let spoil: @Sendable (inout HostFacts, inout HostDetails) -> Void

    init(
        _ condition: String, _ level: Diagnosis.Level, _ fact: String, command: String?,
        configuration: String = "",
        spoil: @escaping @Sendable (inout HostFacts, inout HostDetails) -> Void
    ) {
        self.condition = condition
        self.level = level
        self.fact = fact
        self.command = command
        self.configuration = configuration
        self.spoil = spoil
    }

    /// What doctor says of the broken host under this condition.
    func diagnoses() throws -> [Diagnosis] {
        try Doctor.diagnoses(DoctorHost.examination(configuration, spoil)).filter {
            $0.condition == condition
        }
    }
}

enum DoctorHost {
    static let kernelNames = ["all", "default", "eth0", "cali1", "shuck0"]

    static func link(_ index: Int32, _ name: String, mtu: Int = 1500) -> Link {
        var link = Link(index: index, name: name, mtu: mtu, isUp: true, hardwareType: 1)
        link.state.flags = LinkState.flagsMask & ~(1 << 17)
        return link
    }

    /// A node with an uplink, a pod's veth and shuck's device.
    static var facts: HostFacts {
        var facts = HostFacts(
            links: [link(2, "eth0"), link(3, "cali1", mtu: 1460), link(4, "shuck0")], cpus: [0, 1])
        facts.links[1].kind = "veth"
        facts.links[2].hardwareType = 65534
        return facts
    }

    static var details: HostDetails {
        var details = HostDetails()
        details.kernel = "6.12.0"
        details.sysctls["net/ipv4/ip_forward"] = "1"
        for name in kernelNames {
            details.sysctls["net/ipv4/conf/\(name)/rp_filter"] = "0"
            details.sysctls["net/ipv4/conf/\(name)/forwarding"] = "1"
            details.sysctls["net/ipv6/conf/\(name)/forwarding"] = "1"
            details.sysctls["net/ipv6/conf/\(name)/disable_ipv6"] = "0"
        }
        details.sysctls["net/ipv4/conf/shuck0/rp_filter"] = "2"
        details.ruleset = []
        details.rules = RuleEntry.kernelDefaults
        var interface = HostDetails.Interface()
        (interface.gro, interface.lro, interface.queues) = (true, false, 2)
        interface.programs = [EntranceProgram(hook: .tcx, name: EntranceProgram.claim)]
        details.interfaces["eth0"] = interface
        var device = DeviceFacts(isUp: true, mtu: 1500)
        device.reversePath = 2
        (device.forwardsIPv4, device.hasIPv6, device.hasAddress) = (true, true, true)
        details.devices["shuck0"] = device
        details.clockSource = "tsc"
        details.set("net/netfilter/nf_conntrack_count", 10)
        details.set("net/netfilter/nf_conntrack_max", 1000)
        details.addresses = ["shuck0": ["127.0.0.42/32"]]
        return details
    }

    static func examination(
        _ more: String = "", _ spoil: (inout HostFacts, inout HostDetails) -> Void = { _, _ in }
    ) throws -> Examination {
        let text = """
            interfaces: [eth0]
            tunnels:
              - name: lvs
                local: [192.0.2.2, "2001:db8::2"]
                remotes: [192.0.2.64/28, "2001:db8:0:1::/64"]
                destinations: [{prefix: 203.0.113.10/32}, {prefix: "2001:db8:f::10/128"}]

            """
        let files = [("c.yaml", text)] + (more.isEmpty ? [] : [("more.yaml", more)])
        guard let configuration = Configuration.load(files: files).configuration else {
            throw BadConfiguration(text: more)
        }
        var (facts, details) = (facts, details)
        spoil(&facts, &details)
        facts.details = details
        return Examination(configuration, facts, dropIns: "/etc/shuck/shuck.d")
    }

    struct BadConfiguration: Error { let text: String }
}

extension HostDetails {
    mutating func set(_ path: String, _ value: Int) { sysctls[path] = "\(value)" }

    mutating func addFile(_ path: String, _ text: String) {
        sysctlFiles.append(SysctlFile(path: path, text: text) { $0.hasPrefix("net/") })
    }
}

// MARK: - Cases

extension DoctorCase {
    static let all =
        ofInterfaces + ofEntrances + ofSizes + ofTunnels + ofDevices + ofReversePaths + ofForwarding
        + ofFilters
        + ofRules + ofPods + ofEngine

    private static let ofInterfaces = [
        DoctorCase("interfaces", .problem, "there is no interface eth0", command: nil) { facts, _ in
            facts.links.removeFirst()
        },
        DoctorCase("interfaces", .problem, "eth0 is down", command: "ip link set dev eth0 up") { facts, _ in
            facts.links[0].isUp = false
        },
        DoctorCase("interfaces", .problem, "eth0 has no carrier", command: nil) { facts, _ in
            facts.links[0].state.flags = 1
        },
        DoctorCase(
            "interfaces", .problem, "eth0 and bond0 see the same frames", command: nil,
            configuration: "interfaces: [eth0, bond0]"
        ) { facts, _ in
            facts.links.append(DoctorHost.link(5, "bond0"))
            facts.links[0].master = 5
        },
    ]

    private static let ofReversePaths = [
        DoctorCase(
            "rp-filter", .problem,
            "the effective rp_filter of shuck0 is 1: the larger of 1 (all) and 0 (shuck0)",
            command: "sysctl -w net.ipv4.conf.shuck0.rp_filter=2"
        ) { _, details in
            details.set("net/ipv4/conf/shuck0/rp_filter", 0)
            details.set("net/ipv4/conf/all/rp_filter", 1)
        },
        DoctorCase(
            "rp-filter", .problem,
            "the effective rp_filter of shuck0 is 1: the larger of 0 (all) and 1 (shuck0)",
            command: "sysctl -w net.ipv4.conf.shuck0.rp_filter=2"
        ) { _, details in details.set("net/ipv4/conf/shuck0/rp_filter", 1) },
        DoctorCase(
            "rp-filter", .problem, "shuck0 has no IPv4 address",
            command: "ip address add 127.0.0.42/32 scope host dev shuck0"
        ) { _, details in details.addresses = ["shuck0": ["fe80::1/64"]] },
        DoctorCase(
            "rp-filter-files", .warning, "/usr/lib/sysctl.d/50-default.conf:2 gives shuck0 rp_filter 1",
            command: "echo 'net.ipv4.conf.shuck0.rp_filter = 2' >>/etc/sysctl.d/99-zz-shuck.conf"
        ) { _, details in
            details.addFile("/usr/lib/sysctl.d/50-default.conf", "# all\nnet.ipv4.conf.*.rp_filter = 1\n")
        },
        DoctorCase(
            "rp-filter-old", .warning, "eth0 has rp_filter 2, interfaces made from now on get 1",
            command: "sysctl -w net.ipv4.conf.eth0.rp_filter=1"
        ) { _, details in
            details.set("net/ipv4/conf/default/rp_filter", 1)
            details.set("net/ipv4/conf/eth0/rp_filter", 2)
        },
    ]

    private static let ofForwarding = [
        DoctorCase(
            "forwarding", .problem, "net.ipv4.ip_forward is 0", command: "sysctl -w net.ipv4.ip_forward=1"
        ) { facts, _ in facts.settings.forwardsIPv4 = false },
        DoctorCase(
            "forwarding", .problem, "net.ipv6.conf.all.forwarding is 0",
            command: "sysctl -w net.ipv6.conf.all.forwarding=1"
        ) { facts, _ in facts.settings.forwardsIPv6 = false },
        DoctorCase(
            "forwarding", .problem, "net.ipv4.conf.shuck0.forwarding is 0",
            command: "sysctl -w net.ipv4.conf.shuck0.forwarding=1"
        ) { _, details in details.set("net/ipv4/conf/shuck0/forwarding", 0) },
        DoctorCase(
            "forwarding", .warning, "net.ipv4.conf.cali1.forwarding is 0",
            command: "sysctl -w net.ipv4.conf.cali1.forwarding=1"
        ) { _, details in details.set("net/ipv4/conf/cali1/forwarding", 0) },
        DoctorCase(
            "ipv6-off", .problem, "net.ipv6.conf.shuck0.disable_ipv6 is 1",
            command: "sysctl -w net.ipv6.conf.shuck0.disable_ipv6=0"
        ) { _, details in details.set("net/ipv6/conf/shuck0/disable_ipv6", 1) },
        DoctorCase(
            "ipv6-off", .warning, "net.ipv6.conf.default.disable_ipv6 is 1",
            command: "sysctl -w net.ipv6.conf.default.disable_ipv6=0"
        ) { _, details in details.set("net/ipv6/conf/default/disable_ipv6", 1) },
        DoctorCase(
            "sysctl-files", .warning, "/etc/sysctl.d/99-hardening.conf:1 sets net.ipv4.ip_forward to 0",
            command: "echo 'net.ipv4.ip_forward = 1' >>/etc/sysctl.d/99-zz-shuck.conf"
        ) { _, details in
            details.addFile("/etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward=0")
        },
        DoctorCase(
            "sysctl-files", .warning,
            "/etc/sysctl.d/99-zz-zz.conf:1 sets net.ipv6.conf.all.disable_ipv6 to 1",
            command: "echo 'net.ipv6.conf.all.disable_ipv6 = 0' >>/etc/sysctl.d/99-zz-zz.conf"
        ) { _, details in
            details.addFile("/etc/sysctl.d/99-zz-zz.conf", "net/ipv6/conf/all/disable_ipv6 = 1")
        },
    ]

    private static let ofEntrances = [
        DoctorCase(
            "programs", .warning, "ddos at xdp of eth0 sees frames before shuck",
            command: "ip link set dev eth0 xdp off"
        ) { _, details in
            details.interfaces["eth0"]?.programs.insert(EntranceProgram(hook: .xdp, name: "ddos"), at: 0)
        },
        DoctorCase(
            "programs", .warning, "cil_from_netdev stands before shuck's claim at tcx of eth0",
            command: "systemctl restart shuck"
        ) { _, details in
            let program = EntranceProgram(hook: .tcx, name: "cil_from_netdev")
            details.interfaces["eth0"]?.programs.insert(program, at: 0)
        },
        DoctorCase(
            "offloads", .warning, "generic-receive-offload of eth0 is off", command: "ethtool -K eth0 gro on"
        ) { _, details in details.interfaces["eth0"]?.gro = false },
        DoctorCase(
            "offloads", .warning, "large-receive-offload of eth0 is on", command: "ethtool -K eth0 lro off"
        ) { _, details in details.interfaces["eth0"]?.lro = true },
        DoctorCase(
            "queues", .warning, "eth0 has 1 receive queue for 2 workers",
            command: "for q in /sys/class/net/eth0/queues/rx-*; do echo 00000003 >$q/rps_cpus; done"
        ) { _, details in details.interfaces["eth0"]?.queues = 1 },
    ]

    private static let ofDevices = [
        DoctorCase(
            "tun", .problem, "/dev/net/tun is missing",
            command: "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200"
        ) { _, details in (details.hasTun, details.hasTunDriver) = (false, true) },
        DoctorCase(
            "tun", .problem, "/dev/net/tun is missing, and so is its driver", command: "modprobe tun"
        ) { _, details in (details.hasTun, details.hasTunDriver) = (false, false) },
        DoctorCase("devices", .problem, "shuck0: it is down", command: "ip link set dev shuck0 up") {
            _, details in
            details.devices["shuck0"]?.isUp = false
        },
        DoctorCase(
            "devices", .warning, "shuck0: its mtu is 1400 instead of 1500",
            command: "ip link set dev shuck0 mtu 1500"
        ) { _, details in details.devices["shuck0"]?.mtu = 1400 },
        DoctorCase(
            "devices", .problem, "pod1 in /run/netns/pod: its rp_filter is 1 instead of 2",
            command: "nsenter --net=/run/netns/pod sysctl -w net.ipv4.conf.pod1.rp_filter=2",
            configuration: pod
        ) { _, details in
            var device = details.devices["shuck0"]
            device?.reversePath = 1
            details.devices["/run/netns/pod pod1"] = device
        },
        DoctorCase(
            "devices", .warning, "there is no network namespace /run/netns/pod: no such file", command: nil,
            configuration: pod
        ) { facts, _ in facts.namespaces["/run/netns/pod"] = .absent("no such file") },
    ]

    /// The first device stands in a pod.
    private static let pod = """
        devices: [{name: pod1, netns: /run/netns/pod}]
        tunnels: [{name: lvs, destinations: [{prefix: 203.0.113.11/32, device: pod1}]}]

        """

    private static let ofRules = [
        DoctorCase(
            "rules", .warning, "rule \"100: from all iif eth0 lookup 5\" holds for eth0, not for shuck0",
            command: "ip rule add priority 100 from all iif shuck0 lookup 5"
        ) { _, details in
            var rule = RuleEntry(isIPv4: true, priority: 100, action: .lookup(5))
            rule.inputInterface = "eth0"
            details.rules?.append(rule)
        },
        DoctorCase(
            "rules", .warning, "rule \"90: from all to 198.51.100.0/24 prohibit\" refuses packets",
            command: "ip rule delete priority 90 from all to 198.51.100.0/24 prohibit"
        ) { _, details in
            var rule = RuleEntry(isIPv4: true, priority: 90, action: .refuse(.prohibit))
            rule.to = Prefix("198.51.100.0/24")
            details.rules?.append(rule)
        },
        DoctorCase(
            "rules", .problem,
            "rule \"90: from all to 203.0.113.0/24 prohibit\" refuses all packets to 203.0.113.10/32",
            command: "ip rule delete priority 90 from all to 203.0.113.0/24 prohibit"
        ) { _, details in
            var rule = RuleEntry(isIPv4: true, priority: 90, action: .refuse(.prohibit))
            rule.to = Prefix("203.0.113.0/24")
            details.rules?.append(rule)
        },
        DoctorCase(
            "rule-cost", .warning,
            "rules of IPv6 ask for more than addresses: \"80: from all ipproto 6 lookup main\"",
            command: "ip -6 rule delete priority 80 from all ipproto 6 lookup main"
        ) { _, details in
            var rule = RuleEntry(isIPv4: false, priority: 80, action: .lookup(RouteEntry.tableMain))
            rule.protocolNumber = 6
            details.rules?.append(rule)
        },
    ]

    private static let ofPods = [
        DoctorCase(
            "pod-route", .problem, "rp_filter of cali1 is strict, and 203.0.113.11/32 is routed elsewhere",
            command: "ip route add 203.0.113.11/32 dev cali1", configuration: pod
        ) { _, details in
            details.set("net/ipv4/conf/cali1/rp_filter", 1)
            details.podRoutes = [PodRoute(destination: "203.0.113.0/24", links: ["eth0"], isLocal: false)]
        },
        DoctorCase(
            "pod-route", .problem, "rp_filter of cali1, cali2 is strict, and 203.0.113.11/32", command: nil,
            configuration: pod
        ) { facts, details in
            facts.links.append(DoctorHost.link(5, "cali2", mtu: 1460))
            facts.links[3].kind = "veth"
            details.set("net/ipv4/conf/all/rp_filter", 1)
            details.set("net/ipv4/conf/cali2/rp_filter", 0)
        },
        DoctorCase(
            "pod-route", .problem, "203.0.113.11/32 is an address of this node", command: nil,
            configuration: pod
        ) { _, details in
            details.podRoutes = [PodRoute(destination: "203.0.113.11/32", links: ["lo"], isLocal: true)]
        },
        DoctorCase(
            "pod-invalid", .problem, "rule \"ct state invalid drop\" drops answers from 203.0.113.11",
            command: "nft add table inet shuck_pods && nft add chain inet shuck_pods answers "
                + "'{ type filter hook prerouting priority raw; }' && nft add rule inet shuck_pods answers "
                + "iifname cali1 ip saddr 203.0.113.11 notrack", configuration: pod
        ) { _, details in
            details.ruleset = [
                "table inet t { # handle 1", "\tchain c { # handle 1",
                "\t\ttype filter hook forward priority filter; policy accept;",
                "\t\tct state invalid drop # handle 3", "\t}", "}",
            ]
        },
    ]

    private static let ofEngine = [
        DoctorCase(
            "io-uring", .warning, "kernel.io_uring_disabled is 2",
            command: "sysctl -w kernel.io_uring_disabled=0"
        ) { _, details in
            details.ringRefusal = "Operation not permitted"
            details.set("kernel/io_uring_disabled", 2)
        },
        DoctorCase("io-uring", .warning, "io_uring is refused: Operation not permitted", command: nil) {
            _, details in
            details.ringRefusal = "Operation not permitted"
            details.isFiltered = true
        },
        DoctorCase(
            "locked-memory", .warning, "RLIMIT_MEMLOCK is 65536 bytes", command: "ulimit -l unlimited"
        ) { _, details in
            details.kernel = "5.10.0-28-amd64"
            details.lockedBytesMax = 65536
        },
        DoctorCase(
            "placement", .warning, "interrupt 30 (eth0-rx) of eth0 is handled on CPU 1",
            command: "for i in 30; do echo 2-3 >/proc/irq/$i/smp_affinity_list; done"
        ) { facts, _ in
            var interrupt = InterfaceHardware.Interrupt(30)
            (interrupt.name, interrupt.count, interrupt.cpus) = ("eth0-rx", 9, [1])
            var hardware = InterfaceHardware("eth0")
            hardware.interrupts = [interrupt]
            var placement = PlacementFacts()
            placement.interfaces = [hardware]
            placement.nodes = [0: [0, 1, 2, 3]]
            facts.placement = placement
        },
        DoctorCase(
            "clock", .warning, "the clock source is hpet",
            command: "echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource"
        ) { _, details in
            details.clockSource = "hpet"
            details.clockSources = ["hpet", "tsc"]
        },
        DoctorCase(
            "conntrack", .problem, "connection tracking holds 1000 of at most 1000 entries",
            command: "sysctl -w net.netfilter.nf_conntrack_max=2000"
        ) { _, details in details.set("net/netfilter/nf_conntrack_count", 1000) },
        DoctorCase(
            "conntrack", .warning, "connection tracking holds 800 of at most 1000 entries",
            command: "sysctl -w net.netfilter.nf_conntrack_max=2000"
        ) { _, details in details.set("net/netfilter/nf_conntrack_count", 800) },
    ]

    private static let ofSizes = [
        DoctorCase(
            "sizes", .warning,
            "pods behind cali1 have MTU 1500: with an outer header of 40 bytes that makes 1540",
            command: "mkdir -p /etc/shuck/shuck.d && echo 'mss: {replies: nft}' "
                + ">/etc/shuck/shuck.d/50-mss-replies.yaml && shuck reload"
        ) { facts, _ in facts.links[1].mtu = 1500 },
        DoctorCase(
            "sizes", .warning, "mss.ipv4 is 1460, and the MTU 1500 of eth0 leaves 1420",
            command: "mkdir -p /etc/shuck/shuck.d && echo 'mss: {ipv4: auto}' "
                + ">/etc/shuck/shuck.d/50-mss-ipv4.yaml && shuck reload",
            configuration: "mss: {ipv4: 1460}"
        ) { _, _ in },
        DoctorCase(
            "sizes", .warning, "eth0 has MTU 1300, which leaves 1260 bytes for inner IPv6",
            command: "ip link set dev eth0 mtu 1320"
        ) { facts, _ in facts.links[0].mtu = 1300 },
        DoctorCase(
            "slots", .warning,
            "MTU 9000 of eth0 makes slots of 16384 bytes; a ring of 16 MiB holds 1024 frames",
            command: "ip link set dev eth0 mtu 1500"
        ) { facts, _ in facts.links[0].mtu = 9000 },
    ]

    private static let ofTunnels = [
        DoctorCase(
            "kernel-tunnels", .warning, "tunl0 is up, so the kernel takes IP-in-IP, too",
            command: "ip link set dev tunl0 down"
        ) { facts, _ in facts.addTunnel() },
        DoctorCase(
            "kernel-tunnels", .problem, "tunl0 is up, and consume is socket",
            command: "ip link set dev tunl0 down", configuration: "consume: socket"
        ) { facts, _ in facts.addTunnel() },
    ]

    /// Rules in a table `inet t` with one chain.
    private static func filter(
        _ condition: String, _ level: Diagnosis.Level, hook: String = "forward", policy: String = "accept",
        rule: String, fact: String, command: String, configuration: String = ""
    ) -> DoctorCase {
        DoctorCase(condition, level, fact, command: command, configuration: configuration) { _, details in
            details.ruleset = [
                "table inet t { # handle 1", "\tchain c { # handle 1",
                "\t\ttype filter hook \(hook) priority filter; policy \(policy);",
                "\t\tct state established accept # handle 3", "\t\t\(rule)", "\t}", "}",
            ]
        }
    }

    private static let ofFilters = [
        filter(
            "filter-policy", .warning, policy: "drop", rule: "iifname \"docker0\" accept # handle 4",
            fact: "chain inet t c drops what no rule accepts, and no rule of it names shuck0",
            command: "nft insert rule inet t c iifname shuck0 accept"),
        DoctorCase(
            "filter-policy", .problem, "chain ip filter FORWARD drops everything",
            command: "nft insert rule ip filter FORWARD iifname shuck0 accept && "
                + "nft insert rule ip filter FORWARD ct state established,related accept"
        ) { _, details in
            details.ruleset = [
                "table ip filter { # handle 1", "\tchain FORWARD { # handle 1",
                "\t\ttype filter hook forward priority filter; policy drop;",
                "\t\tcounter packets 0 bytes 0 # handle 2", "\t}", "}",
            ]
        },
        filter(
            "filter-reverse-path", .problem, hook: "prerouting",
            rule: "fib saddr . mark . iif oif missing drop # handle 4",
            fact: "rule \"fib saddr . mark . iif oif missing",
            command: "nft insert rule inet t c handle 4 iifname shuck0 return"),
        filter(
            "filter-invalid", .warning, rule: "ct state invalid drop # handle 4",
            fact: "rule \"ct state invalid drop\" of chain inet t c",
            command: "nft insert rule inet t c handle 4 iifname shuck0 ct state invalid accept"),
        filter(
            "filter-invalid", .warning, rule: "ct state vmap { related : accept, invalid : drop } # handle 4",
            fact: "rule \"ct state vmap {",
            command: "nft insert rule inet t c handle 4 iifname shuck0 ct state invalid accept"),
        filter(
            "filter-icmp", .problem, rule: "meta l4proto { 1, 58 } drop comment \"no accept\" # handle 4",
            fact: "rule \"meta l4proto { 1, 58 } drop",
            command: "nft insert rule inet t c handle 4 icmp type destination-unreachable accept"),
        filter(
            "filter-icmp", .problem, hook: "output",
            rule: "icmpv6 type { packet-too-big, echo-request } reject # handle 4",
            fact: "rule \"icmpv6 type { packet-too-big, echo-request } reject\" of chain inet t c",
            command: "nft insert rule inet t c handle 4 icmpv6 type packet-too-big accept"),
        filter(
            "filter-mark", .warning, hook: "prerouting", rule: "meta mark set ct mark # handle 4",
            fact: "rule \"meta mark set ct mark\"",
            command: "nft insert rule inet t c handle 4 iifname shuck0 return"),
        filter(
            "filter-tunnel", .warning, hook: "input", rule: "ip protocol 4 drop # handle 4",
            fact: "rule \"ip protocol 4 drop\"", command: "nft delete rule inet t c handle 4",
            configuration: "tunnels: [{name: lvs, otherRemotes: pass}]"),
    ]
}

extension HostFacts {
    /// The device that the kernel's ipip brings.
    fileprivate mutating func addTunnel() {
        links.append(Link(index: 9, name: "tunl0", mtu: 1480, isUp: true, hardwareType: 768))
    }
}
