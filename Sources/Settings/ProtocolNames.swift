// Names of IP protocols as in IANA's registry and /etc/protocols.

import IP

extension ProtocolNumber {
    static let names: [(name: String, number: UInt8)] = [
        ("icmp", icmp), ("igmp", igmp), ("ipip", ipv4), ("tcp", tcp), ("udp", udp), ("dccp", dccp),
        ("ipv6", ipv6), ("gre", gre), ("esp", esp), ("ah", authentication), ("icmpv6", icmpv6),
        ("ospf", ospf), ("pim", pim), ("vrrp", vrrp), ("l2tp", l2tp), ("sctp", sctp),
        ("udplite", udplite), ("mpls", mplsInIP),
    ]

    /// Reads a name or a decimal number.
    package static func number(named text: String) -> UInt8? {
        names.first { $0.name == text }?.number ?? decimal(text).flatMap(UInt8.init(exactly:))
    }

    /// The name, or the number where it has none.
    static func text(_ number: UInt8) -> String {
        names.first { $0.number == number }?.name ?? "\(number)"
    }
}
