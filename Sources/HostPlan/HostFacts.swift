// A host as it was found at one moment: all that a plan is made of beside the configuration.

import Routing

public struct HostFacts: Sendable, Codable {
    /// What stands at the path of a network namespace.
    public enum Namespace: Sendable, Equatable, Codable {
        case present(NamespaceIdentity)
        /// With why there is none.
        case absent(String)
    }

    /// What this process may do and have. `check` asks nothing of it: another process will run.
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
    /// What slows the workers where they stand.
    public var placement: PlacementFacts?
    /// What only `shuck doctor` asks for.
    public var details: HostDetails?

    public init(links: [Link], cpus: [Int]) {
        self.links = links
        self.cpus = cpus
    }

    public func link(_ name: String) -> Link? { links.first { $0.name == name } }
}
