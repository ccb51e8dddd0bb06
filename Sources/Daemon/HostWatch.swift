// What others change on the host under a running shuck: its devices' settings are set right again, what
// is not shuck's own is named. Decides here, acts in `HostWatch.look`; control thread only.

import HostPlan
import LinuxIO
import Routing
import Logging
import Settings

/// Something of a device that is not as shuck set it.
enum DeviceDeviation: Hashable, Sendable {
    case isDown
    case mtu(Int, instead: Int)
    case reversePath(Int)
    case noAddress(String)
    /// `forwarding` of the device alone, while the host forwards.
    case noForwarding
    /// IPv6 switched off for the device alone.
    case noIPv6

    var text: String {
        switch self {
        case .isDown: "it is down"
        case .mtu(let found, let wanted): "its mtu is \(found) instead of \(wanted)"
        case .reversePath(let found): "its rp_filter is \(found) instead of 2"
        case .noAddress(let address): "its address \(address) is gone"
        case .noForwarding: "its forwarding is 0 instead of 1"
        case .noIPv6: "its disable_ipv6 is 1 instead of 0"
        }
    }

    /// What is told apart in counting how often something was changed.
    enum Aspect: Hashable, Sendable { case state, mtu, reversePath, address, forwarding, ipv6 }

    var aspect: Aspect {
        switch self {
        case .isDown: .state
        case .mtu: .mtu
        case .reversePath: .reversePath
        case .noAddress: .address
        case .noForwarding: .forwarding
        case .noIPv6: .ipv6
        }
    }

    /// Packets are lost by it. A TUN takes packets of any size from shuck.
    var isBlocking: Bool {
        if case .mtu = self { return false }
        return true
    }
}

/// How often something of a device was set right. Three times it is done at once; what still changes it is
/// not fought with.
struct Repairs: Equatable {
    private(set) var count = 0
    private var lastNanoseconds: UInt64 = 0
    /// What was wrong when it last was set right.
    private(set) var last: DeviceDeviation?

    /// Somebody changes it again and again.
    var isContested: Bool { count > Timing.repairs }

    /// After a minute with nothing to set right, what was before is forgotten.
    mutating func sawRight(at now: UInt64) {
        if count > 0, now >= lastNanoseconds + Timing.quietNanoseconds { self = Repairs() }
    }

    func mayRepair(at now: UInt64) -> Bool {
        guard count >= Timing.repairs else { return true }
        // 1, 2, 4 … 60 seconds.
        let seconds = min(Timing.repairSecondsMax, UInt64(1) << UInt64(min(count - Timing.repairs, 6)))
        return now >= lastNanoseconds + seconds * 1_000_000_000
    }

    mutating func repaired(_ deviation: DeviceDeviation, at now: UInt64) {
        count += 1
        lastNanoseconds = now
        last = deviation
    }
}

extension Control {
    /// Sets right what others changed and shuck had set, and names what it may not.
    func watchHost() {
        guard Host.monotonicNanoseconds() >= host.dueNanoseconds else { return }
        let found = host.look(snapshot.configuration, snapshot.plumbing, log)
        guard found != snapshot.host else { return }
        snapshot.host = found
        share()
        announce()
    }
}

struct HostWatch {
    /// When to look again.
    private(set) var dueNanoseconds: UInt64 = 0
    private var repairs: [String: [DeviceDeviation.Aspect: Repairs]] = [:]
    /// What each device was last found to lack.
    private var named: [String: [Finding]] = [:]
    /// Where among the pods' devices to go on.
    private var nextPod = 0

    /// Devices in pods' namespaces that are looked at each second: each takes a thread of its own.
    private static let podsPerLook = 64

    /// Looks at once where something may have changed, and not only when the second is over.
    mutating func note(_ told: KernelNotices) {
        if told.settings || told.concernsLinks { dueNanoseconds = 0 }
    }

    // MARK: decisions

    /// What of a device is not as it was set, or is demanded of it, and is shuck's to set right.
    static func deviations(
        _ device: Configuration.Device, _ configuration: Configuration, _ facts: DeviceFacts
    ) -> [DeviceDeviation] {
        var found: [DeviceDeviation] = []
        if !facts.isUp { found.append(.isDown) }
        if facts.mtu != device.mtu { found.append(.mtu(facts.mtu, instead: device.mtu)) }
        if let filter = facts.reversePath, filter != 2 { found.append(.reversePath(filter)) }
        if !facts.hasAddress { found.append(.noAddress(device.address.text)) }
        // Where the host forwards nothing, neither does the device: that is the host's decision.
        if device.netns == nil, facts.namespace.forwardsIPv4, !facts.forwardsIPv4,
            configuration.carries(isIPv4: true, by: device)
        {
            found.append(.noForwarding)
        }
        if !facts.hasIPv6, facts.namespace.forwardsIPv6 != nil, !facts.namespace.isIPv6Off,
            // Below 1280 bytes the kernel gives a device no IPv6, and gives it back above.
            device.mtu >= 1280, configuration.carries(isIPv4: false, by: device)
        {
            found.append(.noIPv6)
        }
        return found
    }

    /// What a device lacks that its namespace decides.
    static func lacks(
        _ device: Configuration.Device, _ configuration: Configuration, _ facts: DeviceFacts
    ) -> [Finding] {
        guard !facts.hasIPv6, facts.namespace.isIPv6Off, facts.namespace.forwardsIPv6 != nil,
            configuration.carries(isIPv4: false, by: device)
        else { return [] }
        let name = "net.ipv6.conf.all.disable_ipv6"
        let command = "sysctl -w \(name)=0"
        let place = device.netns.map { " in \($0)" } ?? ""
        let enter = device.netns.map { "nsenter --net=\($0) \(command)" } ?? command
        return [
            Finding(
                what: .host, subject: device.netns.map { "\($0) \(name)" } ?? name,
                text: "\(name) is 1\(place), so the kernel drops inner IPv6 from \(device.name): \(enter)",
                severity: device.netns == nil
                    && configuration.carries(isIPv4: false, by: device, isNamed: true)
                    ? .blocking : .degraded)
        ]
    }

    /// - Parameters:
    ///   - contested: what is changed again and again, right now or not.
    ///   - left: what is still wrong.
    ///   - failure: why it could not be set right.
    static func unmended(
        _ device: Configuration.Device, contested: [DeviceDeviation], left: [DeviceDeviation],
        failure: String?
    ) -> [Finding] {
        guard !left.isEmpty || !contested.isEmpty else { return [] }
        let right = contested.filter { one in !left.contains { $0.aspect == one.aspect } }
        let what = (left + right).map(\.text).sorted().joined(separator: ", ")
        let cause =
            failure.map { "it could not be set right: \($0)" }
                ?? """
                something on this host changes it again and again, and shuck sets it right at most once \
                a minute then: look for it in /etc/sysctl.d, NetworkManager, systemd-networkd and udev's rules
                """
        return [
            Finding(
                what: .host, subject: device.name,
                text: "device \(device.name) is not as shuck set it, \(what): \(cause)",
                // A pod's device is none of the others' business.
                severity: device.netns == nil && left.contains(where: \.isBlocking) ? .blocking : .degraded)
        ]
    }

    // MARK: the look

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
        let count = min(pods.count, Self.podsPerLook)
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
        // One that is absent is told of elsewhere; so is a namespace whose name is gone.
        guard let tun = plumbing.device(device.name) else { return [] }
        var history = repairs[device.name] ?? [:]
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
            left = Self.deviations(device, configuration, facts)
            for aspect in history.keys where !left.contains(where: { $0.aspect == aspect }) {
                history[aspect]?.sawRight(at: now)
            }
            // Set together: one that must wait is set beside one that need not.
            if left.contains(where: { history[$0.aspect, default: Repairs()].mayRepair(at: now) }) {
                for one in left { history[one.aspect, default: Repairs()].repaired(one, at: now) }
                let changes = left.map(\.text).joined(separator: ", ")
                let forwards = facts.namespace.forwardsIPv4 && device.netns == nil
                try tun.configure(
                    mtu: device.mtu, address: address, in: namespace, forwards: forwards)
                if left.contains(.noIPv6) { try tun.enableIPv6(in: namespace) }
                log.warning("device \(device.name) was changed, \(changes): set right again")
                facts = try DeviceFacts.read(device.name, address: address, in: namespace) ?? facts
                left = Self.deviations(device, configuration, facts)
            }
            return Self.lacks(device, configuration, facts)
                + Self.unmended(
                    device, contested: Self.contested(history), left: left, failure: nil)
        } catch {
            return Self.unmended(
                device, contested: Self.contested(history), left: left, failure: "\(error)")
        }
    }

    private static func contested(
        _ history: [DeviceDeviation.Aspect: Repairs]
    ) -> [DeviceDeviation] {
        history.values.filter(\.isContested).compactMap(\.last)
    }
}
