// Everything that an operator can set, as typed values with their defaults.
// Names are those of the keys in the file; reading and writing them is elsewhere.

import Forwarding
import IP

/// A complete configuration: every key has a value. `load` makes one from text; one made by
/// hand has not been checked, and `load(files: [(name, configuration.yaml)])` checks it.
public struct Configuration: Sendable, Equatable {
    /// Interfaces that encapsulated frames arrive on; never empty once loaded.
    public var interfaces: [String] = []
    /// Which outer headers may be stripped; the first match counts.
    public var tunnels: [Tunnel] = []
    /// TUN devices; the first is the default of a destination.
    public var devices = [Device()]
    public var reversePath = ReversePath()
    public var mss = MSS()
    public var outer = Outer()
    public var inner = Inner()
    public var icmp = ICMP()
    public var limits = Limits()
    public var workers = Workers()
    public var consume = Consume.auto
    public var mode = RunMode.active
    /// What a probe is made of is open yet.
    var probes: [Never] = []
    public var admin = Admin()
    public var log = Log()
}

extension Configuration {
    /// One `tunnels` entry.
    public struct Tunnel: Sendable, Equatable {
        public var name: String
        /// Names out of `Configuration.interfaces`; empty means all of them. `load` writes
        /// them out, so that a loaded configuration never has an empty list here.
        public var interfaces: [String] = []
        /// Outer destinations that are ours.
        public var local: [Prefix]
        /// Outer sources that may encapsulate.
        public var remotes: [Prefix]
        public var otherRemotes = OtherRemotes.drop
        public var modes = Set(Mode.allCases)
        /// Inner destinations, first match counts; empty: any.
        public var destinations: [Destination] = []
    }

    /// What becomes of protocol 4 and 41 frames to `local` from anyone but `remotes`.
    public enum OtherRemotes: String, Sendable, CaseIterable { case drop, pass }

    /// One inner destination of a tunnel.
    public struct Destination: Sendable, Hashable {
        public var prefix: Prefix
        /// IP protocol number; nil: any.
        public var protocolNumber: UInt8?
        /// Empty: any.
        public var ports: [ClosedRange<UInt16>] = []
        /// `80,8000-8010`
        public var portsText: String { ports.map(Words.rangeText).joined(separator: ",") }
        /// Name of a device; nil: the first. `load` writes it out.
        public var device: String?
        /// nil: as `mss` says for the family.
        public var mss: MSSClamp?
    }

    /// One TUN device.
    public struct Device: Sendable, Equatable {
        public var name = "shuck0"
        /// Bytes.
        public var mtu = 1500
        /// Path of a network namespace; nil: the daemon's own.
        public var netns: String?
        /// A host prefix: a loose rp_filter passes nothing on a device with no address.
        public var address = Prefix(host: Address(ipv4: 0x7f00_002a))
    }

    /// The check of inner sources against the routes back to them (RFC 3704).
    public struct ReversePath: Sendable, Equatable {
        public var mode = ReversePathMode.strict
        /// Interface name to the mode that counts there instead.
        public var interfaces: [String: ReversePathMode] = [:]
        /// Inner sources that are not checked.
        public var exempt: [Prefix] = []
    }

    /// The bound on the MSS option of SYN and SYN-ACK segments, in bytes.
    public struct MSS: Sendable, Equatable {
        public var ipv4 = MSSClamp.auto
        public var ipv6 = MSSClamp.auto
        public var replies = Replies.off

        /// Whether what pods answer is clamped too, and by what.
        public enum Replies: String, Codable, Sendable, CaseIterable { case off, nft }
    }

    /// What the outer header leaves behind.
    public struct Outer: Sendable, Equatable {
        public var ecn = ECNMode.standard
        public var dscp = FieldMode.pipe
        public var ttl = FieldMode.pipe
        public var fragments = Fragments()
    }

    /// Reassembly of outer fragments.
    public struct Fragments: Sendable, Equatable {
        /// Bytes, a quota for each remote; 0: outer fragments are dropped.
        public var memory = 4 << 20
        public var timeout = Duration.seconds(30)
    }

    /// What inner packets must be like.
    public struct Inner: Sendable, Equatable {
        public var martians = Martians.drop
        /// Inner sources refused beside the node's, the pods' and the tunnels' own.
        public var deny: [Prefix] = []
        public var rewriteSources: [RewriteSource] = []

        public enum Martians: String, Sendable, CaseIterable { case drop, pass }
    }

    /// A stateless rewrite of an inner source, IPv6, one address to one.
    public struct RewriteSource: Sendable, Equatable {
        /// A host prefix.
        public var from: Prefix
        public var to: Address
        public var interface: String
    }

    /// Errors that shuck itself sends.
    public struct ICMP: Sendable, Equatable {
        /// Packets a second; 0: none is sent.
        public var ratePerSecond = 100
        /// Packets.
        public var burst = 50
        /// nil: `auto`, the address of the interface that leads back.
        public var source4: Address?
        /// nil: `auto`.
        public var source6: Address?
    }

    /// What is injected at most, in packets a second; nil: `off`.
    public struct Limits: Sendable, Equatable {
        public var packetsPerSecond: Int?
        public var perRemote: Int?
    }

    public struct Workers: Sendable, Equatable {
        /// CPU numbers in rising order; nil: `auto`, those of the interface's NUMA node.
        public var cpus: [Int]?
        /// How long a worker spins on an empty ring before it sleeps.
        public var busyPoll = Duration.zero
        /// Whether segments of a flow are joined into one packet for the TUN.
        public var coalesce = true
    }

    /// How the kernel is kept from answering for frames that are ours.
    public enum Consume: String, Codable, Sendable, CaseIterable { case auto, bpf, socket, off }

    /// The key `mode`.
    public enum RunMode: String, Codable, Sendable, CaseIterable {
        case active
        /// Judge and count; inject and claim nothing.
        case shadow
    }

    /// Where metrics, health and status are served.
    public struct Admin: Sendable, Equatable {
        /// Path of the unix socket.
        public var socket = "/run/shuck/shuck.sock"
        /// Permission bits of the socket.
        public var mode: UInt32 = 0o600
        /// Name or number of the socket's group; nil: that of the process.
        public var group: String?
        /// nil: no TCP.
        public var listen: Listen?
        /// Whether `/status` is served on TCP.
        public var listenStatus = false
        public init() {}
    }

    /// A TCP address to listen on.
    public struct Listen: Sendable, Equatable {
        /// A name, an IPv4 address, or an IPv6 address without its brackets.
        public var host: String
        public var port: UInt16
        /// Whether only this host reaches it.
        public var isLoopback: Bool {
            let address = Address(host)
            return host.lowercased() == "localhost" || address == Address("::1")
                || address.map { Prefix(Address(ipv4: 0x7f00_0000), length: 8)!.contains($0) } ?? false
        }

        /// `HOST:PORT`, an IPv6 host in brackets.
        public var text: String {
            host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        }
    }

    public struct Log: Sendable, Equatable {
        public var level = Level.info
        public var format = Format.auto
        public init() {}

        /// swift-log's levels, the most talkative first.
        public enum Level: String, Sendable, CaseIterable {
            case trace, debug, info, notice, warning, error, critical
        }

        public enum Format: String, Sendable, CaseIterable { case auto, text, json, journal }
    }
}

extension Duration {
    /// Whole nanoseconds; for the lengths that a configuration may hold.
    package var nanoseconds: UInt64 {
        UInt64(components.seconds) * 1_000_000_000 + UInt64(components.attoseconds / 1_000_000_000)
    }
}
