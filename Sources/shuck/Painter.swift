// Colour on a terminal, unless NO_COLOR (no-color.org) is set.

import Foundation

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
