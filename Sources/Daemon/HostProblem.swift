// What keeps the daemon from running on this host.

/// Something that this host does not permit or does not have: exit code 3.
public struct HostProblem: Error, CustomStringConvertible {
    /// A sentence for each.
    public let lines: [String]

    init(_ lines: [String]) { self.lines = lines }
    init(description: String) { self.init([description]) }

    public var description: String { lines.joined(separator: "; ") }
}
