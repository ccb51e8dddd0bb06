// What became of a reload: the control thread answers it, the admin endpoint serves it.

struct ReloadOutcome: Sendable, Codable {
    /// Whether the new configuration is in force; else the old one is.
    var isApplied: Bool
    /// Why not; or what is still to come of it.
    var lines: [String]

    static func refused(_ lines: [String]) -> ReloadOutcome {
        ReloadOutcome(isApplied: false, lines: lines)
    }
}
