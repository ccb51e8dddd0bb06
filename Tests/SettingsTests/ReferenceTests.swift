// The reference of the keys in docs/configuration.md and docs/probe.md, and the JSON schema for editors, as
// the tables of keys have them. `SHUCK_WRITE=1 swift test --filter ReferenceTests` writes all three.

import Foundation
import Testing

@testable import Settings

private enum Repository {
    static let root = URL(filePath: #filePath).appending(path: "../../..").standardized
    static let isWritten = ProcessInfo.processInfo.environment["SHUCK_WRITE"] != nil

    static func text(of path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// Writes the file, or compares it.
    static func check(_ path: String, _ text: String) throws {
        if isWritten {
            try text.write(to: root.appending(path: path), atomically: true, encoding: .utf8)
        }
        let isEqual = try self.text(of: path) == text
        #expect(isEqual, "SHUCK_WRITE=1 swift test --filter ReferenceTests writes \(path)")
    }
}

// MARK: - docs/configuration.md

extension Shape {
    fileprivate var reference: String {
        switch self {
        case .word(let word): "`\(word)`"
        case .number(let range, let unit):
            "\(range.lowerBound) to \(range.upperBound)" + (unit.isEmpty ? "" : " \(unit)")
        case .list("list", .choice(let words)) where !words.isEmpty:
            "list of " + Shape.choice(words).reference
        case .text(let name, _), .list(let name, _), .names(let name, _): name
        case .mappings: "list"
        case .choice(let shapes): shapes.map(\.reference).joined(separator: ", ")
        }
    }
}

private func table(_ keys: [KeyDescription], depth: Int) -> String {
    (["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        + keys.map {
            let restart = $0.needsRestart ? "; needs a restart" : ""
            return "| `\($0.path.dropFirst(depth).joined(separator: "."))` | \($0.shape.reference) | "
                + "\($0.fallback ?? "required") | \($0.help)\(restart) |"
        }).map { "\($0)\n" }.joined()
}

/// Each table by what its markers name.
private var tables: [(name: String, text: String)] {
    var tables = [
        ("keys", table(Configuration.keys.map(\.description).filter { $0.path.count == 1 }, depth: 0))
    ]
    for (name, keys) in Key.groups(Configuration.keys, 0) where keys[0].description.path.count > 1 {
        tables.append((name, table(keys.map(\.description), depth: 1)))
    }
    tables.append(("tunnels[]", table(Configuration.Tunnel.keys.map(\.description), depth: 0)))
    tables.append(
        ("tunnels[].destinations[]", table(Configuration.Destination.keys.map(\.description), depth: 0)))
    tables.append(("devices[]", table(Configuration.Device.keys.map(\.description), depth: 0)))
    tables.append(
        ("inner.rewriteSources[]", table(Configuration.RewriteSource.keys.map(\.description), depth: 0)))
    return tables
}

/// Of docs/probe.md.
private let targetTables = [
    (name: "targets", text: table(ProbeTargets.keys.map(\.description), depth: 0)),
    (name: "realservers[]", text: table(ProbeTargets.Realserver.keys.map(\.description), depth: 0)),
    (name: "services[]", text: table(ProbeTargets.Service.keys.map(\.description), depth: 0)),
]

// MARK: - JSON schema

extension Shape {
    fileprivate var schema: [String: Any] {
        switch self {
        // YAML 1.1 makes booleans of them, YAML 1.2 does not.
        case .word("on"): return ["enum": ["on", true]]
        case .word("off"): return ["enum": ["off", false]]
        case .word("null"): return ["type": "null"]
        case .word(let word): return ["const": word]
        case .number(let range, _):
            return ["type": "integer", "minimum": range.lowerBound, "maximum": range.upperBound]
        case .text(_, let pattern): return ["type": ["string", "integer"], "pattern": pattern]
        case .list(_, let shape): return ["type": "array", "items": shape.schema]
        case .names(_, let shape): return ["type": "object", "additionalProperties": shape.schema]
        case .mappings(let keys): return ["type": "array", "items": object(keys, depth: 0)]
        case .choice(let shapes): return ["anyOf": shapes.map(\.schema)]
        }
    }
}

private func object(_ keys: [KeyDescription], depth: Int) -> [String: Any] {
    var properties: [String: Any] = [:]
    for name in Set(keys.map { $0.path[depth] }) {
        let group = keys.filter { $0.path[depth] == name }
        if group[0].path.count > depth + 1 {
            properties[name] = object(group, depth: depth + 1)
        } else {
            var schema = group[0].shape.schema
            schema["description"] = group[0].help + (group[0].fallback.map { "; default: \($0)" } ?? "")
            properties[name] = schema
        }
    }
    var schema: [String: Any] = [
        "type": ["object", "null"], "properties": properties, "additionalProperties": false,
    ]
    // A drop-in need not repeat what the main file has; a mapping in a list has its name.
    let required = keys.filter {
        $0.fallback == nil && ["name", "prefix", "from", "to"].contains($0.path.last)
    }
    if !required.isEmpty { schema["required"] = required.map { $0.path[depth] }.sorted() }
    return schema
}

/// What a schema refuses: of the words of JSON Schema, those that are used here.
private func refusals(_ value: Value, _ schema: [String: Any], _ path: String = "") -> [String] {
    if let all = schema["anyOf"] as? [[String: Any]] {
        return all.contains { refusals(value, $0, path).isEmpty } ? [] : ["\(path): matches none"]
    }
    let types = schema["type"] as? [String] ?? (schema["type"] as? String).map { [$0] }
    func isType(_ names: String...) -> Bool { types.map { !$0.filter(names.contains).isEmpty } ?? true }
    switch value.content {
    case .null: return isType("null") ? [] : ["\(path): is nothing"]
    case .scalar(let text, let plain):
        var words = schema["enum"] as? [Any] ?? schema["const"].map { [$0] } ?? [text]
        if plain, let boolean = ValueSyntax.boolean(text) {
            words = words.contains { $0 as? Bool == boolean } ? [text] : words
        }
        guard words.contains(where: { $0 as? String == text }) else {
            return ["\(path): \(text) is none of \(words)"]
        }
        if plain, let number = Int(text), isType("integer") {
            let isLess = number < schema["minimum"] as? Int ?? number
            return isLess || number > schema["maximum"] as? Int ?? number ? ["\(path): \(text)"] : []
        }
        let pattern = schema["pattern"] as? String
        let matches = pattern.map { text.range(of: $0, options: .regularExpression) != nil } ?? true
        return isType("string") && matches ? [] : ["\(path): \(text) does not match"]
    case .list(let values):
        let items = schema["items"] as? [String: Any] ?? [:]
        return isType("array")
            ? values.enumerated().flatMap { refusals($1, items, "\(path)[\($0)]") } : ["\(path): is a list"]
    case .mapping(let entries):
        guard isType("object") else { return ["\(path): is a mapping"] }
        let properties = schema["properties"] as? [String: [String: Any]] ?? [:]
        let missing = (schema["required"] as? [String] ?? []).filter { key in
            !entries.contains { $0.key == key }
        }
        return missing.map { "\(path): lacks \($0)" }
            + entries.flatMap { entry in
                let path = "\(path).\(entry.key)"
                guard let schema = properties[entry.key] ?? schema["additionalProperties"] as? [String: Any]
                else {
                    return ["\(path): is no key"]
                }
                return refusals(entry.value, schema, path)
            }
    case .poison: return ["\(path): is unreadable"]
    }
}

@Suite struct ReferenceTests {
    private static func refused(_ text: String) throws -> [String] {
        let data = Data(try Repository.text(of: "tools/packaging/shuck.schema.json").utf8)
        let schema = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let value = try #require(Document.read(text, file: 0, report: Report(fileNames: ["a"])))
        return refusals(value, schema)
    }

    @Test func theSchemaTakesWhatCheckTakes() throws {
        let example = try Repository.text(of: "tools/packaging/shuck.yaml")
        let emulated = try Repository.text(of: "tools/kernel/shuck.yaml")
        let effective = try #require(Configuration.load(files: [("a", everyKey)]).configuration).yaml
        for text in [example, emulated, everyKey, effective] {
            #expect(try Self.refused(text) == [])
        }
    }

    @Test(arguments: [
        ("mode: shaddow", ".mode"), ("mtu: 1500", ".mtu"), ("mss: {ipv4: 1481}", ".mss.ipv4"),
        ("devices: [{mtu: 1500}]", ".devices[0]"), ("interfaces: eth0", ".interfaces"),
        ("outer: {fragments: {timeout: 30 s}}", ".outer.fragments.timeout"), ("log: [info]", ".log"),
        ("reversePath: {interfaces: {eth0: 1}}", ".reversePath.interfaces.eth0"),
        ("tunnels: [{name: a, modes: [ip6p]}]", ".tunnels[0].modes[0]"), ("consume: on", ".consume"),
    ])
    func theSchemaRefusesWhatCheckRefuses(_ text: String, _ place: String) throws {
        let refused = try Self.refused(text)
        #expect(refused.count == 1 && refused[0].hasPrefix("\(place): "), "\(refused)")
    }

    @Test func theTablesOfKeysAreThoseOfTheReference() throws {
        for (path, tables) in [("docs/configuration.md", tables), ("docs/probe.md", targetTables)] {
            var text = try Repository.text(of: path)
            for (name, table) in tables {
                let (start, end) = ("<!-- keys: \(name) -->\n", "<!-- end of keys -->")
                let first = try #require(text.range(of: start), "no marker \(start)")
                let last = try #require(text.range(of: end, range: first.upperBound..<text.endIndex))
                text.replaceSubrange(first.upperBound..<last.lowerBound, with: table)
            }
            try Repository.check(path, text)
        }
    }

    @Test func theSchemaIsThatOfTheKeys() throws {
        var schema = object(Configuration.keys.map(\.description), depth: 0)
        schema["$schema"] = "http://json-schema.org/draft-07/schema#"
        schema["title"] = "shuck.yaml"
        let data = try JSONSerialization.data(
            withJSONObject: schema, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
        try Repository.check(
            "tools/packaging/shuck.schema.json", String(decoding: data, as: UTF8.self) + "\n")
    }
}
