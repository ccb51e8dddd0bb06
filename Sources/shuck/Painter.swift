// Colour on a terminal, unless NO_COLOR (no-color.org) is set.

import Foundation

/// An SGR parameter (ECMA-48 §8.3.117).
enum Style: String {
    case plain = ""
    case bold = "1"
    case good = "32"
    case attention = "33"
    case bad = "1;31"
}

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
