// What an operator decided, as plain values: the input that `PolicyTables` is compiled from.
// Nothing here is read on the packet's way.

import IP

/// The parts of a configuration that decide a packet's verdict.
public struct Policy: Sendable, Equatable {
    public struct Interface: Sendable, Equatable {
        public var name: String
        public var reversePath: ReversePathMode
        public init(name: String, reversePath: ReversePathMode) {
            self.name = name
            self.reversePath = reversePath
        }
    }

    /// A TUN device that inner packets are injected through.
    public struct Device: Sendable, Equatable {
        public var name: String
        /// Bytes of the largest inner packet; the device itself takes any.
        public var mtu: Int
        /// It stands in a pod's namespace: no kernel routes in between, so nobody but us
        /// refuses what is too big and answers that.
        public var isElsewhere: Bool
        public init(name: String, mtu: Int = 1500, isElsewhere: Bool = false) {
            self.name = name
            self.mtu = mtu
            self.isElsewhere = isElsewhere
        }
    }

    public struct Destination: Sendable, Equatable {
        public var prefix: Prefix
        /// IP protocol number; nil: any.
        public var protocolNumber: UInt8?
        /// Empty: any port. Only with a protocol that has ports.
        public var ports: [ClosedRange<UInt16>]
        /// Index into `Policy.devices`.
        public var device: Int
        /// nil: as `Policy.mssIPv4` / `mssIPv6` say.
        public var mss: MSSClamp?
        public init(
            prefix: Prefix, protocolNumber: UInt8? = nil, ports: [ClosedRange<UInt16>] = [],
            device: Int = 0, mss: MSSClamp? = nil
        ) {
            self.prefix = prefix
            self.protocolNumber = protocolNumber
            self.ports = ports
            self.device = device
            self.mss = mss
        }
    }

    public struct Tunnel: Sendable, Equatable {
        public var name: String
        /// Indices into `Policy.interfaces`.
        public var interfaces: [Int]
        public var local: [Prefix]
        public var remotes: [Prefix]
        /// `otherRemotes: pass`: frames to `local` from anyone else are left to the kernel.
        public var passOtherRemotes: Bool
        public var modes: Set<Mode>
        /// Empty: any destination, through the first device.
        public var destinations: [Destination]
        public init(
            name: String, interfaces: [Int], local: [Prefix], remotes: [Prefix],
            passOtherRemotes: Bool = false, modes: Set<Mode> = Set(Mode.allCases),
            destinations: [Destination] = []
        ) {
            self.name = name
            self.interfaces = interfaces
            self.local = local
            self.remotes = remotes
            self.passOtherRemotes = passOtherRemotes
            self.modes = modes
            self.destinations = destinations
        }
    }

    /// Packets from `from` that come in by `interface` go on as from `to`. One address each, both
    /// IPv6, so that the answers' destination can be rewritten without state.
    public struct SourceRewrite: Sendable, Equatable {
        public var from: Address
        public var to: Address
        /// Index into `Policy.interfaces`.
        public var interface: Int
        public init(from: Address, to: Address, interface: Int) {
            self.from = from
            self.to = to
            self.interface = interface
        }
    }

    public var interfaces: [Interface]
    public var tunnels: [Tunnel]
    /// The first is the default.
    public var devices: [Device]
    public var mssIPv4 = MSSClamp.auto
    public var mssIPv6 = MSSClamp.auto
    public var ecn = ECNMode.standard
    public var dscp = FieldMode.pipe
    public var ttl = FieldMode.pipe
    public var dropMartians = true
    /// Inner sources refused beside the tunnels' own addresses and destinations, and what is behind
    /// devices other than uplinks.
    public var denySources: [Prefix] = []
    /// Inner sources whose reverse path is not checked.
    public var exemptSources: [Prefix] = []
    public var rewrites: [SourceRewrite] = []

    public init(
        interfaces: [Interface], tunnels: [Tunnel], devices: [Device] = [Device(name: "shuck0")]
    ) {
        self.interfaces = interfaces
        self.tunnels = tunnels
        self.devices = devices
    }
}
