// Reads what `shuck doctor` asks of this host beside what a plan needs.

import Glibc
import HostPlan
import IP
import LinuxIO
import Routing
import Settings

extension Examination {
    /// Looks at this host. Changes nothing, and asks no daemon.
    /// - Parameter configuration: nil where there is none; an assumed one takes its place.
    public static func ofThisHost(_ configuration: Configuration?, dropIns: String) -> Examination {
        var gaps: [HostDetails.Gap] = []
        let links = gaps.take(Doctor.conditions.map(\.name)) { () throws(SystemError) in
            try NetlinkSocket().links()
        }
        let configuration = configuration ?? .assumed(links ?? [])
        var facts = HostFacts.read(for: configuration, cpus: [], links: links ?? [])
        do {
            facts.cpus = try configuration.workerCPUs()
            facts.addPlacement(of: configuration)
        } catch {
            gaps.append(HostDetails.Gap(conditions: ["placement"], text: "\(error)"))
        }
        facts.details = HostDetails.read(for: configuration, links: links ?? [], gaps: gaps)
        return Examination(configuration, facts, dropIns: dropIns)
    }
}

extension Configuration {
    /// What a host without a configuration is judged for.
    fileprivate static func assumed(_ links: [Link]) -> Configuration {
        let routes = (try? NetlinkSocket().routes()) ?? []
        let leading = Set(
            routes.filter { $0.entry.prefix.length == 0 && $0.entry.table == RouteEntry.tableMain }
                .flatMap(\.entry.interfaces))
        let ethernet = links.filter { $0.hardwareType == 1 && $0.isUp }
        let chosen = ethernet.filter { leading.contains($0.index) }
        let names = (chosen.isEmpty ? Array(ethernet.prefix(1)) : chosen).map(\.name)
        return .assumed(interfaces: names.isEmpty ? ["eth0"] : names)
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
        details.readRuleset()
        return details
    }

    private mutating func readRuleset() {
        let needing = Doctor.conditions.map(\.name).filter { $0.hasPrefix("filter-") }
        ruleset = gaps.take(needing) { () throws(SystemError) in try FilterContext.ruleset() }
        // The older iptables has tables of its own, which no list of nftables shows.
        let old = ["ip", "ip6"].flatMap { family in
            (Host.read("/proc/net/\(family)_tables_names") ?? "").split(separator: "\n").map {
                "\(family) \($0)"
            }
        }
        if !old.isEmpty {
            gaps.append(
                Gap(
                    conditions: ["filter-policy", "filter-icmp", "filter-invalid"],
                    text: "rules of iptables-legacy are not judged (\(old.joined(separator: ", ")))",
                    command: "iptables-legacy-save; ip6tables-legacy-save"))
        }
    }

    private mutating func readSysctls(_ links: [Link]) {
        var paths = ["net/ipv4/ip_forward"]
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
                    command: error.isPermission ? "sudo shuck doctor" : nil))
            return nil
        }
    }
}
