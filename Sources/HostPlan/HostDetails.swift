// What only `shuck doctor` reads of a host.

import Routing
import Settings

/// Facts that no plan needs. A saved document of them lets another host judge this one.
public struct HostDetails: Sendable, Equatable, Codable {
    /// Something that could not be read.
    public struct Gap: Sendable, Equatable, Codable {
        /// Names of the conditions that need it.
        public var conditions: [String]
        /// What could not be read, and why.
        public var text: String
        /// What gives access to it; nil where nothing does.
        public var command: String?

        public init(conditions: [String], text: String, command: String? = nil) {
            self.conditions = conditions
            self.text = text
            self.command = command
        }
    }

    /// Offloads and receive queues of an interface.
    public struct Interface: Sendable, Equatable, Codable {
        /// Generic receive offload; nil: the driver does not tell.
        public var gro: Bool?
        /// Large receive offload; nil: the driver does not tell.
        public var lro: Bool?
        /// Receive queues, each of which one CPU serves, unless `steers`.
        public var queues: Int?
        /// Whether receive packet steering spreads a queue to several CPUs (`rps_cpus`).
        public var steers = false
        /// The kernel's programs at its entrance, in the order in which a frame meets them.
        public var programs: [EntranceProgram] = []

        public init() {}
    }

    /// `uname -r`
    public var kernel = ""
    /// Values by path below /proc/sys, such as `net/ipv4/ip_forward`.
    public var sysctls: [String: String] = [:]
    /// In the order in which they are applied at a boot.
    public var sysctlFiles: [SysctlFile] = []
    /// `ADDRESS/LENGTH`, by link.
    public var addresses: [String: [String]] = [:]
    /// Policy rules; nil: unread.
    public var rules: [RuleEntry]?
    /// Routes that cover a service whose pod has a device.
    public var podRoutes: [PodRoute] = []
    /// Lines of `nft --handle --stateless --numeric-protocol list ruleset`; nil: unread.
    public var ruleset: [String]?
    /// By name, those that the configuration lists.
    public var interfaces: [String: Interface] = [:]
    /// shuck's devices that are there, by `HostDetails.key`.
    public var devices: [String: DeviceFacts] = [:]
    /// Whether a seccomp profile filters this process's system calls.
    public var isFiltered = false
    /// Why io_uring cannot be used; nil: it can.
    public var ringRefusal: String?
    /// RLIMIT_MEMLOCK in bytes; nil: no limit, or none that counts for this process.
    public var lockedBytesMax: Int?
    /// Whether there is /dev/net/tun; nil: not looked at.
    public var hasTun: Bool?
    /// Whether the kernel has the driver now; nil: it does not tell.
    public var hasTunDriver: Bool?
    /// Source of CLOCK_MONOTONIC, as sysfs names it.
    public var clockSource: String?
    /// Those that this host could use.
    public var clockSources: [String] = []
    public var gaps: [Gap] = []

    public init() {}

    /// Tells devices of one name in several namespaces apart.
    public static func key(_ device: Configuration.Device) -> String {
        (device.netns.map { "\($0) " } ?? "") + device.name
    }
}
