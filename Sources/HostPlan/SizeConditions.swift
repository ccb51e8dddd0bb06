// Conditions of packet sizes: `Condition.sizes`.

import Forwarding
import IP
import Routing
import Settings

extension Condition {
    static let sizes = [
        Condition(
            "sizes",
            """
            An encapsulated packet must fit the link: 1500 = 20 (outer IPv4) + 20 (inner IPv4) + 20 \
            (TCP) + 1440, or 40 + 40 + 20 + 1400 for IPv6 in IPv6. shuck lowers the MSS of clients' \
            SYNs, which bounds what pods send. The MSS in a pod's SYN-ACK bounds what clients send. It \
            comes from the pod's MTU, which therefore has to leave room for the outer header, unless \
            `mss.replies` is `nft`.
            """
        ) { examination in
            examination.interfaces.flatMap { link in
                let modes = modes(examination, link)
                let lines =
                    narrow(link, modes) + fixed(link, modes, examination) + pods(link, modes, examination)
                return lines.isEmpty ? [.ok(arithmetic(link, modes))] : lines
            }
        },
        Condition(
            "slots",
            """
            A ring has slots that hold a frame of the link's MTU each. Jumbo frames need larger slots, \
            so that the same memory holds fewer frames of any size.
            """
        ) { examination in
            examination.interfaces.map { slots($0, examination) }
        },
    ]

    /// Encapsulations that may arrive: those with addresses of their outer family at both ends.
    private static func modes(_ examination: Examination, _ link: Link) -> [Mode] {
        let tunnels = examination.configuration.tunnels.filter {
            $0.interfaces.isEmpty || $0.interfaces.contains(link.name)
        }
        return Mode.allCases.filter { mode in
            tunnels.contains { tunnel in
                tunnel.modes.contains(mode) && tunnel.local.contains { $0.isIPv4 == mode.outerIsIPv4 }
                    && tunnel.remotes.contains { $0.isIPv4 == mode.outerIsIPv4 }
            }
        }
    }

    private static func outerBytes(_ mode: Mode) -> Int {
        mode.outerIsIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
    }

    private static func arithmetic(_ link: Link, _ modes: [Mode]) -> String {
        let sizes = modes.map { mode in
            "\(mode.name) takes inner packets of \(link.mtu - outerBytes(mode)) bytes, MSS "
                + "\(link.mtu - mode.headerBytes)"
        }
        return "\(link.name) has MTU \(link.mtu): \(sizes.joined(separator: "; "))"
    }

    /// IPv6 has no link of fewer than 1280 bytes (RFC 8200 §5).
    private static func narrow(_ link: Link, _ modes: [Mode]) -> [Line] {
        let outer = modes.filter { !$0.innerIsIPv4 }.map(outerBytes).max() ?? 0
        guard outer > 0, link.mtu < 1280 + outer else { return [] }
        return [
            .warning(
                "\(link.name) has MTU \(link.mtu), which leaves \(link.mtu - outer) bytes for inner IPv6",
                effect: "Inner IPv6 packets of up to 1280 bytes, which every IPv6 host may send, do not fit.",
                command: "ip link set dev \(link.name) mtu \(1280 + outer)")
        ]
    }

    private static func fixed(_ link: Link, _ modes: [Mode], _ examination: Examination) -> [Line] {
        let mss = examination.configuration.mss
        return [(true, mss.ipv4), (false, mss.ipv6)].compactMap { isIPv4, clamp in
            let largest = modes.filter { $0.innerIsIPv4 == isIPv4 }.map { link.mtu - $0.headerBytes }.min()
            guard case .fixed(let bytes) = clamp, let largest, bytes > largest else { return nil }
            let key = isIPv4 ? "ipv4" : "ipv6"
            return .warning(
                "mss.\(key) is \(bytes), and the MTU \(link.mtu) of \(link.name) leaves \(largest)",
                effect: "Full TCP segments do not fit the link: they are fragmented, or lost.",
                command: dropIn("mss: {\(key): auto}", "mss-\(key)", examination))
        }
    }

    private static func pods(_ link: Link, _ modes: [Mode], _ examination: Examination) -> [Line] {
        guard examination.configuration.mss.replies == .off, let outer = modes.map(outerBytes).max() else {
            return []
        }
        let links = examination.podLinks
        let pods = examination.facts.links.filter { links.contains($0.name) && $0.mtu + outer > link.mtu }
        guard let first = pods.first else { return [] }
        let names = pods.count == 1 ? first.name : "\(first.name) and \(pods.count - 1) more"
        let size = pods.map(\.mtu).max() ?? first.mtu
        return [
            .warning(
                "pods behind \(names) have MTU \(size): with an outer header of \(outer) bytes that makes "
                    + "\(size + outer), and \(link.name) takes \(link.mtu)",
                effect: """
                    Their SYN-ACKs announce an MSS of \(size - 40) (IPv4), so full segments of clients \
                    do not fit and large uploads stall. The command lowers that MSS; a pod MTU of \
                    \(link.mtu - outer) does, too.
                    """,
                command: dropIn("mss: {replies: nft}", "mss-replies", examination))
        ]
    }

    /// Merges text over the configuration.
    private static func dropIn(_ text: String, _ name: String, _ examination: Examination) -> String {
        let (folder, file) = (examination.dropIns, "\(examination.dropIns)/50-\(name).yaml")
        let socket = examination.configuration.admin.socket
        let option = socket == Configuration.Admin().socket ? "" : " --socket \(socket.shellWord)"
        return "mkdir -p \(folder.shellWord) && echo '\(text)' >\(file.shellWord) && shuck reload\(option)"
    }

    private static func slots(_ link: Link, _ examination: Examination) -> Line {
        let slot = Limits.slotBytes(mtu: link.mtu)
        let rings = max(examination.facts.cpus.count, 1) * examination.configuration.interfaces.count
        let bytes = Limits.ringBytes(rings: rings)
        let fact =
            "MTU \(link.mtu) of \(link.name) makes slots of \(slot) bytes; a ring of "
            + "\(bytes >> 20) MiB holds \(bytes / slot) frames"
        guard slot > Limits.slotBytesMin else { return .ok(fact) }
        return .warning(
            fact,
            effect: """
                A burst of more frames than that is lost. If the balancers send no jumbo frames, the \
                smaller MTU keeps \(bytes / Limits.slotBytesMin) frames.
                """,
            command: "ip link set dev \(link.name) mtu 1500")
    }
}
