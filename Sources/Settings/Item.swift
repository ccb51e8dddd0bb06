// What is written under a key: its YAML, and what differs between two.

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

// MARK: - Writing

extension Item {
    func write(_ key: String, indent: String = "", to text: inout String) {
        text += "\(indent)\(key):"
        let inner = indent + "  "
        switch self {
        case .mapping(let entries) where !entries.isEmpty:
            text += "\n"
            for (key, item) in entries { item.write(Self.quoted(key), indent: inner, to: &text) }
        case .named(let entries) where !entries.isEmpty:
            text += "\n"
            for (name, item) in entries {
                text += "\(inner)- name: \(Self.quoted(name))\n"
                guard case .mapping(let keys) = item else { continue }
                for (key, item) in keys { item.write(key, indent: inner + "  ", to: &text) }
            }
        case .rows(let rows) where !rows.isEmpty:
            text += "\n" + rows.map { "\(inner)- \($0)\n" }.joined()
        default: text += " \(Self.line(self))\n"
        }
    }

    /// The value in one line, as a difference shows it.
    static func line(_ item: Item?) -> String {
        switch item {
        case nil: "(none)"
        case .scalar(let value): value
        case .list(let values), .rows(let values): "[\(values.joined(separator: ", "))]"
        case .named(let entries): "[\(entries.map(\.0).joined(separator: ", "))]"
        case .mapping(let entries):
            "{\(entries.map { "\($0.0): \(line($0.1))" }.joined(separator: ", "))}"
        }
    }

    /// The text as a YAML scalar that every reader takes for this text: in quotes unless it is
    /// a plain word, a path, a number or an IPv4 address.
    static func quoted(_ text: String) -> String {
        let isSafe = ValueSyntax.isName(text, with: "_./-")
        let first = text.utf8.first.map { $0 != 0x2d && $0 != 0x2e } ?? false
        let isWord = ValueSyntax.boolean(text) == nil && text.lowercased() != "null"
        if isSafe, first, isWord { return text }
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case " "..."~": escaped.unicodeScalars.append(scalar)
            default:
                escaped += "\\U" + ValueSyntax.padded(String(scalar.value, radix: 16, uppercase: true), to: 8)
            }
        }
        return "\"\(escaped)\""
    }
}

// MARK: - Comparing

extension Item {
    /// What changed, one line per change.
    static func differences(_ old: Item?, _ new: Item?, path: String) -> [String] {
        switch (old, new) {
        case (.mapping(let old), .mapping(let new)):
            let start = path.isEmpty ? "" : path + "."
            let added = new.filter { entry in !old.contains { $0.0 == entry.0 } }
            return (old + added).map(\.0).flatMap { key in
                differences(value(of: key, in: old), value(of: key, in: new), path: start + key)
            }
        case (.named(let old), .named(let new)):
            let (oldNames, newNames) = (old.map(\.0), new.map(\.0))
            let (before, after) = (
                oldNames.filter(newNames.contains), newNames.filter(oldNames.contains)
            )
            let order = "order [\(before.joined(separator: ", "))] -> [\(after.joined(separator: ", "))]"
            return oldNames.filter { !newNames.contains($0) }.map { "\(path).\($0): removed" }
                + new.flatMap { name, item in
                    value(of: name, in: old).map { differences($0, item, path: "\(path).\(name)") }
                        ?? ["\(path).\(name): added"]
                } + (before == after ? [] : ["\(path): \(order)"])
        case (.rows, _), (_, .rows):
            // Long lists that change little: what came and what went, not the whole twice.
            let (old, new) = (rows(old), rows(new))
            let (oldRows, newRows) = (Set(old), Set(new))
            let isOrdered = old.filter(newRows.contains) == new.filter(oldRows.contains)
            return old.filter { !newRows.contains($0) }.map { "\(path): removed \($0)" }
                + new.filter { !oldRows.contains($0) }.map { "\(path): added \($0)" }
                + (isOrdered ? [] : ["\(path): order changed"])
        default:
            let (before, after) = (line(old), line(new))
            return before == after ? [] : ["\(path): \(before) -> \(after)"]
        }
    }

    private static func value(of key: String, in entries: [(String, Item)]) -> Item? {
        entries.first { $0.0 == key }?.1
    }

    private static func rows(_ item: Item?) -> [String] {
        if case .rows(let rows) = item { rows } else { [] }
    }
}
