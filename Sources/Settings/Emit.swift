// A configuration as YAML that loads again to an equal one, and what differs between two.

/// What is written under a key.
indirect enum Item: Sendable {
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
        for (key, item) in Key.items(withNames) { item.write(key, indent: "", to: &text) }
        return text
    }

    /// What changed, one line a change: `tunnels.lvs.remotes: [192.0.2.0/24] -> [192.0.2.0/25]`,
    /// `tunnels.lvs: added`, `tunnels.lvs.destinations: removed {…}`. Empty: nothing changed.
    public func differences(from old: Configuration) -> [String] {
        changes(from: old).map { Self.needsRestart($0) ? "\($0) (needs a restart)" : $0 }
    }

    /// Those of the differences that a running shuck cannot take up.
    public func changesNeedingRestart(from old: Configuration) -> [String] {
        changes(from: old).filter(Self.needsRestart)
    }

    private static func needsRestart(_ change: String) -> Bool {
        keys.map(\.description).contains {
            $0.needsRestart && change.hasPrefix("\($0.path.joined(separator: ".")): ")
        }
    }

    private func changes(from old: Configuration) -> [String] {
        var changes: [String] = []
        Item.compare(
            .mapping(Key.items(old.withNames)), .mapping(Key.items(withNames)), path: "", &changes)
        return changes
    }
}

// MARK: - Writing

extension Item {
    fileprivate func write(_ key: String, indent: String, to text: inout String) {
        text += "\(indent)\(key):"
        let inner = indent + "  "
        switch self {
        case .scalar(let value): text += " \(value)\n"
        case .list(let values): text += " [\(values.joined(separator: ", "))]\n"
        case .mapping(let entries) where entries.isEmpty: text += " {}\n"
        case .mapping(let entries):
            text += "\n"
            for (key, item) in entries { item.write(Self.quoted(key), indent: inner, to: &text) }
        case .named(let entries) where entries.isEmpty: text += " []\n"
        case .named(let entries):
            text += "\n"
            for (name, item) in entries {
                text += "\(inner)- name: \(Self.quoted(name))\n"
                guard case .mapping(let keys) = item else { continue }
                for (key, item) in keys { item.write(key, indent: inner + "  ", to: &text) }
            }
        case .rows(let rows) where rows.isEmpty: text += " []\n"
        case .rows(let rows):
            text += "\n"
            for row in rows { text += "\(inner)- \(row)\n" }
        }
    }

    /// The value in one line, as a difference shows it.
    static func line(_ item: Item?) -> String {
        switch item {
        case nil: "(none)"
        case .scalar(let value): value
        case .list(let values): "[\(values.joined(separator: ", "))]"
        case .rows(let rows): "[\(rows.joined(separator: ", "))]"
        case .mapping(let entries), .named(let entries):
            "{\(entries.map { "\($0.0): \(line($0.1))" }.joined(separator: ", "))}"
        }
    }

    /// The text as a YAML scalar that every reader takes for this text: in quotes unless it is
    /// a plain word, a path, a number or an IPv4 address.
    static func quoted(_ text: String) -> String {
        let isSafe = Words.isName(text, with: "_./-")
        let first = text.utf8.first.map { $0 != 0x2d && $0 != 0x2e } ?? false
        let isWord = Words.boolean(text) == nil && text.lowercased() != "null"
        if isSafe, first, isWord { return text }
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case " "..."~": escaped.unicodeScalars.append(scalar)
            default:
                escaped += "\\U" + Words.padded(String(scalar.value, radix: 16, uppercase: true), to: 8)
            }
        }
        return "\"\(escaped)\""
    }
}

// MARK: - Comparing

extension Item {
    fileprivate static func compare(_ old: Item?, _ new: Item?, path: String, _ changes: inout [String]) {
        switch (old, new) {
        case (.mapping(let old), .mapping(let new)):
            let start = path.isEmpty ? "" : path + "."
            let added = new.filter { entry in !old.contains { $0.0 == entry.0 } }
            for key in (old + added).map(\.0) {
                compare(
                    old.first { $0.0 == key }?.1, new.first { $0.0 == key }?.1,
                    path: start + key, &changes)
            }
        case (.named(let old), .named(let new)):
            compareNamed(old, new, path: path, &changes)
        case (.rows, _), (_, .rows):
            compareRows(rows(old), rows(new), path: path, &changes)
        default:
            let (before, after) = (line(old), line(new))
            if before != after { changes.append("\(path): \(before) -> \(after)") }
        }
    }

    private static func compareNamed(
        _ old: [(String, Item)], _ new: [(String, Item)], path: String, _ changes: inout [String]
    ) {
        let (oldNames, newNames) = (old.map(\.0), new.map(\.0))
        for name in oldNames where !newNames.contains(name) {
            changes.append("\(path).\(name): removed")
        }
        for (name, item) in new {
            guard let before = old.first(where: { $0.0 == name })?.1 else {
                changes.append("\(path).\(name): added")
                continue
            }
            compare(before, item, path: "\(path).\(name)", &changes)
        }
        let (before, after) = (
            oldNames.filter(newNames.contains), newNames.filter(oldNames.contains)
        )
        if before != after {
            changes.append(
                "\(path): order [\(before.joined(separator: ", "))] -> [\(after.joined(separator: ", "))]")
        }
    }

    private static func rows(_ item: Item?) -> [String] {
        if case .rows(let rows) = item { return rows }
        return []
    }

    /// Long lists of which little changes: what came and what went, not the whole twice.
    private static func compareRows(
        _ old: [String], _ new: [String], path: String, _ changes: inout [String]
    ) {
        let (oldRows, newRows) = (Set(old), Set(new))
        changes += old.filter { !newRows.contains($0) }.map { "\(path): removed \($0)" }
        changes += new.filter { !oldRows.contains($0) }.map { "\(path): added \($0)" }
        if old.filter(newRows.contains) != new.filter(oldRows.contains) {
            changes.append("\(path): order changed")
        }
    }
}
