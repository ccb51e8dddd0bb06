// Reads what `shuck doctor` asks of this host beside what a plan needs.

import Glibc
import HostPlan
import IP
import LinuxIO
import Routing
import Settings

extension Examination {
    public static let privileged = "sudo shuck doctor"

    /// Looks at this host. Changes nothing, and asks no daemon.
    /// - Parameters:
    ///   - configuration: nil where there is none; an assumed one takes its place.
    ///   - again: the command that reads what needs privileges.
    ///   - note: takes what was assumed of the interfaces without knowing.
    public static func ofThisHost(
        _ configuration: Configuration?, dropIns: String, again: String = privileged,
        note: (String) -> Void = { _ in }
    ) -> Examination {
        var gaps: [HostDetails.Gap] = []
        let links = gaps.take(Doctor.conditions.map(\.name)) { () throws(SystemError) in
            try NetlinkSocket().links()
        }
        let configuration = configuration ?? .assumed(links ?? [], note)
        var facts = HostFacts.read(for: configuration, cpus: [], links: links ?? [])
        do {
            facts.cpus = try configuration.workerCPUs()
            facts.addPlacement(of: configuration)
        } catch {
            gaps.append(HostDetails.Gap(conditions: ["placement"], text: "\(error)"))
        }
        var details = HostDetails.read(for: configuration, links: links ?? [], gaps: gaps)
        for index in details.gaps.indices where details.gaps[index].command == privileged {
            details.gaps[index].command = again
        }
        facts.details = details
        return Examination(configuration, facts, dropIns: dropIns)
    }
}

extension Configuration {
    /// What a host without a configuration is judged for.
    fileprivate static func assumed(_ links: [Link], _ note: (String) -> Void) -> Configuration {
        let routes = (try? NetlinkSocket().routes()) ?? []
        let leading = Set(
            routes.filter { $0.entry.prefix.length == 0 && $0.entry.table == RouteEntry.tableMain }
                .flatMap(\.entry.interfaces))
        let ethernet = links.filter { $0.hardwareType == 1 && $0.isUp }
        let chosen = ethernet.filter { leading.contains($0.index) }
        guard chosen.isEmpty else { return .assumed(interfaces: chosen.map(\.name)) }
        let name = ethernet.first?.name ?? "eth0"
        note("no default route leaves by an Ethernet interface that is up, so \(name) is assumed")
        return .assumed(interfaces: [name])
    }
}

extension HostDetails {
    fileprivate static func read(
        for configuration: Configuration, links: [Link], gaps: [Gap]
    ) -> HostDetails {
        var details = HostDetails()
        details.gaps = gaps
        details.kernel = Host.sysctl("kernel.osrelease") ?? ""
        details.readSysctls(links)
        details.sysctlFiles = SysctlFile.readAll()
        details.readAddresses(
            links.filter { link in configuration.devices.contains { $0.name == link.name } })
        details.readRuleset(hasPodDevices: !configuration.podServices.isEmpty)
        details.rules = details.gaps.take(["rules", "rule-cost"]) { () throws(SystemError) in
            try NetlinkSocket().rules()
        }
        for name in configuration.interfaces {
            guard let link = links.first(where: { $0.name == name }) else { continue }
            details.readInterface(link)
        }
        for device in configuration.devices { details.readDevice(device) }
        details.readPodRoutes(configuration.podServices, links)
        details.readEngine()
        return details
    }

    private mutating func readInterface(_ link: Link) {
        var interface = Interface()
        interface.gro = Entrance.hasGRO(link.name)
        interface.lro = Entrance.hasLRO(link.name)
        interface.queues = InterfaceHardware.read(link.name).receiveQueues
        let folder = "/sys/class/net/\(link.name)/queues"
        interface.steers = Host.entries(folder).contains { queue in
            Host.read("\(folder)/\(queue)/rps_cpus")?.contains { $0 != "0" && $0 != "," } ?? false
        }
        let found = gaps.take(["programs"]) { () throws(SystemError) in
            try EntranceProgram.read(index: link.index)
        }
        interface.programs = found ?? []
        interfaces[link.name] = interface
    }

    private mutating func readDevice(_ device: Configuration.Device) {
        // An absent namespace is a fact of its own.
        if let path = device.netns, NetworkNamespace.identity(at: path) == nil { return }
        let found = gaps.take(["devices"]) { () throws(SystemError) in
            let namespace = try device.netns.map { path throws(SystemError) in try NetworkNamespace(path) }
            return try DeviceFacts.read(device.name, address: device.address, in: namespace)
        }
        devices[HostDetails.key(device)] = found ?? nil
    }

    private mutating func readPodRoutes(_ services: [Prefix], _ links: [Link]) {
        guard !services.isEmpty else { return }
        let names = Dictionary(links.map { ($0.index, $0.name) }, uniquingKeysWith: { first, _ in first })
        let found = gaps.take(["pod-route"]) { () throws(SystemError) in
            // A host may have a million routes: few of them are kept.
            var found: [RouteEntry] = []
            try NetlinkSocket().routes(begin: { found = [] }) { route in
                let entry = route.entry
                let isAsked = entry.table == RouteEntry.tableMain || entry.table == RouteEntry.tableLocal
                guard isAsked, entry.prefix.length > 0, services.contains(where: entry.prefix.covers) else {
                    return
                }
                found.append(entry)
            }
            return found
        }
        podRoutes = (found ?? []).map { entry in
            PodRoute(
                destination: entry.prefix.text, links: entry.interfaces.compactMap { names[$0] },
                isLocal: entry.kind == .local)
        }
    }

    private mutating func readEngine() {
        ringRefusal = SubmissionRing.refusal()
        isFiltered = Host.read("/proc/self/status")?.contains("\nSeccomp:\t2") ?? false
        lockedBytesMax = Host.lockedBytesLimit()
        let folder = "/sys/devices/system/clocksource/clocksource0"
        hasTun = Host.status(of: "/dev/net/tun") != nil
        hasTunDriver = Host.read("/proc/misc").map { $0.hasSuffix(" tun") || $0.contains(" tun\n") }
        clockSource = Host.read(folder + "/current_clocksource")
        let sources = Host.read(folder + "/available_clocksource") ?? ""
        clockSources = sources.split(separator: " ").map(String.init)
    }

    private mutating func readRuleset(hasPodDevices: Bool) {
        let needing = Doctor.conditions.map(\.name).filter {
            $0.hasPrefix("filter-") || hasPodDevices && $0 == "pod-invalid"
        }
        ruleset = gaps.take(needing) { () throws(SystemError) in try FilterContext.ruleset() }
        let needingAll = ["filter-policy", "filter-icmp", "filter-invalid"]
        // The older iptables has tables of its own, which no list of nftables shows.
        let old = ["ip", "ip6"].flatMap { family in
            (Host.read("/proc/net/\(family)_tables_names") ?? "").split(separator: "\n").map {
                "\(family) \($0)"
            }
        }
        if !old.isEmpty {
            let text = """
                rules of iptables-legacy are not judged (\(old.joined(separator: ", "))): look at \
                iptables-legacy-save and ip6tables-legacy-save
                """
            gaps.append(Gap(conditions: needingAll, text: text))
        }
        // nft(8) built without xtables does not translate them.
        let opaque = (ruleset ?? []).count { $0.contains("xt match") || $0.contains("xt target") }
        if opaque > 0 {
            let text = """
                \(opaque) rules have matches of iptables that nft does not show: look at iptables-save and \
                ip6tables-save
                """
            gaps.append(Gap(conditions: needingAll, text: text))
        }
    }

    private mutating func readSysctls(_ links: [Link]) {
        var paths = [
            "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max",
            "kernel/io_uring_disabled",
        ]
        for name in ["all", "default"] + links.map(\.name) {
            paths += ["rp_filter", "forwarding"].map { "net/ipv4/conf/\(name)/\($0)" }
            paths += ["forwarding", "disable_ipv6"].map { "net/ipv6/conf/\(name)/\($0)" }
        }
        for path in paths { sysctls[path] = Host.read("/proc/sys/" + path) }
        guard sysctls["net/ipv4/conf/all/rp_filter"] == nil else { return }
        gaps.append(
            Gap(
                conditions: ["rp-filter", "rp-filter-old", "forwarding", "ipv6-off"],
                text: "/proc/sys/net cannot be read", command: "mount -t proc proc /proc"))
    }

    private mutating func readAddresses(_ links: [Link]) {
        let needing = ["rp-filter"]
        for link in links {
            let found = gaps.take(needing) { () throws(SystemError) in
                try NetlinkSocket().addresses(of: link.index, family: AF_INET)
            }
            addresses[link.name] = found?.compactMap { address in
                Address(bytes: address.bytes).map { "\($0.text)/\(address.length)" }
            }
        }
    }
}

extension EntranceProgram {
    fileprivate static func read(index: Int32) throws(SystemError) -> [EntranceProgram] {
        let modes: [UInt8: Hook] = [1: .xdp, 2: .xdpgeneric, 3: .xdpoffload]
        let early = try Entrance.xdp(index: index).map {
            EntranceProgram(hook: modes[$0.mode] ?? .xdp, name: $0.name)
        }
        return (early.map { [$0] } ?? [])
            + (try Entrance.tcx(index: index)).map { EntranceProgram(hook: .tcx, name: $0) }
            + (try Entrance.filters(index: index)).map { EntranceProgram(hook: .clsact, name: $0) }
    }
}

extension SysctlFile {
    /// The directories of sysctl.d(5), the first of precedence first.
    private static let folders = [
        "/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d",
    ]

    fileprivate static func readAll() -> [SysctlFile] {
        order(folders.map { ($0, Host.entries($0)) }).compactMap { path in
            Host.read(path).map { text in SysctlFile(path: path, text: text) { $0.hasPrefix("net/") } }
        }
    }
}

extension [HostDetails.Gap] {
    /// Runs a read; a failure becomes a gap.
    /// - Parameter conditions: those that need what is read.
    mutating func take<T>(_ conditions: [String], _ read: () throws(SystemError) -> T) -> T? {
        do throws(SystemError) {
            return try read()
        } catch {
            append(
                HostDetails.Gap(
                    conditions: conditions, text: "\(error)",
                    command: error.isPermission ? Examination.privileged : nil))
            return nil
        }
    }
}
