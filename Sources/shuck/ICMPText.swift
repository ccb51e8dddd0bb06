// What an ICMP error says, in the words of RFC 792 and RFC 4443.

import Probing

extension ICMPReport {
    /// The kind of error: `fragmentation needed`.
    var what: String {
        (sender.isIPv4 ? Self.ipv4 : Self.ipv6)[[type, code]]
            ?? (sender.isIPv4 ? Self.ipv4 : Self.ipv6)[[type]] ?? "ICMP type \(type) code \(code)"
    }

    /// By type and code, or by type alone.
    private static let ipv4: [[UInt8]: String] = [
        [3, 0]: "network unreachable", [3, 1]: "host unreachable", [3, 2]: "protocol unreachable",
        [3, 3]: "port unreachable", [3, 4]: "fragmentation needed", [3, 9]: "network prohibited",
        [3, 10]: "host prohibited", [3, 13]: "prohibited by a filter", [3]: "destination unreachable",
        [11, 0]: "time to live exceeded", [11]: "reassembly time exceeded", [12]: "parameter problem",
    ]
    private static let ipv6: [[UInt8]: String] = [
        [1, 0]: "no route to destination", [1, 1]: "prohibited by a filter", [1, 3]: "address unreachable",
        [1, 4]: "port unreachable", [1, 5]: "source address refused", [1, 6]: "route refuses it",
        [1]: "destination unreachable", [2]: "packet too big", [3, 0]: "hop limit exceeded",
        [3]: "reassembly time exceeded", [4, 1]: "next header not known", [4]: "parameter problem",
    ]

    /// The node answers so when nobody takes its tunnels' packets (RFC 1812 §5.2.7.1, RFC 4443 §3.4).
    var isProtocolUnknown: Bool {
        isAboutOuter && (sender.isIPv4 ? type == 3 && code == 2 : type == 4 && code == 1)
    }
}
