// Columns of text for a screen: padding, numbers for people, and colour where it is wanted.

import Foundation

enum Style: String {
    case plain = ""
    case bold = "1"
    case good = "32"
    case attention = "33"
    case bad = "1;31"
}

/// Colours text on a terminal, unless NO_COLOR (no-color.org) says otherwise.
struct Painter {
    let isColoured: Bool

    static var standardOutput: Painter {
        let refused = ProcessInfo.processInfo.environment["NO_COLOR"].map { !$0.isEmpty } ?? false
        return Painter(isColoured: isatty(STDOUT_FILENO) == 1 && !refused)
    }

    func paint(_ text: String, _ style: Style) -> String {
        isColoured && style != .plain ? "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m" : text
    }
}

struct Table {
    struct Cell: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
        var text: String
        var style = Style.plain

        init(_ text: String, _ style: Style = .plain) {
            self.text = text
            self.style = style
        }
        init(stringLiteral text: String) { self.init(text) }
    }

    /// A title that begins with `>` is that of a column of numbers, set to the right.
    let titles: [String]
    var rows: [[Cell]] = []

    init(_ titles: String...) { self.titles = titles }

    /// Each row holds as many cells as there are titles.
    func lines(_ painter: Painter) -> [String] {
        let isNumber = titles.map { $0.hasPrefix(">") }
        let head = titles.map { Cell($0.hasPrefix(">") ? String($0.dropFirst()) : $0, .bold) }
        let all = [head] + rows
        let widths = titles.indices.map { column in all.map { $0[column].text.count }.max()! }
        return all.map { row in
            row.indices.map { column in
                let cell = row[column]
                let space = String(repeating: " ", count: widths[column] - cell.text.count)
                let text = painter.paint(cell.text, cell.style)
                if isNumber[column] { return space + text }
                // Nothing stands behind the last column, so no spaces either.
                return column == row.count - 1 ? text : text + space
            }.joined(separator: "  ")
        }
    }
}

enum Figure {
    /// `1,234,567`
    static func count(_ value: UInt64) -> String {
        let digits = Array(String(value))
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0 && (digits.count - index) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }

    static func count(_ value: Double) -> String { count(whole(value.rounded())) }

    /// What an answer says may be any number, and none.
    private static func whole(_ value: Double) -> UInt64 {
        value > 0 ? UInt64(exactly: value.rounded(.down)) ?? .max : 0
    }

    /// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `6 s`
    static func duration(_ seconds: Double) -> String {
        let whole = whole(seconds)
        let parts = [
            (whole / 86400, "d"), (whole / 3600 % 24, "h"), (whole / 60 % 60, "min"),
            (whole % 60, "s"),
        ]
        let first = parts.firstIndex { $0.0 > 0 } ?? 3
        return parts[first...].prefix(2).map { "\($0.0) \($0.1)" }.joined(separator: " ")
    }
}
