// Conditions of shuck's own devices: `Condition.devices`.

import Routing
import Settings

extension Condition {
    static let devices = [
        Condition(
            "tun",
            """
            shuck makes its devices through `/dev/net/tun`. A container needs that file as a device.
            """
        ) { examination in
            guard examination.details.hasTun == false else { return [.ok("/dev/net/tun is there")] }
            let isMissing = examination.details.hasTunDriver == false
            return [
                .problem(
                    "/dev/net/tun is missing" + (isMissing ? ", and so is its driver" : ""),
                    effect: "shuck does not start. A container gets it by --device /dev/net/tun.",
                    command: isMissing
                        ? "modprobe tun" : "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200")
            ]
        },
        Condition(
            "devices",
            """
            shuck makes its TUN devices, sets them up, and restores what others change of them. Doctor \
            looks at devices that exist: is each up, with the MTU of the configuration? In a pod's \
            namespace it also looks at the filter, the address and IPv6; for this namespace those have \
            conditions of their own.
            """
        ) { examination in
            let lines = examination.configuration.devices.flatMap { device in
                absent(device, examination) + deviations(device, examination)
            }
            guard lines.isEmpty else { return lines }
            let names = examination.details.devices.keys.sorted()
            return [
                .ok(names.isEmpty ? "shuck's devices do not exist yet" : "\(list(names)): as shuck sets them")
            ]
        },
    ]

    private static func list(_ names: [String]) -> String { names.joined(separator: ", ") }

    private static func absent(_ device: Configuration.Device, _ examination: Examination) -> [Line] {
        guard let path = device.netns, case .absent(let why)? = examination.facts.namespaces[path] else {
            return []
        }
        return [
            .warning(
                "there is no network namespace \(path): \(why)",
                effect: "shuck waits for it; packets for \(device.name) are dropped until then.")
        ]
    }

    private static func deviations(_ device: Configuration.Device, _ examination: Examination) -> [Line] {
        guard let facts = examination.details.devices[HostDetails.key(device)] else { return [] }
        let configuration = examination.configuration
        let place = device.netns.map { " in \($0)" } ?? ""
        let found = configuration.deviations(of: device, facts).filter {
            device.netns != nil || $0.aspect == .state || $0.aspect == .mtu
        }
        let lines = found.map { deviation in
            Line(
                level: deviation.isBlocking ? .problem : .warning,
                fact: "\(device.name)\(place): \(deviation.text)",
                effect: deviation.isBlocking
                    ? "The kernel drops what shuck injects through it."
                    : "The kernel's own packets through it have another size than the configuration says.",
                command: (device.netns.map { "nsenter --net=\($0) " } ?? "")
                    + command(deviation.aspect, device))
        }
        guard device.netns != nil, let lack = configuration.lack(of: device, facts) else { return lines }
        return lines + [
            .problem(
                lack.text, effect: "Inner IPv6 reaches no process of the pod.", command: lack.remedy)
        ]
    }

    private static func command(
        _ aspect: DeviceDeviation.Aspect, _ device: Configuration.Device
    ) -> String {
        let name = device.name
        return switch aspect {
        case .state: "ip link set dev \(name) up"
        case .mtu: "ip link set dev \(name) mtu \(device.mtu)"
        case .reversePath: Examination.set("net/ipv4/conf/\(name)/rp_filter", 2)
        case .address: "ip address add \(device.address.text) scope host dev \(name)"
        case .forwarding: Examination.set("net/ipv4/conf/\(name)/forwarding", 1)
        case .ipv6: Examination.set("net/ipv6/conf/\(name)/disable_ipv6", 0)
        }
    }
}
