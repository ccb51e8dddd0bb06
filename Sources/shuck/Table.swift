// Columns of text for a screen, and numbers as people read them.

import Foundation

struct Table {
    struct Cell: ExpressibleByStringInterpolation {
        var text: String
        var style = Style.plain

        init(_ text: String, _ style: Style) {
            self.text = text
            self.style = style
        }
        init(stringLiteral text: String) { self.text = text }
    }

    /// A title that begins with `>` is of a column of numbers, which are aligned to the right.
    let titles: [String]
    /// Each row has as many cells as there are titles.
    let rows: [[Cell]]

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
                // The last column needs no padding.
                return column == row.count - 1 ? text : text + space
            }.joined(separator: "  ")
        }
    }
}

enum Figure {
    /// `1,234,567`
    static func count(_ value: UInt64) -> String {
        value < 1000 ? "\(value)" : count(value / 1000) + String(format: ",%03d", Int(value % 1000))
    }

    static func count(_ value: Double) -> String { count(whole(value.rounded())) }

    /// A report may hold any number, also NaN.
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
