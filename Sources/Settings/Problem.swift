// An error or a warning about a configuration, and where it stands.

public struct Problem: Error, Hashable, Encodable, CustomStringConvertible {
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
    /// One sentence: the key, its value and the remedy.
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
