// Which frames of an interface are ours, as tables of prefixes: Forwarding makes them of a policy, and the
// claim program in the kernel looks them up.

import IP

/// Frames of protocol 4 or 41, and native ones, that are ours on one interface. No bound on the tables but
/// the kernel's memory.
public struct Claims: Sendable, Equatable {
    public struct Local: Sendable, Equatable {
        public var prefix: Prefix
        /// Index into `remotes`: only from these, and never from an endpoint, because an overlay
        /// shares the address. nil: from anyone.
        public var remotes: Int?

        public init(prefix: Prefix, remotes: Int? = nil) { (self.prefix, self.remotes) = (prefix, remotes) }
    }

    /// Native IPv6 frames that the judge injects: TCP, UDP or ICMPv6 of these sources, without
    /// extension headers, to where a tunnel's destinations allow.
    public struct Native: Sendable, Equatable {
        public enum Ports: Sendable, Hashable {
            case never
            case any
            /// Index into `portSets`.
            case set(Int)
        }
        public struct Target: Sendable, Equatable {
            /// IPv4's prefix stands for IPv4-mapped addresses.
            public var prefix: Prefix
            public var protocolNumber: UInt8
            public var ports: Ports

            public init(prefix: Prefix, protocolNumber: UInt8, ports: Ports) {
                (self.prefix, self.protocolNumber, self.ports) = (prefix, protocolNumber, ports)
            }
        }
        /// All different.
        public var sources: [Address]
        /// Of those with the packet's protocol the longest prefix decides.
        public var targets: [Target] = []
        /// Ranges in rising order that do not touch each other.
        public var portSets: [[ClosedRange<UInt16>]] = []

        public init(sources: [Address]) { self.sources = sources }
    }

    /// The longest prefix that holds a frame's destination decides; without one the frame is the
    /// kernel's.
    public var locals: [Local] = []
    public var remotes: [[Prefix]] = []
    /// The tunnels' own addresses, all different: never claimed where a set of `remotes` counts.
    public var endpoints: [Address] = []
    /// nil where no rule rewrites sources or no destination is in reach.
    public var native: Native?

    public init() {}
}
