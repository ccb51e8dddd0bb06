// What an operator decided, as plain values: the input that `PolicyTables` is compiled from.
// Nothing here is read on the packet's way.

import IP

/// How an inner packet came. The four encapsulations are named as the kernel's tunnel modes
/// (iproute2, ip-tunnel(8)).
public enum Mode: UInt8, CaseIterable, Sendable, Hashable, BitwiseCopyable {
    /// IPv4 in IPv4, protocol 4 (RFC 2003).
    case ipip = 0
    /// IPv6 in IPv4, protocol 41 (RFC 4213).
    case ip6ip = 1
    /// IPv4 in IPv6, next header 4 (RFC 2473).
    case ipip6 = 2
    /// IPv6 in IPv6, next header 41 (RFC 2473).
    case ip6ip6 = 3
    /// IPv6 without an outer header: a health probe whose source is rewritten.
    case native = 4

    /// The encapsulations: what a tunnel may strip.
    public static let allCases: [Mode] = [.ipip, .ip6ip, .ipip6, .ip6ip6]
    /// Raw values are below.
    public static let count = 5

    public var name: String { String(describing: self) }
    public var outerIsIPv4: Bool { self == .ipip || self == .ip6ip }
    public var innerIsIPv4: Bool { self == .ipip || self == .ipip6 }
    /// `ipip6` and `ip6ip6`, as a set of bits by raw value.
    static let overIPv6: UInt8 = 0b1100
    /// Both IP headers and TCP's, without options: what an MSS leaves of the link's MTU.
    @inline(__always)
    public var headerBytes: Int {
        (outerIsIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount)
            &+ (innerIsIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount) &+ TCPHeader.byteCount
    }
}

/// Reverse-path modes (RFC 3704 §2, and the kernel's rp_filter 0/1/2).
public enum ReversePathMode: UInt8, CaseIterable, Sendable, Hashable, BitwiseCopyable {
    case off = 0
    /// Any unicast route to the source.
    case loose = 1
    /// As `loose`, but a default route does not count (RFC 3704 §2.5).
    case looseNoDefault = 2
    /// Any path to the source's prefix, also the not-best, leaves by the interface (§2.3).
    case feasible = 3
    /// The best route, or any nexthop of a multipath one, leaves by the interface (§2.2).
    case strict = 4
}

/// How the MSS option of SYN and SYN-ACK segments is bounded. Values in bytes.
public enum MSSClamp: Sendable, Hashable {
    case off
    /// Link MTU - outer header - inner IP header - 20.
    case auto
    case fixed(UInt16)
}

/// What becomes of the outer header's ECN bits.
public enum ECNMode: UInt8, CaseIterable, Sendable, BitwiseCopyable { case standard, copy, pipe }

/// What becomes of a field that the outer header also has (RFC 2983 for DSCP).
public enum FieldMode: UInt8, CaseIterable, Sendable, BitwiseCopyable { case pipe, uniform }

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
    public var mssIPv4: MSSClamp
    public var mssIPv6: MSSClamp
    public var ecn: ECNMode
    public var dscp: FieldMode
    public var ttl: FieldMode
    public var dropMartians: Bool
    /// Inner sources refused beside the tunnels' own addresses and destinations, and what is behind
    /// devices other than uplinks.
    public var denySources: [Prefix]
    /// Inner sources whose reverse path is not checked.
    public var exemptSources: [Prefix]
    public var rewrites: [SourceRewrite]

    public init(
        interfaces: [Interface], tunnels: [Tunnel], devices: [Device] = [Device(name: "shuck0")],
        mssIPv4: MSSClamp = .auto, mssIPv6: MSSClamp = .auto, ecn: ECNMode = .standard,
        dscp: FieldMode = .pipe, ttl: FieldMode = .pipe, dropMartians: Bool = true,
        denySources: [Prefix] = [], exemptSources: [Prefix] = [],
        rewrites: [SourceRewrite] = []
    ) {
        self.interfaces = interfaces
        self.tunnels = tunnels
        self.devices = devices
        self.mssIPv4 = mssIPv4
        self.mssIPv6 = mssIPv6
        self.ecn = ecn
        self.dscp = dscp
        self.ttl = ttl
        self.dropMartians = dropMartians
        self.denySources = denySources
        self.exemptSources = exemptSources
        self.rewrites = rewrites
    }
}
