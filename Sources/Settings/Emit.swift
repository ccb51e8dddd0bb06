// A configuration as YAML that loads again to an equal one, and what differs between two.

import Forwarding
import Routing

/// What is written under a key.
private indirect enum Item {
    case scalar(String)
    /// On one line: `[a, b]`.
    case list([String])
    case mapping([(String, Item)])
    /// A list of mappings, each with a `name` that tells it from the others.
    case named([(String, Item)])
    /// A list of one-line mappings, told apart by their text.
    case rows([String])
}

extension Configuration {
    /// The effective configuration: every key with its value, as YAML. A checked configuration
    /// loads again to an equal one. What means "any" has no value to write and is left out:
    /// a tunnel's `destinations`, and a destination's `ports` and `mss`.
    public var yaml: String {
        var text = "# The effective configuration: every key, also where it is the default.\n"
        for (key, item) in items { Self.write(key, item, indent: "", to: &text) }
        return text
    }

    /// What changed, one line a change: `tunnels.lvs.remotes: [192.0.2.0/24] -> [192.0.2.0/25]`,
    /// `tunnels.lvs: added`, `tunnels.lvs.destinations: removed {…}`. Empty: nothing changed.
    public func differences(from old: Configuration) -> [String] {
        lines(from: old).map { Self.needsRestart($0) ? "\($0) (needs a restart)" : $0 }
    }

    /// Those of the differences that a running shuck cannot take up.
    public func changesNeedingRestart(from old: Configuration) -> [String] {
        lines(from: old).filter(Self.needsRestart)
    }

    /// Threads are pinned, and the admin endpoint bound, once.
    private static func needsRestart(_ line: String) -> Bool {
        line.hasPrefix("workers.cpus:") || line.hasPrefix("admin.")
    }

    private func lines(from old: Configuration) -> [String] {
        var lines: [String] = []
        Self.compare(.mapping(old.items), .mapping(items), path: "", lines: &lines)
        return lines
    }
}

// MARK: - The keys, in the order of the file

extension Configuration {
    private var items: [(String, Item)] {
        let overrides = reversePath.interfaces.sorted { $0.key < $1.key }
        return [
            ("interfaces", .list(interfaces.map(Self.quoted))),
            ("tunnels", .named(tunnels.map { ($0.name, .mapping(items(of: $0))) })),
            ("devices", .named(devices.map { ($0.name, .mapping(items(of: $0))) })),
            (
                "reversePath",
                .mapping([
                    ("mode", .scalar(reversePath.mode.text)),
                    ("interfaces", .mapping(overrides.map { ($0.key, .scalar($0.value.text)) })),
                    ("exempt", Self.list(reversePath.exempt)),
                ])
            ),
            (
                "mss",
                .mapping([
                    ("ipv4", .scalar(mss.ipv4.text)), ("ipv6", .scalar(mss.ipv6.text)),
                    ("replies", .scalar(mss.replies.rawValue)),
                ])
            ),
            (
                "outer",
                .mapping([
                    ("ecn", .scalar("\(outer.ecn)")), ("dscp", .scalar("\(outer.dscp)")),
                    ("ttl", .scalar("\(outer.ttl)")),
                    (
                        "fragments",
                        .mapping([
                            ("memory", .scalar(Words.sizeText(outer.fragments.memory))),
                            ("timeout", .scalar(Words.durationText(outer.fragments.timeout))),
                        ])
                    ),
                ])
            ),
            (
                "inner",
                .mapping([
                    ("martians", .scalar(inner.martians.rawValue)),
                    ("deny", Self.list(inner.deny)),
                    ("rewriteSources", .rows(inner.rewriteSources.map(Self.row))),
                ])
            ),
        ] + daemonItems
    }

    /// The keys that no packet's verdict depends on.
    private var daemonItems: [(String, Item)] {
        [
            (
                "icmp",
                .mapping([
                    ("ratePerSecond", .scalar("\(icmp.ratePerSecond)")),
                    ("burst", .scalar("\(icmp.burst)")),
                    ("source4", .scalar(icmp.source4?.text ?? "auto")),
                    ("source6", .scalar(icmp.source6.map { "\"\($0.text)\"" } ?? "auto")),
                ])
            ),
            (
                "limits",
                .mapping([
                    ("packetsPerSecond", .scalar(limits.packetsPerSecond.map(String.init) ?? "off")),
                    ("perRemote", .scalar(limits.perRemote.map(String.init) ?? "off")),
                ])
            ),
            (
                "workers",
                .mapping([
                    ("cpus", .scalar(workers.cpus.map { "\"\(Words.cpusText($0))\"" } ?? "auto")),
                    ("busyPoll", .scalar(Words.durationText(workers.busyPoll))),
                    ("coalesce", .scalar(workers.coalesce ? "on" : "off")),
                ])
            ),
            ("consume", .scalar(consume.rawValue)),
            ("mode", .scalar(mode.rawValue)),
            ("probes", .rows([])),
            (
                "admin",
                .mapping([
                    ("socket", .scalar(Self.quoted(admin.socket))),
                    ("mode", .scalar("\"\(Words.permissionsText(admin.mode))\"")),
                    ("group", .scalar(admin.group.map(Self.quoted) ?? "null")),
                    ("listen", .scalar(admin.listen.map { Self.quoted($0.text) } ?? "null")),
                    ("listenStatus", .scalar(admin.listenStatus ? "on" : "off")),
                ])
            ),
            (
                "log",
                .mapping([
                    ("level", .scalar(log.level.rawValue)), ("format", .scalar(log.format.rawValue)),
                ])
            ),
        ]
    }

    private func items(of tunnel: Tunnel) -> [(String, Item)] {
        let names = tunnel.interfaces.isEmpty ? interfaces : tunnel.interfaces
        let modes = Mode.allCases.filter(tunnel.modes.contains)
        let destinations = tunnel.destinations.map { row($0) }
        return [
            ("interfaces", .list(names.map(Self.quoted))),
            ("local", Self.list(tunnel.local)),
            ("remotes", Self.list(tunnel.remotes)),
            ("otherRemotes", .scalar(tunnel.otherRemotes.rawValue)),
            ("modes", .list(modes.map(\.name))),
        ] + (destinations.isEmpty ? [] : [("destinations", .rows(destinations))])
    }

    private func items(of device: Device) -> [(String, Item)] {
        [
            ("mtu", .scalar("\(device.mtu)")),
            ("netns", .scalar(device.netns.map(Self.quoted) ?? "null")),
            ("address", .scalar(Self.quoted(device.address.text))),
        ]
    }

    private func row(_ destination: Destination) -> String {
        var parts = [
            "prefix: \(Self.quoted(destination.prefix.text))",
            "protocol: \(Words.protocolText(destination.protocolNumber))",
        ]
        if !destination.ports.isEmpty {
            let ports = destination.ports.map { Self.quoted(Words.portsText($0)) }
            parts.append("ports: [\(ports.joined(separator: ", "))]")
        }
        if let device = destination.device ?? devices.first?.name {
            parts.append("device: \(Self.quoted(device))")
        }
        if let mss = destination.mss { parts.append("mss: \(mss.text)") }
        return "{\(parts.joined(separator: ", "))}"
    }

    private static func row(_ rewrite: RewriteSource) -> String {
        "{from: \(quoted(rewrite.from.text)), to: \(quoted(rewrite.to.text)), "
            + "interface: \(quoted(rewrite.interface))}"
    }

    private static func list(_ prefixes: [Prefix]) -> Item {
        .list(prefixes.map { quoted($0.text) })
    }

    /// The text as a YAML scalar that every reader takes for this text: in quotes unless it is
    /// a plain word, a path, a number or an IPv4 address.
    private static func quoted(_ text: String) -> String {
        let isSafe = text.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20)
                || "_./-".utf8.contains($0)
        }
        let first = text.utf8.first.map { $0 != 0x2d && $0 != 0x2e } ?? false
        let isWord = Words.boolean(text) == nil && text.lowercased() != "null"
        if isSafe, first, isWord { return text }
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case " "..."~": escaped.unicodeScalars.append(scalar)
            default:
                let digits = String(scalar.value, radix: 16, uppercase: true)
                escaped += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
            }
        }
        return "\"\(escaped)\""
    }
}

// MARK: - Writing

extension Configuration {
    private static func write(_ key: String, _ item: Item, indent: String, to text: inout String) {
        text += "\(indent)\(key):"
        let inner = indent + "  "
        switch item {
        case .scalar(let value): text += " \(value)\n"
        case .list(let values): text += " [\(values.joined(separator: ", "))]\n"
        case .mapping(let entries) where entries.isEmpty: text += " {}\n"
        case .mapping(let entries):
            text += "\n"
            for (key, item) in entries { write(quoted(key), item, indent: inner, to: &text) }
        case .named(let entries) where entries.isEmpty: text += " []\n"
        case .named(let entries):
            text += "\n"
            for (name, item) in entries {
                text += "\(inner)- name: \(quoted(name))\n"
                guard case .mapping(let keys) = item else { continue }
                for (key, item) in keys { write(key, item, indent: inner + "  ", to: &text) }
            }
        case .rows(let rows) where rows.isEmpty: text += " []\n"
        case .rows(let rows):
            text += "\n"
            for row in rows { text += "\(inner)- \(row)\n" }
        }
    }

    /// The value in one line, as a difference shows it.
    private static func line(_ item: Item?) -> String {
        switch item {
        case nil: "(none)"
        case .scalar(let value): value
        case .list(let values): "[\(values.joined(separator: ", "))]"
        case .rows(let rows): "[\(rows.joined(separator: ", "))]"
        case .mapping(let entries), .named(let entries):
            "{\(entries.map { "\($0.0): \(line($0.1))" }.joined(separator: ", "))}"
        }
    }
}

// MARK: - Comparing

extension Configuration {
    private static func compare(_ old: Item?, _ new: Item?, path: String, lines: inout [String]) {
        switch (old, new) {
        case (.mapping(let old), .mapping(let new)):
            let start = path.isEmpty ? "" : path + "."
            let added = new.filter { entry in !old.contains { $0.0 == entry.0 } }
            for key in (old + added).map(\.0) {
                compare(
                    old.first { $0.0 == key }?.1, new.first { $0.0 == key }?.1,
                    path: start + key, lines: &lines)
            }
        case (.named(let old), .named(let new)):
            compareNamed(old, new, path: path, lines: &lines)
        case (.rows, _), (_, .rows):
            compareRows(rows(old), rows(new), path: path, lines: &lines)
        default:
            let (before, after) = (line(old), line(new))
            if before != after { lines.append("\(path): \(before) -> \(after)") }
        }
    }

    private static func compareNamed(
        _ old: [(String, Item)], _ new: [(String, Item)], path: String, lines: inout [String]
    ) {
        let (oldNames, newNames) = (old.map(\.0), new.map(\.0))
        for name in oldNames where !newNames.contains(name) {
            lines.append("\(path).\(name): removed")
        }
        for (name, item) in new {
            guard let before = old.first(where: { $0.0 == name })?.1 else {
                lines.append("\(path).\(name): added")
                continue
            }
            compare(before, item, path: "\(path).\(name)", lines: &lines)
        }
        let (before, after) = (
            oldNames.filter(newNames.contains), newNames.filter(oldNames.contains)
        )
        if before != after {
            lines.append(
                "\(path): order [\(before.joined(separator: ", "))]"
                    + " -> [\(after.joined(separator: ", "))]")
        }
    }

    private static func rows(_ item: Item?) -> [String] {
        if case .rows(let rows) = item { return rows }
        return []
    }

    /// Long lists of which little changes: what came and what went, not the whole twice.
    private static func compareRows(
        _ old: [String], _ new: [String], path: String, lines: inout [String]
    ) {
        let (oldRows, newRows) = (Set(old), Set(new))
        lines += old.filter { !newRows.contains($0) }.map { "\(path): removed \($0)" }
        lines += new.filter { !oldRows.contains($0) }.map { "\(path): added \($0)" }
        if old.filter(newRows.contains) != new.filter(oldRows.contains) {
            lines.append("\(path): order changed")
        }
    }
}
