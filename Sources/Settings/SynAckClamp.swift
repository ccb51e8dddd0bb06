// The nftables rules of `mss.replies: nft`, as text.

import Forwarding
import IP

/// shuck sees only packets to the pods. The MSS that a pod announces in its SYN-ACK keeps encapsulated
/// packets within the link's MTU, but that segment leaves the node past shuck: the kernel clamps it.
public enum SynAckClamp {
    /// The chains of a table of family inet.
    ///
    /// A SYN-ACK does not show which tunnel its SYN came through, so it passes the chain of every tunnel,
    /// and the lowest MSS stays. Within a tunnel the first matching destination counts, as for packets:
    /// hence one chain per tunnel, left by `goto`.
    /// - Parameter mtu: bytes of the largest IP packet on an interface; nil while the interface is absent.
    public static func chains(_ configuration: Configuration, mtu: (String) -> Int?) -> String {
        let tunnels = configuration.tunnels.map { rules(of: $0, configuration, mtu: mtu) }
        let clamps = Set(tunnels.joined().compactMap(\.mss)).sorted(by: >).map { size in
            chain(
                "mss-\(size)",
                ["tcp option maxseg size > \(size) counter tcp option maxseg size set \(size)"])
        }
        let chains = tunnels.enumerated().map { index, rules in
            chain(
                "tunnel-\(index)",
                rules.map { rule in "\(rule.match) " + (rule.mss.map { "goto mss-\($0)" } ?? "return") })
        }
        // At priority 100 (srcnat) connection tracking gives a translated answer the service's address
        // back. Before that its source is the pod's.
        let hook = chain(
            "replies",
            ["type filter hook postrouting priority 150", "policy accept"]
                + tunnels.indices.map { "tcp flags & (fin|syn|rst|ack) == syn|ack jump tunnel-\($0)" })
        return (clamps + chains + [hook]).joined()
    }

    /// The lowest MSS, in bytes, to which answers are clamped, by tunnel and inner family. Families without
    /// a bound are left out.
    /// - Parameter mtu: as `chains` takes it.
    public static func lowest(
        _ configuration: Configuration, mtu: (String) -> Int?
    ) -> [(tunnel: String, isIPv4: Bool, bytes: Int)] {
        configuration.tunnels.flatMap { tunnel in
            let rules = rules(of: tunnel, configuration, mtu: mtu)
            return [true, false].compactMap { isIPv4 in
                rules.filter { $0.isIPv4 == isIPv4 }.compactMap(\.mss).min()
                    .map { (tunnel: tunnel.name, isIPv4: isIPv4, bytes: $0) }
            }.sorted { $0.bytes > $1.bytes }
        }
    }

    private static func chain(_ name: String, _ lines: [String]) -> String {
        "chain \(name) {\n" + lines.map { "    \($0)\n" }.joined() + "}\n"
    }

    /// What becomes of the answers of one destination.
    private struct Rule {
        var match: String
        var isIPv4: Bool
        /// Bytes; nil: the answers are not bounded, also by the destinations that follow.
        var mss: Int?
    }

    private static func rules(
        of tunnel: Configuration.Tunnel, _ configuration: Configuration, mtu: (String) -> Int?
    ) -> [Rule] {
        let links = tunnel.interfaces.isEmpty ? configuration.interfaces : tunnel.interfaces
        // The narrowest, because any of them may carry the connection.
        let mtu = links.compactMap(mtu).min()
        let served =
            tunnel.destinations.isEmpty
            ? [Prefix.allIPv4, .allIPv6].map { Configuration.Destination(prefix: $0) }
            : tunnel.destinations.filter {
                $0.protocolNumber == nil || $0.protocolNumber == ProtocolNumber.tcp
            }
        return served.map { destination in
            let isIPv4 = destination.prefix.isIPv4
            // nft refuses a set whose ranges overlap.
            let ports = ValueSyntax.merged(destination.ports).map(ValueSyntax.rangeText).joined(
                separator: ", ")
            return Rule(
                match: "\(isIPv4 ? "ip" : "ip6") saddr \(destination.prefix.text)"
                    + (ports.isEmpty ? "" : " tcp sport { \(ports) }"),
                isIPv4: isIPv4,
                mss: bytes(
                    destination.mss ?? (isIPv4 ? configuration.mss.ipv4 : configuration.mss.ipv6),
                    tunnel, isIPv4, mtu))
        }
    }

    private static func bytes(
        _ clamp: MSSClamp, _ tunnel: Configuration.Tunnel, _ isIPv4: Bool, _ mtu: Int?
    ) -> Int? {
        switch clamp {
        case .off: return nil
        case .fixed(let size): return Int(size)
        case .auto:
            // A mode counts only when both ends have an address of its outer family.
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
