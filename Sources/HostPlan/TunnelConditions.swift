// Conditions of the kernel's own tunnels: `Condition.kernelTunnels`.

import Routing
import Settings

extension Condition {
    static let kernelTunnels = [
        Condition(
            "kernel-tunnels",
            """
            Devices of the kernel's ipip, sit and ip6tnl (`tunl0`, `sit0`, `ip6tnl0` come with their \
            modules) take protocols 4 and 41 when they are up. shuck's claim drops its frames before \
            they do. Without a program as claim (`consume: socket` or `off`) the kernel delivers each \
            packet a second time. And an overlay between nodes that shares an address with a tunnel \
            needs `otherRemotes: pass`.
            """, judge: kernelTunnels)
    ]

    private static func kernelTunnels(_ examination: Examination) -> [Line] {
        let configuration = examination.configuration
        let links = examination.facts.links.filter { KernelTunnel.isOne($0) && $0.isUp }
        guard let first = links.first else {
            return [.ok("no ipip, sit or ip6tnl device of the kernel is up")]
        }
        let command = links.map { "ip link set dev \($0.name) down" }.joined(separator: " && ")
        if configuration.mode == .active, [.off, .socket].contains(configuration.consume) {
            return [
                .problem(
                    "\(first.name) is up, and consume is \(configuration.consume.rawValue)",
                    effect: "The kernel decapsulates frames that are ours, too: pods get each packet twice.",
                    command: command)
            ]
        }
        let overlays = configuration.overlays(examination.facts.links)
        if overlays.isEmpty {
            return [.ok("\(first.name) is up; other remotes' frames are left to it (otherRemotes: pass)")]
        }
        return overlays.map {
            .warning(
                $0.text,
                effect: """
                    An overlay between nodes (Calico) through \(first.name) loses its packets: set \
                    otherRemotes: pass for it. If nothing uses the device, the command takes it down.
                    """, command: command)
        }
    }
}
