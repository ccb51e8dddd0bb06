// A configuration and the facts of a host, with the questions that several conditions ask.

import IP
import Routing
import Settings

public struct Examination: Sendable {
    public let configuration: Configuration
    public let facts: HostFacts
    /// Directory of files that are merged over the configuration.
    public let dropIns: String
    let details: HostDetails
    /// nil: unread.
    let ruleset: FilterRuleset?

    public init(_ configuration: Configuration, _ facts: HostFacts, dropIns: String) {
        self.configuration = configuration
        self.facts = facts
        self.dropIns = dropIns
        details = facts.details ?? HostDetails()
        ruleset = details.ruleset.map(FilterRuleset.init)
    }

    /// Devices whose packets the kernel of this namespace routes on.
    var hostDevices: [Configuration.Device] { configuration.devices.filter { $0.netns == nil } }

    /// Destinations that are served through devices in pods.
    var podServices: [Prefix] { configuration.podServices }

    /// Host ends of pods' links.
    var podLinks: [String] {
        let own = configuration.interfaces + configuration.devices.map(\.name)
        return facts.links.filter {
            ["veth", "netkit"].contains($0.kind) && $0.isUp && !own.contains($0.name)
        }.map(\.name)
    }

    /// Interfaces of the configuration that are there.
    var interfaces: [Link] { configuration.interfaces.compactMap(facts.link) }

    /// - Parameter path: below /proc/sys.
    /// - Returns: no more than 32 bits, as the kernel's settings have.
    func number(_ path: String) -> Int? { details.sysctls[path].flatMap { Int32($0) }.map(Int.init) }

    /// A setting of IPv4 that the kernel takes as the larger of `all` and the device.
    func reversePath(_ device: String) -> (own: Int, all: Int)? {
        guard let own = number("net/ipv4/conf/\(device)/rp_filter"),
            let all = number("net/ipv4/conf/all/rp_filter")
        else { return nil }
        return (own, all)
    }

    /// A path below /proc/sys as sysctl(8) takes it: with slashes where a name holds a dot, as a VLAN's does.
    static func name(_ path: String) -> String {
        path.contains(".") ? path : String(path.map { $0 == "/" ? "." : $0 })
    }

    static func set(_ path: String, _ value: Int) -> String { "sysctl -w \(name(path))=\(value)" }
}

extension Configuration {
    /// Destinations that are served through devices in pods.
    public var podServices: [Prefix] {
        let pods = Set(devices.filter { $0.netns != nil }.map(\.name))
        let all = tunnels.flatMap(\.destinations).filter { pods.contains($0.device ?? devices[0].name) }
        return Set(all.map(\.prefix)).sorted()
    }
}
