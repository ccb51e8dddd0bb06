// Reads YAML text as a tree of values that know their places. It knows YAML and no key of ours.

import Yams

/// Reads one file. libyaml stops at the first problem; then the text is patched without moving a column, and
/// read again, so that later problems are found as well.
struct Document {
    /// Far above any real file, because YAML aliases can stand for more values than memory holds.
    static let valuesMax = 1_000_000
    /// The keys need five levels.
    static let depthMax = 32
    /// How often a text is patched and read again.
    static let patchesMax = 200
    // Private-use characters, legal in YAML and in no key or value of ours.
    private static let poison: Unicode.Scalar = "\u{F8FF}"
    private static let firstRenamed: UInt32 = 0xE000

    private let file: Int
    private let report: Report
    private var scalars: [Unicode.Scalar]
    /// Offset of the first scalar of each line.
    private let lineStarts: [Int]
    /// The first characters of keys that were renamed because an equal key stands before them.
    private var renamed: [Position: String] = [:]
    private var values = 0

    /// nil: the text is empty, or is not YAML, which is reported.
    static func read(_ text: String, file: Int, report: Report) -> Value? {
        var document = Document(text, file: file, report: report)
        guard !document.reportUnreadable() else {
            report.isPartial = true
            return nil
        }
        guard let node = document.compose() else { return nil }
        return document.value(node, path: "", depth: 0)
    }

    private init(_ text: String, file: Int, report: Report) {
        self.file = file
        self.report = report
        var scalars = Array(text.unicodeScalars)
        if scalars.first == "\u{FEFF}" { scalars.removeFirst() }
        // libyaml's line breaks (YAML 1.1 §4.1.4); "\r\n" is one.
        let breaks = scalars.indices.filter { index in
            switch scalars[index] {
            case "\n", "\u{85}", "\u{2028}", "\u{2029}": true
            case "\r": index + 1 == scalars.count || scalars[index + 1] != "\n"
            default: false
            }
        }
        lineStarts = [0] + breaks.map { $0 + 1 }
        self.scalars = scalars
    }

    /// Reports every character that YAML does not allow (YAML 1.1 §4.1.1).
    private func reportUnreadable() -> Bool {
        var found = false
        for (offset, scalar) in scalars.enumerated() {
            let problem: String
            switch scalar.value {
            case 0x09, 0x0a, 0x0d, 0x20...0x7e, 0x85, 0xa0...0xd7ff: continue
            case 0xfffd: problem = "the text is not UTF-8 here; save the file as UTF-8"
            case 0xe000...0xf8ff, 0xfeff, 0xfffe, 0xffff, 0..<0xa0:
                let digits = ValueSyntax.padded(String(scalar.value, radix: 16, uppercase: true), to: 4)
                problem = "character U+\(digits) is not allowed; remove it"
            default: continue
            }
            report.error(position(at: offset), problem)
            found = true
        }
        return found
    }

    private func position(at offset: Int) -> Position {
        let line = lineStarts.lastIndex { $0 <= offset } ?? 0
        return Position(file: file, line: line + 1, column: offset - lineStarts[line] + 1)
    }

    private func offset(of position: Position) -> Int? {
        guard lineStarts.indices.contains(position.line - 1) else { return nil }
        let offset = lineStarts[position.line - 1] + position.column - 1
        return scalars.indices.contains(offset) ? offset : nil
    }

    private func position(_ mark: Mark?) -> Position {
        Position(file: file, line: mark?.line ?? 1, column: mark?.column ?? 1)
    }
}

// MARK: - Reading again and again

extension Document {
    private mutating func compose() -> Node? {
        for _ in 0..<Self.patchesMax {
            do {
                // No resolver: keys are compared as they are written, and nothing else is asked.
                return try Yams.compose(yaml: String(String.UnicodeScalarView(scalars)), .basic)
            } catch YamlError.duplicatedKeysInMapping(let keys, let context) {
                guard rename(at: position(context.mark)) else {
                    report.error(
                        position(context.mark),
                        "\(keys.joined(separator: ", ")): written twice in one mapping; remove one")
                    break
                }
            } catch let error as YamlError {
                guard reportSyntax(error) else { break }
            } catch {
                report.error(position(nil), "cannot be read as YAML: \(error)")
                break
            }
        }
        reportRenamed()
        report.isPartial = true
        return nil
    }

    /// Renames the key that starts here, so that it is unlike any other. False: that was tried in vain.
    private mutating func rename(at place: Position) -> Bool {
        guard renamed[place] == nil, var offset = offset(of: place),
            let stand = Unicode.Scalar(Self.firstRenamed + UInt32(renamed.count))
        else { return false }
        // The quote of a quoted key must stay.
        if scalars[offset] == "\"" || scalars[offset] == "'" { offset += 1 }
        guard scalars.indices.contains(offset), scalars[offset] != "\\" else { return false }
        renamed[place] = String(scalars[offset])
        scalars[offset] = stand
        return true
    }

    /// Reports the duplicates found before a problem that stopped the reading.
    private func reportRenamed() {
        for place in renamed.keys {
            report.error(place, "this key is written twice in one mapping; remove one")
        }
    }

    /// Reports a syntax error. True: the text has been patched and can be read again.
    private mutating func reportSyntax(_ error: YamlError) -> Bool {
        let context: YamlError.Context?
        let problem: String
        let mark: Mark
        switch error {
        case .scanner(let at, let text, let place, _), .parser(let at, let text, let place, _),
            .composer(let at, let text, let place, _):
            (context, problem, mark) = (at, text, place)
        default:
            report.error(position(nil), "cannot be read as YAML: \(error)")
            return false
        }
        var place = position(mark)
        if let token = unquotedAddress(at: place) {
            let text = String(String.UnicodeScalarView(scalars[token]))
            report.error(
                position(at: token.lowerBound),
                "YAML reads \(text) as something else; put it in quotes: \"\(text)\"")
            for offset in token { scalars[offset] = Self.poison }
            return true
        }
        // The end of the text shows nothing: point at what is unfinished there, or at the last character.
        if offset(of: place) == nil, let context { place = position(context.mark) }
        if offset(of: place) == nil,
            let last = scalars.lastIndex(where: { !" \n\r\t".unicodeScalars.contains($0) })
        {
            place = position(at: last)
        }
        report.error(place, "not YAML: \(problem)\(remedy(problem, context, at: place))")
        return false
    }

    private func remedy(
        _ problem: String, _ context: YamlError.Context?, at place: Position
    ) -> String {
        let character = offset(of: place).map { scalars[$0] }
        switch problem {
        case "found character that cannot start any token":
            if character == "\t" { return " (a tab); indent with spaces" }
            return "; put a text that starts with it in quotes"
        case "mapping values are not allowed in this context":
            return "; check the indentation, and put a text with \": \" in quotes"
        case "but found another document": return "; a file holds one, remove this and the rest"
        case "found undefined alias": return "; put a text that starts with * in quotes"
        default:
            guard let context else { return "; check the indentation and the brackets" }
            return " \(context.text), which starts at line \(context.mark.line), column "
                + "\(context.mark.column); check the indentation, the brackets and the quotes"
        }
    }

    /// The IPv6 address around the place of a syntax error, as in `[2001:db8::, "::1"]`: a colon before `]`,
    /// `,` or `}`, and one at the start, belongs to YAML's syntax.
    private func unquotedAddress(at place: Position) -> Range<Int>? {
        let characters = "0123456789abcdefABCDEF:./".unicodeScalars
        func belongs(_ offset: Int) -> Bool {
            scalars.indices.contains(offset) && characters.contains(scalars[offset])
        }
        guard let at = offset(of: place), belongs(at) else { return nil }
        var (first, end) = (at, at + 1)
        while belongs(first - 1) { first -= 1 }
        while belongs(end) { end += 1 }
        guard scalars[first..<end].count(where: { $0 == ":" }) > 1 else { return nil }
        // `[::1]:9100` is one value.
        if first > 0, scalars[first - 1] == "[", scalars[end...].starts(with: "]:".unicodeScalars),
            belongs(end + 2)
        {
            (first, end) = (first - 1, end + 2)
            while belongs(end) { end += 1 }
        }
        return first..<end
    }
}

// MARK: - From Yams' nodes to values

extension Document {
    private mutating func value(_ node: Node, path: String, depth: Int) -> Value {
        let place = position(node.mark)
        values += 1
        guard values <= Self.valuesMax, depth <= Self.depthMax else {
            report.error(
                place,
                depth > Self.depthMax
                    ? "nested more than \(Self.depthMax) deep; the keys need five levels"
                    : "more than \(Self.valuesMax) values; use fewer aliases")
            report.isPartial = true
            return Value(position: place, content: .poison)
        }
        let content: Value.Content
        switch node {
        case .scalar(let scalar): content = self.content(scalar, place)
        case .sequence(let sequence):
            var items: [Value] = []
            for item in sequence where values <= Self.valuesMax {
                items.append(value(item, path: "\(path)[\(items.count)]", depth: depth + 1))
            }
            content = .list(items)
        case .mapping(let mapping): content = .mapping(entries(mapping, path: path, depth: depth))
        case .alias: content = .poison
        }
        return Value(position: place, content: content)
    }

    private func content(_ scalar: Node.Scalar, _ place: Position) -> Value.Content {
        if scalar.string.unicodeScalars.contains(Self.poison) { return .poison }
        switch scalar.tag.rawValue {
        case "" where scalar.style == .plain:
            let nulls = ["", "~", "null", "Null", "NULL"]
            return nulls.contains(scalar.string) ? .null : .scalar(scalar.string, plain: true)
        case "", "!", Tag.Name.str.rawValue: return .scalar(scalar.string, plain: false)
        default:
            report.error(place, "the tag \(scalar.tag.rawValue) is not used here; remove it")
            return .poison
        }
    }

    private mutating func entries(
        _ mapping: Node.Mapping, path: String, depth: Int
    ) -> [Value.Entry] {
        var entries: [Value.Entry] = []
        var first: [String: Position] = [:]
        for (key, node) in mapping where values <= Self.valuesMax {
            let place = position(key.mark)
            guard case .scalar(let scalar) = key else {
                report.error(place, "a key must be a word; put a text with brackets in quotes")
                continue
            }
            let name = original(scalar.string, at: place)
            let keyPath = path.isEmpty ? name : "\(path).\(name)"
            var value = value(node, path: keyPath, depth: depth + 1)
            // An empty value has no visible place of its own.
            if case .null = value.content { value.position = place }
            if let earlier = first[name] {
                report.error(
                    place,
                    "\(keyPath): written twice in one mapping, first at line \(earlier.line); "
                        + "remove one")
                continue
            }
            first[name] = place
            entries.append(Value.Entry(key: name, position: place, value: value))
        }
        return entries
    }

    /// The key as it was before it was renamed.
    private func original(_ key: String, at place: Position) -> String {
        guard let character = renamed[place] else { return key }
        return character + String(key.unicodeScalars.dropFirst())
    }
}
