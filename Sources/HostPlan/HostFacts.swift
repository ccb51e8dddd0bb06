// The state of a host at one moment: with the configuration, all that a plan depends on.

import Routing

public struct HostFacts: Sendable, Codable {
    /// Whether there is a network namespace at a path.
    public enum Namespace: Sendable, Equatable, Codable {
        case present(NamespaceIdentity)
        /// Holds the reason.
        case absent(String)
    }

    /// Rights and limits of this process. `check` does not ask for them, because another process will run.
    public struct Permissions: Sendable, Codable {
        /// CAP_* by name.
        public var missingCapabilities: [String] = []
        /// RLIMIT_NOFILE.
        public var descriptorLimit = Int.max
        public var workers: Int

        public init(workers: Int) { self.workers = workers }
    }

    public var links: [Link]
    /// The CPU of each worker.
    public var cpus: [Int]
    public var settings = NamespaceFacts()
    /// By path, for each device that has one.
    public var namespaces: [String: Namespace] = [:]
    public var permissions: Permissions?
    /// Interrupts, NUMA nodes and governors that concern the workers.
    public var placement: PlacementFacts?
    /// What only `shuck doctor` asks for.
    public var details: HostDetails?

    public init(links: [Link], cpus: [Int]) {
        self.links = links
        self.cpus = cpus
    }

    public func link(_ name: String) -> Link? { links.first { $0.name == name } }
}
