// Conditions of the kernel's reverse-path filter: `Condition.reversePaths`.

import IP
import Settings

extension Condition {
    static let reversePaths = [
        Condition(
            "rp-filter",
            """
            The effective `rp_filter` of a device is the larger of `net.ipv4.conf.all.rp_filter` and the \
            device's own. Strict (1) drops every packet that shuck injects, because clients are not routed \
            back through the device. Loose (2) drops every packet on a device without an IPv4 address. \
            shuck gives its device 2 and an address. IPv6 has no such filter, and the filter of the \
            interface does not matter: shuck takes frames before the kernel applies it.
            """
        ) { examination in
            examination.hostDevices.filter { examination.configuration.carries(isIPv4: true, by: $0) }
                .map { reversePath($0, examination) }
        },
        Condition(
            "rp-filter-files",
            """
            systemd applies the files of sysctl.d(5) at a boot, and udev applies them again to each \
            device that is made. A pattern such as `net.ipv4.conf.*.rp_filter = 1` also matches \
            shuck's device.
            """, judge: laterReversePaths),
        Condition(
            "rp-filter-old",
            """
            A change of `net.ipv4.conf.default.rp_filter` reaches only interfaces that are made later. \
            Native packets on an interface with the old value are checked otherwise than those on a \
            new one.
            """, judge: oldReversePaths),
    ]

    private static func reversePath(_ device: Configuration.Device, _ examination: Examination) -> Line {
        let name = device.name
        guard let filter = examination.reversePath(name) else {
            return .ok(
                "\(name) does not exist yet; shuck makes it with rp_filter 2 and \(device.address.text)")
        }
        let fact =
            "the effective rp_filter of \(name) is \(max(filter.own, filter.all)): the larger of "
            + "\(filter.all) (all) and \(filter.own) (\(name))"
        switch max(filter.own, filter.all) {
        case 0: return .ok(fact)
        case 1:
            return .problem(
                fact, effect: "The kernel drops the IPv4 packets of all clients that shuck injects.",
                command: Examination.set("net/ipv4/conf/\(name)/rp_filter", 2))
        default:
            let addresses = examination.details.addresses[name] ?? []
            guard !addresses.contains(where: { !$0.contains(":") }) else { return .ok(fact) }
            return .problem(
                "\(fact), and \(name) has no IPv4 address",
                effect: "A loose filter drops every IPv4 packet on a device without an address.",
                command: "ip address add \(device.address.text) scope host dev \(name)")
        }
    }

    private static func laterReversePaths(_ examination: Examination) -> [Line] {
        let files = examination.details.sysctlFiles
        let all =
            files.value(of: "net/ipv4/conf/all/rp_filter")?.text
            ?? examination.details.sysctls["net/ipv4/conf/all/rp_filter"]
        let devices = examination.hostDevices.filter {
            examination.configuration.carries(isIPv4: true, by: $0)
        }
        let lines = devices.compactMap { device -> Line? in
            let path = "net/ipv4/conf/\(device.name)/rp_filter"
            guard let later = files.value(of: path) else { return nil }
            guard later.text == "1" || (later.text == "0" && all == "1") else { return nil }
            return .warning(
                "\(later.place) gives \(device.name) rp_filter \(later.text) when it is made",
                effect: "The kernel drops clients' IPv4 packets until shuck has set the filter to 2 again.",
                command: SysctlRemedy.keep(path, 2, at: later.place))
        }
        guard lines.isEmpty else { return lines }
        return [.ok("no file of sysctl.d makes the filter of shuck's devices strict")]
    }

    private static func oldReversePaths(_ examination: Examination) -> [Line] {
        guard let later = examination.reversePath("default") else { return [] }
        let lines = examination.configuration.interfaces.compactMap { name -> Line? in
            let path = "net/ipv4/conf/\(name)/rp_filter"
            guard let now = examination.reversePath(name),
                max(now.own, now.all) != max(later.own, later.all),
                examination.details.sysctlFiles.value(of: path)?.text != "\(now.own)"
            else { return nil }
            return .warning(
                "\(name) has rp_filter \(now.own), interfaces made from now on get \(later.own)",
                effect: """
                    The kernel's filter treats native packets on \(name) otherwise once the interface \
                    is made again, as at a boot. Encapsulated packets are not concerned.
                    """,
                command: Examination.set(path, later.own))
        }
        guard lines.isEmpty else { return lines }
        return [
            .ok("the interfaces have the rp_filter that new ones get (\(later.own)), or that a file sets")
        ]
    }
}
