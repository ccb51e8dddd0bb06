// Part of Loader (Loader.swift): Field, a value in its place. It reports what is wrong with the value, and
// knows no key of ours.

import Forwarding

/// A value, and the path of keys that leads to it.
struct Field {
    var path: String
    var value: Value
    let loader: Loader
    /// The mapping that holds it.
    var siblings: Section?
    var position: Position { value.position }

    /// A scalar's text; nil for anything else.
    var text: String? { value.text }

    /// Whether the value is this word; `null` and `off` have several spellings in YAML.
    func says(_ word: String) -> Bool {
        switch word {
        case "null": if case .null = value.content { true } else { false }
        case "off": text.flatMap(ValueSyntax.boolean) == false
        default: text == word
        }
    }

    /// The value as a message shows it.
    private var shown: String {
        switch value.content {
        case .null: "nothing"
        case .scalar(let text, let plain):
            plain && decimal(text) != nil ? text : "\"\(text)\""
        case .list: "a list"
        case .mapping: "a mapping"
        case .poison: "an unreadable value"
        }
    }

    func error(_ message: String) { loader.report.error(position, "\(path): \(message)") }

    func warning(_ message: String) { loader.report.warning(position, "\(path): \(message)") }

    /// Reports what to write instead, unless the value's problem has been reported.
    func wrong<T>(_ message: String) -> T? {
        if case .poison = value.content { return nil }
        error("\(shown) \(message)")
        return nil
    }

    // MARK: Mappings and lists

    /// The entries of a mapping; reports the keys that are not among `keys`.
    /// - Parameter remedy: what to write instead of a text.
    func section(_ keys: [String], remedy: (String) -> String? = { _ in nil }) -> Section? {
        guard var section = anyKeys(remedy: remedy) else { return nil }
        section.entries = section.entries.filter { entry in
            if keys.contains(entry.key) { return true }
            let remedy =
                ValueSyntax.nearest(entry.key, among: keys).map { "did you mean \($0)?" }
                ?? "the keys here are \(keys.joined(separator: ", "))"
            loader.report.error(
                entry.position, "\(section.path(of: entry.key)): unknown key; \(remedy)")
            return false
        }
        return section
    }

    /// The entries of a mapping whose keys are names. An empty value is an empty mapping.
    func anyKeys(remedy: (String) -> String? = { _ in nil }) -> Section? {
        var section = Section(path: path, position: position, loader: loader)
        switch value.content {
        case .mapping(let entries):
            section.entries = entries
            loader.note(section)
            return section
        case .null: return section
        default:
            let remedy = text.flatMap(remedy) ?? "keys and values, as key: value"
            return wrong("is not a mapping; write \(remedy)")
        }
    }

    /// The items of a list.
    /// - Parameter orElse: what to do instead of writing an empty list; nil: the list may be empty.
    /// - Parameter limit: how many items there may be; the first beyond is reported and not read.
    func items(example: String, orElse: String? = nil, limit: Limit? = nil) -> [Field]? {
        guard case .list(let values) = value.content else {
            return wrong("is not a list; write \(text.map { "[\($0)]" } ?? "one such as \(example)")")
        }
        if values.isEmpty, let orElse {
            error("the list is empty; \(orElse)")
            return nil
        }
        let items = values.enumerated().map { index, value in
            Field(path: "\(path)[\(index)]", value: value, loader: loader)
        }
        guard let limit, items.count > limit.value else { return items }
        items[limit.value].error(limit.refusal(of: items.count))
        return Array(items.prefix(limit.value))
    }
}
