// One bound of a configuration, and what is said about more.

/// A bound of a configuration: `check` refuses what exceeds it and says why.
public struct Limit: Sendable {
    public let value: Int
    /// What is counted, as a message and docs/configuration.md have it.
    public let unit: String
    /// What in the code or the kernel ends there.
    public let why: String
    /// What to do instead.
    public let remedy: String

    /// What is wrong with so many.
    public func refusal(of count: Int) -> String {
        "\(count) \(unit) are too many; write at most \(value), because \(why); \(remedy)"
    }
}
