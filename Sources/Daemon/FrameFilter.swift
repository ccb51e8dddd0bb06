// Filters for tcpdump that look into encapsulated packets.

/// Builds texts in the language of pcap-filter(7). The language knows nothing of inner packets, so they are
/// read by their place: behind an outer IPv4 header without options, or an IPv6 header without extension
/// headers.
enum FrameFilter {
    static let encapsulated = "ip proto 4 or ip proto 41 or ip6 proto 4 or ip6 proto 41"

    /// Outer fragments.
    static let fragments = "((ip proto 4 or ip proto 41) and ip[6:2] & 0x3fff != 0) or ip6[6] = 44"

    /// Frames whose outer and inner header both meet a condition, in each mode.
    ///
    /// In conditions on inner headers `$8` is byte 8, and `$12:4` the four bytes from 12 on. `and` and `or`
    /// bind alike in this language, so a condition with `or` needs brackets.
    /// - Parameters: an empty text: any header; nil: none of that family.
    static func frames(
        outer4: String? = "", outer6: String? = "", inner4: String? = nil, inner6: String? = nil
    ) -> String {
        let modes: [(family: String, start: Int, number: Int, outer: String?, inner: String?)] = [
            ("ip", 20, 4, outer4, inner4), ("ip", 20, 41, outer4, inner6), ("ip6", 40, 4, outer6, inner4),
            ("ip6", 40, 41, outer6, inner6),
        ]
        var parts: [String] = []
        for mode in modes {
            guard let outer = mode.outer, let inner = mode.inner else { continue }
            let placed = inner.replacing(/\$([0-9]+)(:[0-9])?/) { found in
                "\(mode.family)[\(mode.start + (Int(found.1) ?? 0))\(found.2 ?? "")]"
            }
            let conditions = [outer, placed].filter { !$0.isEmpty }
            parts.append(
                "(" + (["\(mode.family) proto \(mode.number)"] + conditions).joined(separator: " and ") + ")")
        }
        return parts.joined(separator: " or ")
    }
}
