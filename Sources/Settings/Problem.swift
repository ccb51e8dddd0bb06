// One thing that is wrong with a configuration file, and where.

/// A place in a configuration file.
struct Position: Hashable, Sendable, Comparable {
    /// Index into the files that were loaded.
    var file: Int
    /// From 1.
    var line: Int
    /// From 1, in Unicode scalars, as libyaml counts them.
    var column: Int

    static func < (left: Position, right: Position) -> Bool {
        (left.file, left.line, left.column) < (right.file, right.line, right.column)
    }
}

/// An error or a warning about a configuration.
public struct Problem: Sendable, Hashable, Encodable, CustomStringConvertible {
    public enum Severity: String, Sendable, Encodable {
        /// The configuration is refused.
        case error
        /// The configuration is accepted; the operator may not have meant it.
        case warning
    }

    /// The name that the caller gave the file.
    public var file: String
    /// From 1.
    public var line: Int
    /// From 1, in Unicode scalars; a tab is one.
    public var column: Int
    public var severity: Severity
    /// One sentence: the key, its value and the mend.
    public var message: String

    public init(
        file: String, line: Int, column: Int, severity: Severity = .error, message: String
    ) {
        self.file = file
        self.line = line
        self.column = column
        self.severity = severity
        self.message = message
    }

    /// `FILE:LINE:COLUMN: message`, with `warning: ` before the message of a warning.
    public var description: String {
        "\(file):\(line):\(column): \(severity == .warning ? "warning: " : "")\(message)"
    }
}
