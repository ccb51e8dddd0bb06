// How a text is painted on a terminal.

/// An SGR parameter (ECMA-48 §8.3.117).
enum Style: String {
    case plain = ""
    case bold = "1"
    case good = "32"
    case attention = "33"
    case bad = "1;31"
}
