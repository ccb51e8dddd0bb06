// The saved facts of a host, as `shuck doctor --save-facts` writes and `--facts` reads them.

import IP

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

    /// Whether all numbers are of the kind that a host has. Nobody vouches for a file.
    public var isPlausible: Bool {
        let places = 0..<1 << 16
        let details = facts.details ?? HostDetails()
        let placement = facts.placement ?? PlacementFacts()
        let cpus =
            facts.cpus + placement.nodes.flatMap { [$0.key] + $0.value } + placement.governors.keys
            + placement.interfaces.flatMap { interface in
                interface.nodes + interface.interrupts.flatMap { [$0.number] + $0.cpus }
            }
        let prefixes = (details.rules ?? []).flatMap { [$0.from, $0.to] }.compactMap(\.self)
        return facts.links.allSatisfy { (0...1 << 24).contains($0.mtu) }
            && cpus.allSatisfy(places.contains)
            && details.interfaces.values.allSatisfy { places.contains($0.queues ?? 0) }
            && prefixes.allSatisfy { Prefix($0.address, length: $0.length) == $0 }
    }
}
