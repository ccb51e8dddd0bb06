// One line of `shuck doctor`.

/// What doctor says of one fact.
public struct Diagnosis: Sendable, Equatable, Codable {
    public enum Level: String, Sendable, Codable, CaseIterable {
        case ok
        /// Traffic passes, but slower than it could, or not in every case, or not after the next boot.
        case warning
        /// Traffic that the configuration asks for is lost.
        case problem
        /// It could not be read here.
        case unread
    }

    /// Name of the condition.
    public let condition: String
    public let level: Level
    /// What the host says.
    public let fact: String
    /// What it does to traffic; nil where nothing is wrong.
    public let effect: String?
    /// A line of sh(1) that mends it; nil where no command does.
    public let command: String?
}
