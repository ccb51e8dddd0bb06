// Files of sysctl.d(5): what they set, and which of them counts.

/// The settings of one file.
public struct SysctlFile: Sendable, Equatable, Codable {
    public struct Setting: Sendable, Equatable, Codable {
        /// From 1.
        public var line: Int
        /// Below /proc/sys, with `/` between its parts; may hold `*` and `?`.
        public var path: String
        /// nil: patterns do not apply to this path (`-path` without a value).
        public var value: String?
    }

    public let path: String
    public let settings: [Setting]

    /// - Parameter isOfInterest: which paths are kept.
    public init(path: String, text: String, isOfInterest: (String) -> Bool) {
        self.path = path
        var settings: [Setting] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard let setting = Self.setting(line, index + 1), isOfInterest(setting.path) else { continue }
            settings.append(setting)
        }
        self.settings = settings
    }

    private static func setting(_ line: Substring, _ number: Int) -> Setting? {
        var line = trimmed(line)
        guard let first = line.first, first != "#", first != ";" else { return nil }
        if first == "-" { line = line.dropFirst() }
        let equals = line.firstIndex(of: "=")
        let name = trimmed(line[..<(equals ?? line.endIndex)])
        guard !name.isEmpty, equals != nil || first == "-" else { return nil }
        let value = equals.map { String(trimmed(line[line.index(after: $0)...])) }
        return Setting(line: number, path: path(name), value: value)
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop { $0.isWhitespace }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }

    /// The first separator tells which of `.` and `/` separates; the other one stands for it.
    private static func path(_ name: Substring) -> String {
        guard name.first(where: { $0 == "." || $0 == "/" }) == "." else { return String(name) }
        return String(name.map { $0 == "." ? "/" : $0 == "/" ? "." : $0 })
    }

    /// Puts files into the order in which they are applied: by name, the file of an earlier directory in
    /// place of one with the same name in a later directory.
    /// - Parameter folders: names of files by directory, in order of precedence.
    public static func order(_ folders: [(path: String, names: [String])]) -> [String] {
        var chosen: [String: String] = [:]
        for (path, names) in folders {
            for name in names where name.hasSuffix(".conf") && chosen[name] == nil {
                chosen[name] = "\(path)/\(name)"
            }
        }
        return chosen.sorted { $0.key < $1.key }.map(\.value)
    }
}

extension [SysctlFile] {
    /// What these files make of a setting at a boot, or when its device is made.
    /// - Parameter path: below /proc/sys.
    /// - Returns: the value, and the place that sets it; nil where none does.
    public func value(of path: String) -> (text: String, place: String)? {
        var exact: (String, String)?
        var matched: (String, String)?
        var isExcluded = false
        for file in self {
            for setting in file.settings {
                let place = "\(file.path):\(setting.line)"
                if setting.path == path, let value = setting.value {
                    exact = (value, place)
                } else if setting.path == path {
                    isExcluded = true
                } else if let value = setting.value,
                    SysctlFile.isMatch([Character](setting.path), [Character](path))
                {
                    matched = (value, place)
                }
            }
        }
        // An exact path counts before a pattern, wherever both stand.
        return exact ?? (isExcluded ? nil : matched)
    }
}

extension SysctlFile {
    /// As glob(3) matches: `*` and `?` do not match a `/`.
    fileprivate static func isMatch(_ pattern: [Character], _ text: [Character]) -> Bool {
        var (place, position) = (0, 0)
        var star: (place: Int, position: Int)?
        while position < text.count {
            if place < pattern.count, pattern[place] == "*" {
                star = (place, position)
                place += 1
            } else if place < pattern.count,
                pattern[place] == text[position] || (pattern[place] == "?" && text[position] != "/")
            {
                place += 1
                position += 1
            } else if let back = star, text[back.position] != "/" {
                star = (back.place, back.position + 1)
                (place, position) = (back.place + 1, back.position + 1)
            } else {
                return false
            }
        }
        return pattern[place...].allSatisfy { $0 == "*" }
    }
}
