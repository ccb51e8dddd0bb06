// The saved facts of a host, as `shuck doctor --save-facts` writes and `--facts` reads them.

/// A document of one version. A later version may add optional fields; it counts up when a field goes or
/// means something else.
public struct FactsDocument: Sendable, Codable {
    public static let version = 1

    public var version = FactsDocument.version
    /// Version of the shuck that wrote it.
    public var shuck: String
    /// The effective configuration, YAML.
    public var configuration: String
    public var facts: HostFacts

    public init(shuck: String, configuration: String, facts: HostFacts) {
        self.shuck = shuck
        self.configuration = configuration
        self.facts = facts
    }
}
