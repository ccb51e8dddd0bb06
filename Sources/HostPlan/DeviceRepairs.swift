// What others change of a running device: what of it shuck sets right, how often, and what status says.

import Routing
import Settings

/// How often each aspect of one device was set right. Three times it is done at once; what still changes it
/// is not fought with, as two owners of one setting would do for ever.
public struct DeviceRepairs: Sendable, Equatable {
    /// Repairs that follow at once; later ones are 1, 2, 4 … 60 s apart.
    static let atOnce = 3
    static let secondsMax: UInt64 = 60
    /// Time in ns with nothing to set right, after which the count starts again.
    static let quietNanoseconds: UInt64 = 60_000_000_000

    private struct Record: Sendable, Equatable {
        var count = 0
        var lastNanoseconds: UInt64 = 0
        /// What was wrong when it last was set right.
        var last: DeviceDeviation

        func mayRepair(at now: UInt64) -> Bool {
            guard count >= DeviceRepairs.atOnce else { return true }
            let seconds = min(secondsMax, UInt64(1) << UInt64(min(count - DeviceRepairs.atOnce, 6)))
            return now >= lastNanoseconds + seconds * 1_000_000_000
        }
    }

    private var records: [DeviceDeviation.Aspect: Record] = [:]

    public init() {}

    /// Decides whether what was found is set right now, all of it: what must wait is set beside what need
    /// not. Counts it if so.
    public mutating func permit(_ found: [DeviceDeviation], at now: UInt64) -> Bool {
        records = records.filter { aspect, record in
            found.contains { $0.aspect == aspect } || now < record.lastNanoseconds + Self.quietNanoseconds
        }
        guard found.contains(where: { records[$0.aspect]?.mayRepair(at: now) ?? true }) else { return false }
        for one in found {
            let count = (records[one.aspect]?.count ?? 0) + 1
            records[one.aspect] = Record(count: count, lastNanoseconds: now, last: one)
        }
        return true
    }

    /// What is still wrong, or is changed again and again, right now or not.
    /// - Parameters:
    ///   - left: what is still wrong.
    ///   - failure: why it could not be set right.
    public func finding(
        _ device: Configuration.Device, left: [DeviceDeviation], failure: String? = nil
    ) -> Finding? {
        let contested = records.values.filter { $0.count > Self.atOnce }.map(\.last)
            .filter { one in !left.contains { $0.aspect == one.aspect } }
        guard !left.isEmpty || !contested.isEmpty else { return nil }
        let what = (left + contested).map(\.text).sorted().joined(separator: ", ")
        let cause =
            failure.map { "it could not be set right: \($0)" }
                ?? """
                something on this host changes it again and again, and shuck sets it right at most once \
                a minute then: look for it in /etc/sysctl.d, NetworkManager, systemd-networkd and udev's rules
                """
        return Finding(
            what: .host, subject: device.name,
            text: "device \(device.name) is not as shuck set it, \(what): \(cause)",
            // A pod's device is none of the others' business.
            severity: device.netns == nil && left.contains(where: \.isBlocking) ? .blocking : .degraded)
    }
}

extension Configuration {
    /// What of a device is not as it was set, or is demanded of it, and is shuck's to set right.
    public func deviations(of device: Device, _ facts: DeviceFacts) -> [DeviceDeviation] {
        // Where the host forwards nothing, neither does the device: that is the host's decision.
        let isNotForwarding =
            device.netns == nil && facts.namespace.forwardsIPv4 && !facts.forwardsIPv4
            && carries(isIPv4: true, by: device)
        let isWithoutIPv6 =
            !facts.hasIPv6 && facts.namespace.forwardsIPv6 != nil && !facts.namespace.isIPv6Off
            // Below 1280 bytes the kernel gives a device no IPv6, and gives it back above.
            && device.mtu >= 1280 && carries(isIPv4: false, by: device)
        let filter = facts.reversePath ?? 2
        let all: [(isFound: Bool, aspect: DeviceDeviation.Aspect, text: String)] = [
            (!facts.isUp, .state, "it is down"),
            (facts.mtu != device.mtu, .mtu, "its mtu is \(facts.mtu) instead of \(device.mtu)"),
            (filter != 2, .reversePath, "its rp_filter is \(filter) instead of 2"),
            (!facts.hasAddress, .address, "its address \(device.address.text) is gone"),
            (isNotForwarding, .forwarding, "its forwarding is 0 instead of 1"),
            (isWithoutIPv6, .ipv6, "its disable_ipv6 is 1 instead of 0"),
        ]
        return all.filter(\.isFound).map { DeviceDeviation(aspect: $0.aspect, text: $0.text) }
    }

    /// What a device lacks that its namespace decides.
    public func lack(of device: Device, _ facts: DeviceFacts) -> Finding? {
        guard !facts.hasIPv6, facts.namespace.isIPv6Off, facts.namespace.forwardsIPv6 != nil,
            carries(isIPv4: false, by: device)
        else { return nil }
        let name = "net.ipv6.conf.all.disable_ipv6"
        let place = device.netns.map { " in \($0)" } ?? ""
        let isBlocking = device.netns == nil && carries(isIPv4: false, by: device, isNamed: true)
        return Finding(
            what: .host, subject: device.netns.map { "\($0) \(name)" } ?? name,
            text: "\(name) is 1\(place), so the kernel drops inner IPv6 from \(device.name)",
            remedy: (device.netns.map { "nsenter --net=\($0) " } ?? "") + "sysctl -w \(name)=0",
            severity: isBlocking ? .blocking : .degraded)
    }
}
