// Conditions of the kernel's forwarding: `Condition.forwarding`.

import Routing
import Settings

extension Condition {
    static let forwarding = [
        Condition(
            "forwarding",
            """
            The kernel routes injected packets on to the pods, for IPv4 with `net.ipv4.ip_forward`, for IPv6 \
            with `net.ipv6.conf.all.forwarding`. For IPv4 each device has a switch of its own: that of \
            shuck's device counts for clients' packets, that of a pod's for its answers.
            """, judge: forwards),
        Condition(
            "ipv6-off",
            """
            `disable_ipv6` switches IPv6 off on one device or on all. The kernel drops inner IPv6 on \
            such a device.
            """, judge: hasIPv6),
        Condition(
            "sysctl-files",
            """
            Files of sysctl.d(5) may switch forwarding off, or IPv6, at the next boot.
            """, judge: laterSettings),
    ]

    private static func forwards(_ examination: Examination) -> [Line] {
        let configuration = examination.configuration
        let lacks = configuration.lacks(examination.facts.settings).map { finding in
            Line(
                level: finding.severity >= .blocking ? .problem : .warning,
                fact: finding.subject.hasPrefix("net.") ? "\(finding.subject) is 0" : finding.text,
                effect: "The kernel drops injected packets of this family instead of routing them on.",
                command: finding.subject.hasPrefix("net.") ? "sysctl -w \(finding.subject)=1" : nil)
        }
        guard examination.facts.settings.forwardsIPv4 else { return lacks }
        let devices = examination.hostDevices.filter { configuration.carries(isIPv4: true, by: $0) }
        let links =
            lacks
            + devices.compactMap { device -> Line? in
                let path = "net/ipv4/conf/\(device.name)/forwarding"
                guard examination.number(path) == 0 else { return nil }
                return .problem(
                    "\(Examination.name(path)) is 0",
                    effect: "The kernel drops the IPv4 packets that shuck injects.",
                    command: Examination.set(path, 1))
            } + examination.facts.links.compactMap { notForwarding($0, examination) }
        guard links.isEmpty else { return links }
        let six = examination.facts.settings.forwardsIPv6 == true ? " and net.ipv6.conf.all.forwarding" : ""
        return [.ok("net.ipv4.ip_forward\(six) is 1, also on each device")]
    }

    /// A device that pods may stand behind.
    private static func notForwarding(_ link: Link, _ examination: Examination) -> Line? {
        let path = "net/ipv4/conf/\(link.name)/forwarding"
        let others =
            ["lo"] + examination.configuration.interfaces + examination.configuration.devices.map(\.name)
        guard examination.number(path) == 0, link.isUp, !others.contains(link.name) else { return nil }
        return .warning(
            "\(Examination.name(path)) is 0",
            effect: "The kernel drops the IPv4 answers of a pod behind \(link.name).",
            command: Examination.set(path, 1))
    }

    private static func hasIPv6(_ examination: Examination) -> [Line] {
        let configuration = examination.configuration
        guard examination.facts.settings.forwardsIPv6 != nil else {
            return [.ok("the kernel has no IPv6")]
        }
        let devices = examination.hostDevices.filter { configuration.carries(isIPv4: false, by: $0) }
        guard !devices.isEmpty else { return [.ok("the configuration forwards no inner IPv6")] }
        let isNamed = configuration.routesOn(isIPv4: false, isNamed: true)
        let lines = (["all"] + devices.map(\.name) + ["default"]).compactMap { name -> Line? in
            let path = "net/ipv6/conf/\(name)/disable_ipv6"
            guard examination.number(path) == 1 else { return nil }
            // shuck switches it on for its own device, whatever the default is.
            if name == "default" {
                return .warning(
                    "\(Examination.name(path)) is 1",
                    effect: "Interfaces and pods' devices that are made from now on have no IPv6.",
                    command: Examination.set(path, 0))
            }
            return Line(
                level: isNamed ? .problem : .warning, fact: "\(Examination.name(path)) is 1",
                effect: "The kernel drops the IPv6 packets that shuck injects.",
                command: Examination.set(path, 0))
        }
        return lines.isEmpty ? [.ok("IPv6 is on for \(devices.map(\.name).joined(separator: ", "))")] : lines
    }

    private static func laterSettings(_ examination: Examination) -> [Line] {
        let configuration = examination.configuration
        var wanted: [(path: String, value: Int, what: String)] = []
        if configuration.routesOn(isIPv4: true) {
            wanted = ["net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"].map { ($0, 1, "IPv4") }
        }
        if configuration.routesOn(isIPv4: false) {
            wanted.append(("net/ipv6/conf/all/forwarding", 1, "IPv6"))
            wanted.append(("net/ipv6/conf/all/disable_ipv6", 0, "IPv6"))
        }
        let lines = wanted.compactMap { path, value, family -> Line? in
            guard let later = examination.details.sysctlFiles.value(of: path), later.text != "\(value)",
                Int(later.text) != nil
            else { return nil }
            return .warning(
                "\(later.place) sets \(Examination.name(path)) to \(later.text)",
                effect:
                    "From the next boot on the kernel drops the inner \(family) packets that shuck injects.",
                command: SysctlRemedy.keep(path, value, at: later.place))
        }
        return lines.isEmpty ? [.ok("no file of sysctl.d switches forwarding or IPv6 off")] : lines
    }
}
