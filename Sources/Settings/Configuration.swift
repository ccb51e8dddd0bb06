// Everything that an operator can set, as typed values with their defaults. Names are those of the keys.

import Forwarding
import IP

/// A complete configuration: every key has a value. `load` makes and checks one from text. One that is made
/// in code is unchecked.
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
    public var limits = RateLimits()
    public var workers = Workers()
    public var consume = Consume.auto
    public var mode = RunMode.active
    /// No kind of probe is supported yet.
    var probes: [Never] = []
    public var admin = Admin()
    public var log = Log()

    /// What `shuck doctor` judges a host for that has no configuration: every tunnel through interfaces.
    public static func assumed(interfaces: [String]) -> Configuration {
        let all = [Prefix.allIPv4, .allIPv6]
        var configuration = Configuration()
        configuration.interfaces = interfaces
        configuration.tunnels = [Tunnel(name: "assumed", local: all, remotes: all)]
        return configuration.withNames
    }

    /// Fills in names that may be left out: a tunnel's interfaces, a destination's device.
    var withNames: Configuration {
        var whole = self
        for index in tunnels.indices {
            if tunnels[index].interfaces.isEmpty { whole.tunnels[index].interfaces = interfaces }
            for place in tunnels[index].destinations.indices
            where tunnels[index].destinations[place].device == nil {
                whole.tunnels[index].destinations[place].device = devices.first?.name
            }
        }
        return whole
    }
}

extension Configuration {
    /// One `tunnels` entry.
    public struct Tunnel: Sendable, Equatable {
        public var name: String
        /// Names out of `Configuration.interfaces`; empty: all of them. `load` fills them in.
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

    /// What becomes of protocol 4 and 41 frames to `local` whose source is not in `remotes`.
    public enum OtherRemotes: String, Sendable, CaseIterable { case drop, pass }

    /// One inner destination of a tunnel.
    public struct Destination: Sendable, Hashable {
        public var prefix: Prefix
        /// IP protocol number; nil: any.
        public var protocolNumber: UInt8?
        /// Empty: any.
        public var ports: [ClosedRange<UInt16>] = []
        /// `80,8000-8010`
        public var portsText: String { ports.map(ValueSyntax.rangeText).joined(separator: ",") }
        /// Name of a device; nil: the first. `load` fills it in.
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
        /// A host prefix. A loose rp_filter drops every packet on a device without an address.
        public var address = Prefix(host: Address(ipv4: 0x7f00_002a))
    }

    /// The check of inner sources against the routes back to them (RFC 3704).
    public struct ReversePath: Sendable, Equatable {
        public var mode = ReversePathMode.strict
        /// Modes that replace `mode`, by interface name.
        public var interfaces: [String: ReversePathMode] = [:]
        /// Inner sources that are not checked.
        public var exempt: [Prefix] = []
    }

    /// The bound on the MSS option of SYN and SYN-ACK segments, in bytes.
    public struct MSS: Sendable, Equatable {
        public var ipv4 = MSSClamp.auto
        public var ipv6 = MSSClamp.auto
        public var replies = Replies.off

        /// Whether and how the SYN-ACKs of pods are clamped.
        public enum Replies: String, Codable, Sendable, CaseIterable { case off, nft }
    }

    /// What becomes of the outer header's fields, and of outer fragments.
    public struct Outer: Sendable, Equatable {
        public var ecn = ECNMode.standard
        public var dscp = FieldMode.pipe
        public var ttl = FieldMode.pipe
        public var fragments = Fragments()
    }

    /// Reassembly of outer fragments.
    public struct Fragments: Sendable, Equatable {
        /// Bytes per worker, shared out in quotas per remote; 0: outer fragments are dropped.
        public var memory = 4 << 20
        public var timeout = Duration.seconds(30)
    }

    /// Checks and rewrites of inner packets.
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

    /// ICMP errors that shuck itself sends.
    public struct ICMP: Sendable, Equatable, Codable {
        /// Packets per second; 0: none is sent.
        public var ratePerSecond = 100
        /// Packets.
        public var burst = 50
        /// nil: `auto`, the address of the interface on the route back.
        public var source4: Address?
        /// nil: `auto`.
        public var source6: Address?
    }

    /// Bounds on injected packets per second; nil: `off`.
    public struct RateLimits: Sendable, Equatable {
        public var packetsPerSecond: Int?
        public var perRemote: Int?
    }

    public struct Workers: Sendable, Equatable {
        /// CPU numbers in rising order; nil: `auto`, those of the interface's NUMA node.
        public var cpus: [Int]?
        /// How long a worker spins on an empty ring before it sleeps.
        public var busyPoll = Duration.zero
        /// Whether segments of a flow are coalesced into one write.
        public var coalesce = true
    }

    /// What keeps the kernel from answering for frames that are ours.
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
        /// Whether all who may write the socket may capture; else root alone.
        public var capture = false
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

extension Configuration.Listen {
    /// Reads `HOST:PORT`, where an IPv6 HOST stands in brackets; nil for anything else.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = decimal(text[text.index(after: colon)...]), (1...65535).contains(port)
        else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard let address = Address(host), !address.isIPv4 else { return nil }
        } else {
            guard !host.isEmpty, ValueSyntax.isName(host, with: "-.") else { return nil }
        }
        self.init(host: host, port: UInt16(port))
    }
}
