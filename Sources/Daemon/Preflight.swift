// What must hold on this host before anything is opened: each lack with the command that mends it.

import Forwarding
import LinuxIO
import Settings

/// Something that this host does not permit or does not have: exit code 3.
public struct HostProblem: Error, CustomStringConvertible {
    public let description: String
}

enum Preflight {
    /// - Parameter workers: how many there are; nil: none yet.
    /// - Returns: warnings, for the log and for `status`.
    static func check(_ configuration: Configuration, workers: Int? = nil) throws -> [String] {
        let missing = Host.missingCapabilities()
        guard missing.isEmpty else {
            throw HostProblem(
                description: """
                    this process lacks \(missing.joined(separator: " and ")): run as root, or \
                    setcap cap_net_admin,cap_net_raw,cap_bpf+ep on the executable, or \
                    AmbientCapabilities= in the unit
                    """)
        }
        if let double = configuration.doubleInterfaces(try NetlinkSocket().links()).first {
            throw HostProblem(description: "interfaces: \(double.text)")
        }
        try checkDescriptors(configuration, workers: workers ?? configuration.workerCPUs().count)
        // Made, tried and closed again: a refusal is known before a device exists.
        _ = try SubmissionRing(entries: 8, files: Worker.filePlaces)
        let overlays = configuration.overlayWarnings(try NetlinkSocket().links())
        if configuration.mode == .shadow { return overlays }
        return try overlays + forwarding(configuration)
    }

    /// Descriptors for all that the configuration names, so that a limit which is too small is known
    /// before some of it has been opened.
    private static func checkDescriptors(_ configuration: Configuration, workers: Int) throws {
        let (devices, interfaces) = (configuration.devices.count, configuration.interfaces.count)
        let needed = neededDescriptors(devices: devices, interfaces: interfaces, workers: workers)
        let limit = Host.descriptorLimit()
        guard needed > limit else { return }
        throw HostProblem(
            description: """
                \(devices) devices and \(interfaces) interfaces with \(workers) workers take up to \
                \(needed) open files, and this process may have \(limit): ulimit -Hn \(needed), \
                LimitNOFILE=\(needed) in the unit, or --ulimit nofile=\(needed) of a container; or \
                list fewer CPUs under workers.cpus
                """)
    }

    /// A queue of each device and a ring of each interface for each worker, a claim of each interface
    /// (programs, maps, link), and what is open in any case, the admin's connections included.
    static func neededDescriptors(devices: Int, interfaces: Int, workers: Int) -> Int {
        workers * (devices + interfaces + 8) + interfaces * 8 + 256
    }

    /// The kernel routes inner packets on to the pod, so it must forward. Not ours to switch on.
    /// What does not keep it from starting is named by the watch of the host, for as long as it is so.
    private static func forwarding(_ configuration: Configuration) throws -> [String] {
        let lacks = HostWatch.lacks(configuration, NamespaceFacts.read())
        if let lack = lacks.first(where: \.isBlocking) { throw HostProblem(description: lack.text) }
        return []
    }
}

extension Configuration {
    /// Tunnels of the kernel that share an address with ours, whose packets would be dropped.
    /// - Parameter links: this host's.
    func overlayWarnings(_ links: [Link]) -> [String] {
        // ARPHRD_TUNNEL, ARPHRD_TUNNEL6, ARPHRD_SIT: what protocols 4 and 41 are for.
        guard let device = links.first(where: { [768, 769, 776].contains($0.hardwareType) && $0.isUp })
        else { return [] }
        return tunnels.filter { $0.otherRemotes == .drop }.map { tunnel in
            """
            \(device.name) is up, so the kernel takes IP-in-IP, too, and tunnels.\(tunnel.name) \
            drops what is not from its remotes: for an overlay between nodes (Calico) set \
            otherRemotes: pass, otherwise ip link set \(device.name) down
            """
        }
    }

    /// Whether inner packets of this family are injected through the device.
    /// - Parameter isNamed: by a destination of the family, not because modes were left in.
    func carries(isIPv4: Bool, by device: Device, isNamed: Bool = false) -> Bool {
        tunnels.contains { tunnel in
            guard tunnel.modes.contains(where: { $0.innerIsIPv4 == isIPv4 }) else { return false }
            let ofFamily = tunnel.destinations.filter { $0.prefix.isIPv4 == isIPv4 }
            // None of the family: either any, or its modes are left in; both mean the first device.
            if ofFamily.isEmpty { return !isNamed && device.name == devices[0].name }
            return ofFamily.contains { ($0.device ?? devices[0].name) == device.name }
        }
    }

    /// Whether the kernel routes inner packets of this family on to a pod. It has no part in
    /// what is injected within the pod's namespace.
    func routesOn(isIPv4: Bool, isNamed: Bool = false) -> Bool {
        devices.contains {
            $0.netns == nil && carries(isIPv4: isIPv4, by: $0, isNamed: isNamed)
        }
    }
}
