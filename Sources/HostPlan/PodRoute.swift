// A route to a service whose pod has a device of shuck's.

import IP
import Settings

/// A route of the tables local and main, other than a default route.
public struct PodRoute: Sendable, Equatable, Codable {
    /// `ADDRESS/LENGTH`
    public let destination: String
    /// Names of the links that it leads to.
    public let links: [String]
    /// The address is this host's own.
    public let isLocal: Bool

    public init(destination: String, links: [String], isLocal: Bool) {
        self.destination = destination
        self.links = links
        self.isLocal = isLocal
    }

    var length: Int { Prefix(destination)?.length ?? 0 }

    func covers(_ service: Prefix) -> Bool { Prefix(destination)?.covers(service) ?? false }
}
