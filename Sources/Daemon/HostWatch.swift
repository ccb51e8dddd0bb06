// Looks at the devices and at the host while shuck runs, and sets right what is shuck's own. What is wrong
// and how often it is set right is decided in HostPlan. Control thread only.

import HostPlan
import LinuxIO
import Logging
import Routing
import Settings

struct HostWatch {
    /// When to look again.
    private(set) var dueNanoseconds: UInt64 = 0
    private var repairs: [String: DeviceRepairs] = [:]
    /// What each device was last found to lack.
    private var named: [String: [Finding]] = [:]
    /// Where among the pods' devices to go on.
    private var nextPod = 0

    /// Looks at once where something may have changed, and not only when the second is over.
    mutating func note(_ told: KernelNotices) {
        if told.settings || told.concernsLinks { dueNanoseconds = 0 }
    }

    /// Looks at everything that start demanded or set, and sets right what is shuck's own.
    /// - Returns: what falls short.
    mutating func look(
        _ configuration: Configuration, _ plumbing: Plumbing, _ log: Logger
    ) -> [Finding] {
        let now = Host.monotonicNanoseconds()
        dueNanoseconds = now + Timing.hostNanoseconds
        // A shadow injects nothing.
        guard configuration.mode == .active else {
            named = [:]
            return []
        }
        let here = configuration.devices.filter { $0.netns == nil }
        let pods = configuration.devices.filter { $0.netns != nil }
        let count = min(pods.count, Timing.podsPerLook)
        let chosen = (0..<count).map { pods[(nextPod + $0) % pods.count] }
        nextPod = pods.isEmpty ? 0 : (nextPod + count) % pods.count
        for device in here + chosen {
            named[device.name] = look(at: device, configuration, plumbing, log, now)
        }
        return configuration.lacks(NamespaceFacts.read())
            + configuration.devices.flatMap { named[$0.name] ?? [] }
    }

    private mutating func look(
        at device: Configuration.Device, _ configuration: Configuration, _ plumbing: Plumbing,
        _ log: Logger, _ now: UInt64
    ) -> [Finding] {
        // Absent devices, and namespaces whose name is gone, have findings of their own.
        guard let tun = plumbing.device(device.name) else { return [] }
        var history = repairs[device.name] ?? DeviceRepairs()
        defer { repairs[device.name] = history }
        var left: [DeviceDeviation] = []
        do throws(SystemError) {
            var namespace: NetworkNamespace?
            if let path = device.netns {
                guard let found = try? NetworkNamespace(path), found.identity == tun.namespace else {
                    return []
                }
                namespace = found
            }
            let address = device.address
            guard var facts = try DeviceFacts.read(device.name, address: address, in: namespace)
            else { return [] }
            left = configuration.deviations(of: device, facts)
            if history.permit(left, at: now) {
                let forwards = facts.namespace.forwardsIPv4 && device.netns == nil
                let changes = left.map(\.text).joined(separator: ", ")
                try tun.configure(
                    mtu: device.mtu, address: address, in: namespace, forwards: forwards)
                if left.contains(where: { $0.aspect == .ipv6 }) { try tun.enableIPv6(in: namespace) }
                log.warning("device \(device.name) was changed, \(changes): set right again")
                facts = try DeviceFacts.read(device.name, address: address, in: namespace) ?? facts
                left = configuration.deviations(of: device, facts)
            }
            let found = [configuration.lack(of: device, facts), history.finding(device, left: left)]
            return found.compactMap(\.self)
        } catch {
            return [history.finding(device, left: left, failure: "\(error)")].compactMap(\.self)
        }
    }
}
