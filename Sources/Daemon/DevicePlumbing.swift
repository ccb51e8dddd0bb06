// The TUN devices of a configuration: in this namespace, or in pods' that come and go.

import Forwarding
import LinuxIO
import Settings

extension Plumbing {
    /// Why a device is not there.
    struct Absence {
        let reason: String
        /// When to try again; an attempt that failed is not repeated at once.
        let notBeforeNanoseconds: UInt64
    }

    /// Opens and configures the devices that the receiver does not have as asked.
    /// - Parameter isFollowing: what fails in a pod's namespace makes that device absent, and
    ///   the rest goes on. Else only a namespace that is not there does.
    func reconcileDevices(
        of configuration: Configuration, links: [Link], workers: Int, isFollowing: Bool,
        into next: inout Plumbing
    ) throws(SystemError) {
        for device in configuration.devices {
            next.settings[device.name] = device
            guard let path = device.netns else {
                next.devices[device.name] = try opened(device, links, workers: workers)
                continue
            }
            if let kept = keptElsewhere(device, path, workers: workers) {
                next.devices[device.name] = kept
                continue
            }
            // Held until the device is in it and set up, no longer.
            let namespace: NetworkNamespace
            do throws(SystemError) {
                namespace = try NetworkNamespace(path)
            } catch {
                next.absences[device.name] = Absence(
                    reason: "\(error)", notBeforeNanoseconds: 0)
                continue
            }
            do throws(SystemError) {
                next.devices[device.name] = try moved(device, namespace, workers: workers)
            } catch {
                guard isFollowing else { throw error }
                next.absences[device.name] = Absence(
                    reason: "\(error)",
                    notBeforeNanoseconds: Host.monotonicNanoseconds() + 1_000_000_000)
            }
        }
    }

    private func opened(
        _ device: Configuration.Device, _ links: [Link], workers: Int
    ) throws(SystemError) -> TunDevice {
        let tun: TunDevice
        // One that was deleted under us answers EBADFD for ever: made anew.
        if let old = devices[device.name], old.queues.count == workers, old.namespace == nil,
            links.contains(where: { $0.index == old.index && $0.name == old.name })
        {
            tun = old
            if settings[device.name] == device { return tun }
        } else {
            tun = try TunDevice(name: device.name, queues: workers)
        }
        try tun.configure(mtu: device.mtu, address: device.hostAddress)
        return tun
    }

    /// The device that stands in the namespace already, set up as asked.
    private func keptElsewhere(
        _ device: Configuration.Device, _ path: String, workers: Int
    ) -> TunDevice? {
        guard let old = devices[device.name], settings[device.name] == device,
            old.queues.count == workers, !isStale(old, path)
        else { return nil }
        return old
    }

    /// Whether the device is gone, or another namespace stands at its path. One whose path alone
    /// is gone serves processes that outlive it.
    private func isStale(_ tun: TunDevice, _ path: String) -> Bool {
        guard tun.isAlive else { return true }
        guard let found = NetworkNamespace.identity(at: path) else { return false }
        return found != tun.namespace
    }

    private func moved(
        _ device: Configuration.Device, _ namespace: NetworkNamespace, workers: Int
    ) throws(SystemError) -> TunDevice {
        let tun: TunDevice
        // The same device with other settings.
        if let old = devices[device.name], old.isAlive, old.namespace == namespace.identity,
            old.queues.count == workers
        {
            tun = old
        } else {
            tun = try TunDevice(name: device.name, queues: workers, namespace: namespace)
        }
        try tun.configure(mtu: device.mtu, address: device.hostAddress, in: namespace)
        return tun
    }

    // MARK: Following

    /// Whether a device in a pod's namespace could be had and is not, or is had and gone.
    func hasStaleDevice(_ configuration: Configuration) -> Bool {
        configuration.devices.contains { device in
            guard let path = device.netns else { return false }
            if let tun = devices[device.name] { return isStale(tun, path) }
            guard let absence = absences[device.name],
                Host.monotonicNanoseconds() >= absence.notBeforeNanoseconds
            else { return false }
            return NetworkNamespace.identity(at: path) != nil
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
