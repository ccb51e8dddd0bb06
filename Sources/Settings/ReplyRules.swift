// What `mss.replies: nft` asks the kernel for, as nftables rules; nothing here talks to the kernel.

import Forwarding
import IP

/// shuck sees packets to the pods only. What keeps an encapsulated packet within the link is the
/// MSS that the pod announces in its SYN-ACK, and that one leaves the node past shuck.
public enum ReplyRules {
    /// The chains of a table of family inet.
    ///
    /// A SYN-ACK does not say which tunnel its SYN came by, so each tunnel looks at it, and the
    /// lowest MSS stays. Within a tunnel the first destination that matches counts, as for
    /// packets: hence one chain a tunnel, left by `goto`.
    /// - Parameter mtu: bytes of the largest IP packet on an interface; nil while it is absent.
    public static func chains(
        _ configuration: Configuration, mtu: (String) -> Int?
    ) -> String {
        var rules: [[String]] = []
        var sizes: Set<Int> = []
        for tunnel in configuration.tunnels {
            let limits = Limits(tunnel, configuration, mtu: mtu)
            rules.append(limits.rules)
            sizes.formUnion(limits.sizes)
        }
        let clamps = sizes.sorted(by: >).map { size in
            chain(
                "mss-\(size)",
                ["tcp option maxseg size > \(size) counter tcp option maxseg size set \(size)"])
        }
        let tunnels = rules.enumerated().map { chain("tunnel-\($0)", $1) }
        // 100 is where connection tracking gives a translated answer its own source back
        // (srcnat): before that it carries the pod's address, not the service's.
        let hook = chain(
            "replies",
            ["type filter hook postrouting priority 150", "policy accept"]
                + rules.indices.map {
                    "tcp flags & (fin|syn|rst|ack) == syn|ack jump tunnel-\($0)"
                })
        return (clamps + tunnels + [hook]).joined()
    }

    /// The lowest MSS, in bytes, that answers of a tunnel's destinations are clamped to, by tunnel and
    /// inner family; families that nothing bounds are left out.
    /// - Parameter mtu: as `chains` takes it.
    public static func lowest(
        _ configuration: Configuration, mtu: (String) -> Int?
    ) -> [(tunnel: String, isIPv4: Bool, bytes: Int)] {
        configuration.tunnels.flatMap { tunnel in
            Limits(tunnel, configuration, mtu: mtu).lowest.sorted { $0.value > $1.value }.map {
                (tunnel: tunnel.name, isIPv4: $0.key, bytes: $0.value)
            }
        }
    }

    private static func chain(_ name: String, _ lines: [String]) -> String {
        "chain \(name) {\n" + lines.map { "    \($0)\n" }.joined() + "}\n"
    }
}

/// One tunnel's rules.
private struct Limits {
    private(set) var rules: [String] = []
    private(set) var sizes: Set<Int> = []
    /// By whether the inner packet is IPv4.
    private(set) var lowest: [Bool: Int] = [:]
    private let tunnel: Configuration.Tunnel
    private let mss: Configuration.MSS
    private let mtu: Int?

    init(
        _ tunnel: Configuration.Tunnel, _ configuration: Configuration, mtu: (String) -> Int?
    ) {
        self.tunnel = tunnel
        mss = configuration.mss
        let links = tunnel.interfaces.isEmpty ? configuration.interfaces : tunnel.interfaces
        // The narrowest: any of them may carry the connection.
        self.mtu = links.compactMap(mtu).min()
        for destination in tunnel.destinations
        where destination.protocolNumber == nil || destination.protocolNumber == ProtocolNumber.tcp {
            add(destination)
        }
        if tunnel.destinations.isEmpty {
            // Any destination may be served, so any answer may belong to one.
            for prefix in [Prefix.allIPv4, .allIPv6] {
                add(Configuration.Destination(prefix: prefix))
            }
        }
    }

    private mutating func add(_ destination: Configuration.Destination) {
        let isIPv4 = destination.prefix.isIPv4
        var match = "\(isIPv4 ? "ip" : "ip6") saddr \(destination.prefix.text)"
        if !destination.ports.isEmpty {
            // nft refuses a set whose ranges overlap.
            let ports = Words.merged(destination.ports).map(Words.rangeText)
            match += " tcp sport { \(ports.joined(separator: ", ")) }"
        }
        guard let size = size(destination.mss ?? (isIPv4 ? mss.ipv4 : mss.ipv6), isIPv4) else {
            // It is not bounded, nor by the destinations after it.
            rules.append("\(match) return")
            return
        }
        sizes.insert(size)
        lowest[isIPv4] = min(lowest[isIPv4] ?? size, size)
        rules.append("\(match) goto mss-\(size)")
    }

    private func size(_ clamp: MSSClamp, _ isIPv4: Bool) -> Int? {
        switch clamp {
        case .off: return nil
        case .fixed(let size): return Int(size)
        case .auto:
            // A mode counts only where both ends have an address of its outer family.
            let headers = tunnel.modes.filter { mode in
                mode.innerIsIPv4 == isIPv4
                    && tunnel.local.contains { $0.isIPv4 == mode.outerIsIPv4 }
                    && tunnel.remotes.contains { $0.isIPv4 == mode.outerIsIPv4 }
            }.map(\.headerBytes).max()
            guard let mtu, let headers, mtu > headers else { return nil }
            return min(mtu - headers, 65535)
        }
    }
}
