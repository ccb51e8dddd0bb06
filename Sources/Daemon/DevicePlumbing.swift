// The TUN devices of a configuration: in this namespace, or in pods' that come and go.

import Forwarding
import LinuxIO
import Settings

extension Plumbing {
    /// Opens the devices that the receiver does not have as asked. One that stays keeps its settings:
    /// see `changeDevices`.
    func reconcileDevices(
        of configuration: Configuration, links: [Link], workers: Int, _ occasion: Occasion,
        into next: inout Plumbing
    ) throws(SystemError) {
        for device in configuration.devices {
            let name = device.name
            next.settings[name] = device
            guard let path = device.netns else {
                let index = links.first { $0.name == name }?.index ?? 0
                if let kept = keptHere(name, index, workers: workers) {
                    next.devices[name] = kept
                    continue
                }
                try attempt(.device(name), index: index, occasion, into: &next) {
                    (next) throws(SystemError) in
                    let tun = try TunDevice(name: name, queues: workers)
                    try tun.configure(mtu: device.mtu, address: device.hostAddress)
                    next.devices[name] = tun
                }
                continue
            }
            if let kept = keptElsewhere(name, path, workers: workers) {
                next.devices[name] = kept
                continue
            }
            // Held until the device is in it and set up, no longer.
            let namespace: NetworkNamespace
            do throws(SystemError) {
                namespace = try NetworkNamespace(path)
            } catch {
                next.absences[.device(name)] = Absence(awaiting: error)
                continue
            }
            try attempt(.device(name), occasion, into: &next) { (next) throws(SystemError) in
                let tun = try TunDevice(name: name, queues: workers, namespace: namespace)
                try tun.configure(mtu: device.mtu, address: device.hostAddress, in: namespace)
                next.devices[name] = tun
            }
        }
    }

    /// The device of this namespace that is there already. One that was deleted under us answers
    /// EBADFD for ever.
    private func keptHere(_ name: String, _ index: Int32, workers: Int) -> TunDevice? {
        guard let old = devices[name], old.queues.count == workers, old.namespace == nil,
            old.index == index
        else { return nil }
        return old
    }

    /// The device that stands in the namespace already.
    private func keptElsewhere(_ name: String, _ path: String, workers: Int) -> TunDevice? {
        guard let old = devices[name], old.queues.count == workers, old.namespace != nil,
            settings[name]?.netns == path, !isStale(old, path)
        else { return nil }
        return old
    }

    /// Gives devices that stay their new settings: a last step before a switch, for it changes what
    /// the old plumbing has, too. On failure all have the old ones.
    func changeDevices(unlike old: Plumbing) throws(SystemError) {
        var changed: [String] = []
        for (name, device) in settings {
            guard let tun = devices[name], tun === old.devices[name], let before = old.settings[name],
                before != device
            else { continue }
            do throws(SystemError) {
                changed.append(name)
                try Self.set(tun, device, instead: before)
            } catch {
                for name in changed {
                    guard let tun = devices[name], let device = settings[name],
                        let before = old.settings[name]
                    else { continue }
                    try? Self.set(tun, before, instead: device)
                }
                throw error
            }
        }
    }

    private static func set(
        _ tun: TunDevice, _ device: Configuration.Device, instead before: Configuration.Device
    ) throws(SystemError) {
        let namespace: NetworkNamespace? =
            if let path = device.netns { try NetworkNamespace(path) } else { nil }
        try tun.configure(mtu: device.mtu, address: device.hostAddress, in: namespace)
        if before.address != device.address {
            try tun.remove(address: before.hostAddress, in: namespace)
        }
    }

    /// Whether the device is gone, or another namespace stands at its path. One whose path alone
    /// is gone serves processes that outlive it.
    private func isStale(_ tun: TunDevice, _ path: String) -> Bool {
        guard tun.isAlive else { return true }
        guard let found = NetworkNamespace.identity(at: path) else { return false }
        return found != tun.namespace
    }

    // MARK: Following

    /// Whether something absent is to be tried again, or a device in a pod's namespace has gone.
    /// - Parameter looksAtNamespaces: whether to look for those that came or were made again, of which
    ///   nobody tells.
    func isDue(_ configuration: Configuration, looksAtNamespaces: Bool) -> Bool {
        if let next = nextAttemptNanoseconds, Host.monotonicNanoseconds() >= next { return true }
        return looksAtNamespaces
            && configuration.devices.contains { device in
                guard let path = device.netns else { return false }
                if let tun = devices[device.name] { return isStale(tun, path) }
                return absences[.device(device.name)]?.isAwaited ?? false
                    && NetworkNamespace.identity(at: path) != nil
            }
    }

    /// A queue of each device in a pod's namespace: it reports an error when the device goes.
    var queuesElsewhere: [Int32] {
        devices.values.filter { $0.namespace != nil }.map { $0.queues[0].number }
    }
}

extension Configuration {
    /// Directories that hold the paths of devices' namespaces.
    var namespaceDirectories: Set<String> {
        Set(
            devices.compactMap { device in
                device.netns.map { path in
                    let parent = path.split(separator: "/").dropLast().joined(separator: "/")
                    return "/" + parent
                }
            })
    }
}

extension Configuration.Device {
    fileprivate var hostAddress: (bytes: [UInt8], length: Int) {
        (address.address.bytes, address.length)
    }
}
