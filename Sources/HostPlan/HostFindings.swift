// What a configuration demands of a host, and what would surprise an operator, each with its remedy.

import Routing
import Settings

extension Configuration {
    /// Everything that an operator should know of this host before this configuration runs on it, refusals
    /// first.
    public func findings(_ facts: HostFacts) -> [Finding] {
        let doubles = doubleInterfaces(facts.links).map {
            Finding(
                what: .interface, subject: $0.name, text: "interfaces: \($0.text)", severity: .refusal)
        }
        let placement = facts.placement.flatMap { $0.hasHardware ? $0 : nil }
        let all =
            (facts.permissions.map(lacks) ?? []) + doubles + lacks(facts.settings)
            + overlays(facts.links) + (placement?.findings(workers: facts.cpus) ?? [])
        return all.filter { $0.severity == .refusal } + all.filter { $0.severity != .refusal }
    }

    /// Missing capabilities, and too few open files.
    private func lacks(_ permissions: HostFacts.Permissions) -> [Finding] {
        let missing = permissions.missingCapabilities
        let (devices, interfaces, workers) = (devices.count, interfaces.count, permissions.workers)
        let needed = Self.neededDescriptors(devices: devices, interfaces: interfaces, workers: workers)
        let capabilities = Finding(
            what: .host, subject: "capabilities",
            text: "this process lacks \(missing.joined(separator: " and "))",
            remedy: """
                run as root, or setcap cap_net_admin,cap_net_raw,cap_bpf+ep on the executable, or \
                AmbientCapabilities= in the unit
                """, severity: .refusal)
        let descriptors = Finding(
            what: .host, subject: "open files",
            text: """
                \(devices) devices and \(interfaces) interfaces with \(workers) workers take up to \
                \(needed) open files, and this process may have \(permissions.descriptorLimit)
                """,
            remedy: """
                ulimit -Hn \(needed), LimitNOFILE=\(needed) in the unit, or --ulimit \
                nofile=\(needed) of a container; or list fewer CPUs under workers.cpus
                """, severity: .refusal)
        return (missing.isEmpty ? [] : [capabilities])
            + (needed > permissions.descriptorLimit ? [descriptors] : [])
    }

    /// A queue of each device and a ring of each interface for each worker, a claim of each interface
    /// (programs, maps, link), and what is open in any case, the admin's connections included.
    public static func neededDescriptors(devices: Int, interfaces: Int, workers: Int) -> Int {
        workers * (devices + interfaces + 8) + interfaces * 8 + 256
    }

    /// Settings that the host must have for all devices. They belong to the host, so shuck never writes them.
    public func lacks(_ host: NamespaceFacts) -> [Finding] {
        // A shadow injects nothing.
        guard mode == .active else { return [] }
        var lacks: [Finding] = []
        if routesOn(isIPv4: true), !host.forwardsIPv4 {
            lacks.append(
                Finding(
                    what: .host, subject: "net.ipv4.ip_forward",
                    text: "net.ipv4.ip_forward is 0, so the kernel drops what shuck injects",
                    remedy: "sysctl -w net.ipv4.ip_forward=1", severity: .refusal))
        }
        guard routesOn(isIPv4: false) else { return lacks }
        if host.forwardsIPv6 == nil {
            lacks.append(
                Finding(
                    what: .host, subject: "IPv6",
                    text: "IPv6 is disabled on this host; ip6ip and ip6ip6 packets will be dropped",
                    severity: .degraded))
        } else if host.forwardsIPv6 == false {
            lacks.append(
                Finding(
                    what: .host, subject: "net.ipv6.conf.all.forwarding",
                    text: "net.ipv6.conf.all.forwarding is 0, so the kernel drops inner IPv6",
                    remedy: """
                        sysctl -w net.ipv6.conf.all.forwarding=1, or leave ip6ip and ip6ip6 out of modes
                        """,
                    // Nobody who lists IPv6 destinations wants to run without them.
                    severity: routesOn(isIPv4: false, isNamed: true) ? .refusal : .degraded))
        }
        return lacks
    }

    /// Tunnels of the kernel that share an address with ours, whose packets would be dropped.
    public func overlays(_ links: [Link]) -> [Finding] {
        guard let device = links.first(where: { KernelTunnel.isOne($0) && $0.isUp })
        else { return [] }
        return tunnels.filter { $0.otherRemotes == .drop }.map { tunnel in
            Finding(
                what: .host, subject: "\(device.name) \(tunnel.name)",
                text: """
                    \(device.name) is up, so the kernel takes IP-in-IP, too, and tunnels.\(tunnel.name) \
                    drops what is not from its remotes
                    """,
                remedy: """
                    for an overlay between nodes (Calico) set otherRemotes: pass, otherwise \
                    ip link set \(device.name) down
                    """, severity: .advice)
        }
    }

    /// Whether inner packets of this family are injected through the device.
    /// - Parameter isNamed: by a destination of the family, not because any is taken.
    public func carries(isIPv4: Bool, by device: Device, isNamed: Bool = false) -> Bool {
        tunnels.contains { tunnel in
            guard tunnel.modes.contains(where: { $0.innerIsIPv4 == isIPv4 }) else { return false }
            let ofFamily = tunnel.destinations.filter { $0.prefix.isIPv4 == isIPv4 }
            // Any destination: by the first device.
            if tunnel.destinations.isEmpty { return !isNamed && device.name == devices[0].name }
            return ofFamily.contains { ($0.device ?? devices[0].name) == device.name }
        }
    }

    /// Whether the kernel routes inner packets of this family on to a pod. It has no part in
    /// what is injected within the pod's namespace.
    public func routesOn(isIPv4: Bool, isNamed: Bool = false) -> Bool {
        devices.contains {
            $0.netns == nil && carries(isIPv4: isIPv4, by: $0, isNamed: isNamed)
        }
    }
}
