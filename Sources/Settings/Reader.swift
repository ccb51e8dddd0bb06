// From values in the tree to typed ones: each reader reports what is wrong at its place and
// then returns nil, so that the rest is still read. It knows types, and no key of ours.

import Forwarding
import Routing

/// A value, and the path of keys that leads to it.
struct Field {
    var path: String
    var value: Value
    var position: Position { value.position }

    /// A scalar's text; nil for anything else.
    var text: String? {
        guard case .scalar(let text, _) = value.content else { return nil }
        return text
    }

    var isNull: Bool {
        guard case .null = value.content else { return false }
        return true
    }

    /// The value as a message shows it.
    var shown: String {
        switch value.content {
        case .null: "nothing"
        case .scalar(let text, let plain):
            plain && decimal(text) != nil ? text : "\"\(text)\""
        case .list: "a list"
        case .mapping: "a mapping"
        case .poison: "an unreadable value"
        }
    }
}

/// Something read, and where it stands.
struct Placed<Content> {
    var content: Content
    var path: String
    var position: Position
}

/// The known keys of one mapping.
struct Section {
    var path: String
    var position: Position
    /// In the order of the file.
    var entries: [Value.Entry] = []

    func path(of key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    subscript(key: String) -> Field? {
        entries.first { $0.key == key }.map { Field(path: path(of: key), value: $0.value) }
    }
}

final class Reader {
    let report: Report
    /// Where every key that was read stands, by its path.
    private(set) var positions: [String: Position] = [:]

    init(report: Report) { self.report = report }

    func error(_ field: Field, _ message: String) {
        report.error(field.position, "\(field.path): \(message)")
    }

    func warning(_ field: Field, _ message: String) {
        report.warning(field.position, "\(field.path): \(message)")
    }

    /// Remembers where the keys of a section stand, under its path as messages have it.
    func note(_ section: Section) {
        for entry in section.entries {
            positions[section.path(of: entry.key)] = entry.value.position
        }
    }

    /// Says what should have stood there, unless that has been said.
    func wrong<T>(_ field: Field, _ message: String) -> T? {
        if case .poison = field.value.content { return nil }
        error(field, "\(field.shown) \(message)")
        return nil
    }

    // MARK: Mappings and lists

    /// The entries of a mapping; reports the keys that are not among `keys`.
    func section(_ field: Field, keys: [String]) -> Section? {
        guard var section = anyKeys(field) else { return nil }
        let unknown = section.entries.filter { !keys.contains($0.key) }
        section.entries.removeAll { !keys.contains($0.key) }
        for entry in unknown {
            let path = section.path(of: entry.key)
            let mend =
                Words.nearest(entry.key, among: keys).map { "did you mean \($0)?" }
                ?? "the keys here are \(keys.joined(separator: ", "))"
            report.error(entry.position, "\(path): unknown key; \(mend)")
        }
        return section
    }

    /// The entries of a mapping whose keys are names. An empty value is an empty mapping.
    func anyKeys(_ field: Field) -> Section? {
        switch field.value.content {
        case .mapping(let entries):
            let section = Section(path: field.path, position: field.position, entries: entries)
            note(section)
            return section
        case .null: return Section(path: field.path, position: field.position)
        default: return wrong(field, "is not a mapping; write keys and values, as key: value")
        }
    }

    /// Reads `key` into `target`, where it is written and right.
    func read<T>(
        _ key: String, of section: Section, into target: inout T, as body: (Field) -> T?
    ) {
        if let value = section[key].flatMap(body) { target = value }
    }

    /// Reads a key that must be there.
    func required<T>(
        _ key: String, of section: Section, example: String, as body: (Field) -> T?
    ) -> T? {
        guard let field = section[key] else {
            if !report.isPartial {
                report.error(
                    section.position, "\(section.path(of: key)): missing; write \(key): \(example)")
            }
            return nil
        }
        return body(field)
    }

    /// The items of a list.
    /// - Parameter orElse: what to do instead of writing an empty list; nil: it may be empty.
    func items(_ field: Field, example: String, orElse: String? = nil) -> [Field]? {
        guard case .list(let values) = field.value.content else {
            if let text = field.text { return wrong(field, "is not a list; write [\(text)]") }
            return wrong(field, "is not a list; write one such as \(example)")
        }
        if values.isEmpty, let orElse {
            error(field, "the list is empty; \(orElse)")
            return nil
        }
        return values.enumerated().map { index, value in
            Field(path: "\(field.path)[\(index)]", value: value)
        }
    }

    /// A list whose items are read each by itself; those that are wrong are left out.
    func list<T>(
        _ field: Field, example: String, orElse: String? = nil, as body: (Field) -> T?
    ) -> [Placed<T>]? {
        items(field, example: example, orElse: orElse)?.compactMap { item in
            body(item).map { Placed(content: $0, path: item.path, position: item.position) }
        }
    }

    /// As many items as a bound allows; reports the first beyond it, and reads none of those.
    func bounded(_ items: [Field], by limit: Limit) -> ArraySlice<Field> {
        if items.count > limit.value { error(items[limit.value], limit.refusal(of: items.count)) }
        return items.prefix(limit.value)
    }

    // MARK: Words and numbers

    func word<T>(_ field: Field, among words: [(String, T)]) -> T? {
        let names = words.map(\.0)
        if let text = field.text {
            if let found = words.first(where: { $0.0 == text }) { return found.1 }
            if let boolean = Words.boolean(text),
                let found = words.first(where: { $0.0 == (boolean ? "on" : "off") })
            {
                return found.1
            }
            if let near = Words.nearest(text, among: names) {
                return wrong(field, "is not known; did you mean \(near)?")
            }
        }
        return wrong(field, "is not known; write \(oneOf(names))")
    }

    func word<T: CaseIterable & RawRepresentable<String>>(_ field: Field) -> T? {
        word(field, among: T.allCases.map { ($0.rawValue, $0) })
    }

    func reversePathMode(_ field: Field) -> ReversePathMode? {
        word(field, among: ReversePathMode.allCases.map { ($0.text, $0) })
    }

    private func oneOf(_ names: [String]) -> String {
        guard names.count > 1 else { return names.joined() }
        return names.dropLast().joined(separator: ", ") + " or " + names.last!
    }

    /// A whole number, written without quotes.
    /// - Parameter unit: what it counts, for the message.
    func number(_ field: Field, _ range: ClosedRange<Int>, unit: String = "") -> Int? {
        number(field, range, words: [], unit: unit)
    }

    private func number(
        _ field: Field, _ range: ClosedRange<Int>, words: [String], unit: String
    ) -> Int? {
        let numbers = "a number from \(range.lowerBound) to \(range.upperBound)\(unit)"
        let mend = "write \(oneOf(words + [numbers]))"
        guard case .scalar(let text, let plain) = field.value.content else {
            return wrong(field, "is not a number; \(mend)")
        }
        let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return wrong(field, "is not a number; \(mend)")
        }
        guard plain else { return wrong(field, "is a text; \(mend) without quotes") }
        // Octal to some YAML readers, decimal to others.
        guard digits.count == 1 || digits.first != "0" else {
            return wrong(field, "starts with 0; \(mend)")
        }
        guard let number = Int(text), range.contains(number) else {
            return wrong(field, "is out of range; \(mend)")
        }
        return number
    }

    /// A number, or `off`, which is nil.
    func numberOrOff(_ field: Field, _ range: ClosedRange<Int>, unit: String) -> Int?? {
        if let text = field.text, text == "off" || Words.boolean(text) == false {
            return .some(nil)
        }
        return number(field, range, words: ["off"], unit: unit).map { .some($0) }
    }

    func clamp(_ field: Field, _ range: ClosedRange<Int>) -> MSSClamp? {
        if let text = field.text {
            if text == "auto" { return .auto }
            if Words.boolean(text) == false { return .off }
        }
        return number(field, range, words: ["auto", "off"], unit: " (bytes)").map {
            .fixed(UInt16($0))
        }
    }

    func onOff(_ field: Field) -> Bool? { word(field, among: [("on", true), ("off", false)]) }

    func duration(_ field: Field, _ range: ClosedRange<Duration>, example: String) -> Duration? {
        let bounds =
            "\(Words.durationText(range.lowerBound)) to \(Words.durationText(range.upperBound))"
        guard let text = field.text else {
            return wrong(field, "is not a duration; write one such as \(example)")
        }
        guard let duration = Words.duration(text) else {
            if decimal(text) != nil {
                return wrong(field, "has no unit; write us, ms, s, m or h behind it")
            }
            return wrong(
                field, "is not a duration; write a number with us, ms, s, m or h, as \(example)")
        }
        guard range.contains(duration) else {
            return wrong(field, "is out of range; write \(bounds)")
        }
        return duration
    }

    // MARK: Addresses

    /// The text of an address; explains what YAML makes of `2001:db8::` in a list.
    private func addressText(_ field: Field, mend: String) -> String? {
        if case .mapping(let entries) = field.value.content, entries.count == 1,
            entries[0].key.contains(":")
        {
            var text = entries[0].key + ":"
            if case .scalar(let rest, _) = entries[0].value.content { text += " \(rest)" }
            return wrong(field, "is what YAML makes of \(text); put it in quotes: \"\(text)\"")
        }
        guard let text = field.text else { return wrong(field, "is not an address; \(mend)") }
        return text
    }

    func prefix(_ field: Field) -> Prefix? {
        let example = "write one such as 192.0.2.0/24 or \"2001:db8::/64\""
        guard let text = addressText(field, mend: example) else { return nil }
        switch PrefixText.read(text) {
        case .success(let prefix): return prefix
        case .failure(.hostBits(let right)):
            let host = text.prefix { $0 != "/" }
            return wrong(field, "has host bits set; write \(right.text), or \(host) for that one")
        case .failure(.lengthOutOfRange(let max)):
            return wrong(field, "has a wrong prefix length; write a number from 0 to \(max)")
        case .failure(.mapped):
            return wrong(field, "is an IPv4 address as IPv6, which no header carries; write IPv4")
        case .failure(.notAnAddress):
            return wrong(field, "is not an IPv4 or IPv6 address or prefix; \(example)")
        }
    }

    /// `auto`, which is nil, or an address of one family.
    func addressOrAuto(_ field: Field, isIPv4: Bool) -> Address?? {
        let mend = "write auto or an \(isIPv4 ? "IPv4" : "IPv6") address"
        guard let text = addressText(field, mend: mend) else { return nil }
        if text == "auto" { return .some(nil) }
        guard let address = Address(text), address.isIPv4 == isIPv4 else {
            return wrong(field, "is not an \(isIPv4 ? "IPv4" : "IPv6") address; \(mend)")
        }
        return .some(address)
    }

    // MARK: Names

    /// The kernel's own rule, dev_valid_name(); `%` would make a pattern of a device's name.
    func interfaceName(_ field: Field) -> String? {
        guard let text = field.text else {
            return wrong(field, "is not an interface name; write one such as eth0")
        }
        guard !text.isEmpty, text.utf8.count <= 15 else {
            return wrong(field, "is not an interface name; write 1 to 15 bytes")
        }
        let isPlain = text.unicodeScalars.allSatisfy {
            $0.value > 0x20 && $0.value != 0x7f && !"/:%".unicodeScalars.contains($0)
        }
        guard isPlain, text != ".", text != ".." else {
            return wrong(field, "is not an interface name; leave out spaces, / : and %")
        }
        return text
    }

    /// A tunnel's name: a label in metrics and a step in a path.
    func tunnelName(_ field: Field) -> String? {
        guard let text = field.text, (1...63).contains(text.utf8.count),
            text.utf8.allSatisfy({
                (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20)
                    || "_.-".utf8.contains($0)
            })
        else {
            return wrong(field, "is not a name; write 1 to 63 letters, digits, _ . or -")
        }
        return text
    }

    func absolutePath(_ field: Field, bytesMax: Int) -> String? {
        guard let text = field.text, text.hasPrefix("/"),
            text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f })
        else { return wrong(field, "is not an absolute path; write one that starts with /") }
        guard text.utf8.count <= bytesMax else {
            return wrong(field, "is too long; write at most \(bytesMax) bytes")
        }
        return text
    }
}
