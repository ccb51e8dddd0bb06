// How the types of values are read and written: words, numbers, durations, names, lists.

import Forwarding
import IP

private func oneOf(_ names: [String]) -> String {
    guard names.count > 1 else { return names.joined() }
    return names.dropLast().joined(separator: ", ") + " or " + names.last!
}

// MARK: - Words and numbers

extension Codec {
    static func word(
        _ text: @escaping @Sendable (Value) -> String = { "\($0)" }
    ) -> Codec where Value: CaseIterable & Sendable {
        word(among: Value.allCases.map { (text($0), $0) }, text)
    }

    fileprivate static func word(
        among words: [(String, Value)], _ text: @escaping @Sendable (Value) -> String
    ) -> Codec where Value: Sendable {
        let names = words.map(\.0)
        return Codec(
            shape: .choice(names.map(Shape.word)),
            read: { field in
                if let text = field.text {
                    let meant = ValueSyntax.boolean(text).map { $0 ? "on" : "off" }
                    let found = words.first { $0.0 == text } ?? words.first { $0.0 == meant }
                    if let found { return found.1 }
                    if let near = ValueSyntax.nearest(text, among: names) {
                        return field.wrong("is not known; did you mean \(near)?")
                    }
                }
                return field.wrong("is not known; write \(oneOf(names))")
            },
            item: { .scalar(text($0)) })
    }
}

extension Codec<Bool> {
    static var onOff: Codec { word(among: [("on", true), ("off", false)]) { $0 ? "on" : "off" } }
}

extension Codec<Int> {
    /// A whole number, written without quotes.
    /// - Parameter words: words that may be written instead, for the messages.
    static func number(_ range: ClosedRange<Int>, _ unit: String, or words: [String] = []) -> Codec {
        let numbers = "a number from \(range.lowerBound) to \(range.upperBound) (\(unit))"
        let remedy = "write \(oneOf(words + [numbers]))"
        return Codec(
            shape: .number(range, unit: unit),
            read: { field in
                guard case .scalar(let text, let plain) = field.value.content,
                    let digits = text.wholeMatch(of: /-?([0-9]+)/)?.1
                else { return field.wrong("is not a number; \(remedy)") }
                guard plain else { return field.wrong("is a text; \(remedy) without quotes") }
                // Octal to some YAML readers, decimal to others.
                guard digits.count == 1 || digits.first != "0" else {
                    return field.wrong("starts with 0; \(remedy)")
                }
                guard let number = Int(text), range.contains(number) else {
                    return field.wrong("is out of range; \(remedy)")
                }
                return number
            },
            item: { .scalar("\($0)") })
    }

    /// Bytes: 0, or a size in a range.
    static func size(_ range: ClosedRange<Int>) -> Codec {
        let bounds =
            "0, or \(ValueSyntax.sizeText(range.lowerBound)) to \(ValueSyntax.sizeText(range.upperBound))"
        return text(
            .text("size: \(bounds)", pattern: "^[0-9]+([KMG]iB|B)?$"),
            wrong: "is not a size; write 0, bytes, or a number with KiB, MiB or GiB, as 4MiB",
            read: ValueSyntax.size, text: ValueSyntax.sizeText
        ).refined { field, bytes in
            bytes == 0 || range.contains(bytes)
                ? bytes : field.wrong("is out of range; write \(bounds)")
        }
    }
}

extension Codec<MSSClamp> {
    static func clamp(_ range: ClosedRange<Int>) -> Codec {
        let words = ["auto", "off"]
        let number = Codec<Int>.number(range, "bytes", or: words)
        return Codec(
            shape: .choice(words.map(Shape.word) + [number.shape]),
            read: { field in
                if field.says("auto") { return .auto }
                if field.says("off") { return .off }
                return number.read(field).map { .fixed(UInt16($0)) }
            },
            item: { .scalar($0.text) })
    }
}

extension Codec<Duration> {
    static func duration(_ range: ClosedRange<Duration>, example: String) -> Codec {
        let bounds =
            "\(ValueSyntax.durationText(range.lowerBound)) to \(ValueSyntax.durationText(range.upperBound))"
        return Codec(
            shape: .text("duration: \(bounds)", pattern: "^(0|[0-9]+(us|ms|s|m|h))$"),
            read: { field in
                guard let text = field.text else {
                    return field.wrong("is not a duration; write one such as \(example)")
                }
                guard let duration = ValueSyntax.duration(text) else {
                    return field.wrong(
                        decimal(text) != nil
                            ? "has no unit; write us, ms, s, m or h behind it"
                            : "is not a duration; write a number with us, ms, s, m or h, as \(example)")
                }
                guard range.contains(duration) else {
                    return field.wrong("is out of range; write \(bounds)")
                }
                return duration
            },
            item: { .scalar(ValueSyntax.durationText($0)) })
    }
}

// MARK: - Names

extension Codec<String> {
    /// The kernel's own rule, dev_valid_name(); `%` would make a pattern of a device's name.
    static var interfaceName: Codec {
        Codec(
            shape: .text("name", pattern: "^[^ /:%]{1,15}$"),
            read: { field in
                guard let text = field.text else {
                    return field.wrong("is not an interface name; write one such as eth0")
                }
                guard !text.isEmpty, text.utf8.count <= 15 else {
                    return field.wrong("is not an interface name; write 1 to 15 bytes")
                }
                let isPlain = text.unicodeScalars.allSatisfy {
                    $0.value > 0x20 && $0.value != 0x7f && !"/:%".unicodeScalars.contains($0)
                }
                guard isPlain, text != ".", text != ".." else {
                    return field.wrong("is not an interface name; leave out spaces, / : and %")
                }
                return text
            },
            item: { .scalar(Item.quoted($0)) })
    }

    /// A tunnel's name: a label of metrics, and part of the paths in messages.
    static var tunnelName: Codec {
        .text(
            .text("name", pattern: "^[A-Za-z0-9_.-]{1,63}$"),
            wrong: "is not a name; write 1 to 63 letters, digits, _ . or -",
            read: { (1...63).contains($0.utf8.count) && ValueSyntax.isName($0) ? $0 : nil }, text: Item.quoted
        )
    }

    static func absolutePath(_ type: String, bytesMax: Int) -> Codec {
        text(
            .text(type, pattern: "^/"), wrong: "is not an absolute path; write one that starts with /",
            read: { path in
                let isPlain = path.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f }
                return path.hasPrefix("/") && isPlain ? path : nil
            }, text: Item.quoted
        ).refined { field, path in
            path.utf8.count <= bytesMax
                ? path : field.wrong("is too long; write at most \(bytesMax) bytes")
        }
    }
}

// MARK: - Lists, and values of other texts

extension Codec {
    /// A value with one text, and one message for all that is wrong.
    static func text(
        _ shape: Shape, wrong: String, read: @escaping @Sendable (String) -> Value?,
        text: @escaping @Sendable (Value) -> String
    ) -> Codec {
        Codec(
            shape: shape,
            read: { field in field.text.flatMap(read) ?? field.wrong(wrong) },
            item: { .scalar(text($0)) })
    }

    /// A list whose items are read one by one; wrong items are left out.
    /// - Parameter orElse: what to do instead of writing an empty list; nil: the list may be empty.
    /// - Parameter areNames: whether each item may be listed once only.
    static func list<Element: Equatable & Sendable>(
        _ type: String, of element: Codec<Element>, example: String, orElse: String? = nil,
        limit: Limit? = nil, areNames: Bool = false
    ) -> Codec where Value == [Element] {
        Codec(
            shape: .list(type, of: element.shape),
            read: { field in
                field.items(example: example, orElse: orElse, limit: limit)?.reduce(into: []) {
                    values, item in
                    guard let value = element.read(item) else { return }
                    guard areNames, values.contains(value) else { return values.append(value) }
                    item.error("\"\(item.text ?? "")\" is listed twice; remove one")
                }
            },
            item: { values in
                guard !values.isEmpty || orElse == nil else { return nil }
                return .list(values.compactMap { element.item($0).map(Item.line) })
            })
    }

    /// A list of mappings.
    /// - Parameters:
    ///   - name: the first key, when it tells the mappings apart; nil: each is written as one row.
    ///   - remedy: a mapping to suggest for a text.
    ///   - isPartial: whether a mapping counts although a required key is missing or wrong.
    ///   - note: called with each mapping that counts.
    static func mappings<Element: Keyed>(
        name: (KeyPath<Element, String> & Sendable)? = nil, example: String, orElse: String? = nil,
        limit: Limit? = nil, remedy: @escaping @Sendable (String) -> String? = { _ in nil },
        isPartial: Bool = false, note: @escaping @Sendable (Section, Element) -> Void = { _, _ in }
    ) -> Codec where Value == [Element] {
        let keys = Element.keys
        let (first, rest) = (
            Array(keys.prefix(name == nil ? 0 : 1)), Array(keys.dropFirst(name == nil ? 0 : 1))
        )
        return Codec(
            shape: .mappings(keys.map(\.description)),
            read: { field in
                var named: [String: Position] = [:]
                return field.items(example: example, orElse: orElse, limit: limit)?.compactMap { item in
                    guard var section = item.section(Key.groups(keys, 0).map(\.name), remedy: remedy) else {
                        return nil
                    }
                    var element = Element.initial
                    var isWhole = field.loader.read(first, of: section, into: &element)
                    if isWhole, let name, let key = section["name"] {
                        let text = element[keyPath: name]
                        if let earlier = named.updateValue(key.position, forKey: text) {
                            key.error(
                                "\"\(text)\" is the name of the one at \(field.loader.report.place(earlier)) "
                                    + "too; choose another")
                        }
                        section.path = "\(field.path).\(text)"
                    }
                    isWhole = field.loader.read(rest, of: section, into: &element) && isWhole
                    field.loader.note(section)
                    guard isWhole || isPartial else { return nil }
                    note(section, element)
                    return element
                }
            },
            item: { elements in
                guard !elements.isEmpty || orElse == nil else { return nil }
                let items = elements.map { Item.mapping(Key.items($0, rest)) }
                guard let name else { return .rows(items.map(Item.line)) }
                return .named(zip(elements, items).map { ($0[keyPath: name], $1) })
            })
    }
}
