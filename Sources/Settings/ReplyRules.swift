// The nftables rules of `mss.replies: nft`, as text.

import Forwarding
import IP

/// shuck sees only packets to the pods. The MSS that a pod announces in its SYN-ACK keeps encapsulated
/// packets within the link's MTU, but that segment leaves the node past shuck: the kernel clamps it.
public enum ReplyRules {
    /// The chains of a table of family inet.
    ///
    /// A SYN-ACK does not show which tunnel its SYN came through, so it passes the chain of every tunnel,
    /// and the lowest MSS stays. Within a tunnel the first matching destination counts, as for packets:
    /// hence one chain per tunnel, left by `goto`.
    /// - Parameter mtu: bytes of the largest IP packet on an interface; nil while the interface is absent.
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
        // At priority 100 (srcnat) connection tracking gives a translated answer the service's address
        // back. Before that its source is the pod's.
        let hook = chain(
            "replies",
            ["type filter hook postrouting priority 150", "policy accept"]
                + rules.indices.map {
                    "tcp flags & (fin|syn|rst|ack) == syn|ack jump tunnel-\($0)"
                })
        return (clamps + tunnels + [hook]).joined()
    }

    /// The lowest MSS, in bytes, to which answers are clamped, by tunnel and inner family. Families without
    /// a bound are left out.
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
        // The narrowest, because any of them may carry the connection.
        self.mtu = links.compactMap(mtu).min()
        for destination in tunnel.destinations
        where destination.protocolNumber == nil || destination.protocolNumber == ProtocolNumber.tcp {
            add(destination)
        }
        if tunnel.destinations.isEmpty {
            // Every destination is served, so every answer may come from one.
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
            // Unbounded, also by the destinations after it.
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
