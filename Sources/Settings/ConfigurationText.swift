// A configuration as YAML that loads again to an equal one, and the differences between two.

extension Configuration {
    /// The effective configuration: every key with its value, as YAML. A checked configuration
    /// loads again to an equal one. What means "any" has no value to write and is left out:
    /// a tunnel's `destinations`, and a destination's `ports` and `mss`.
    public var yaml: String {
        var text = "# The effective configuration: every key, also where it is the default.\n"
        for (key, item) in Key.items(withNames) { item.write(key, to: &text) }
        return text
    }

    /// What changed, one line a change: `tunnels.lvs.remotes: [192.0.2.0/24] -> [192.0.2.0/25]`,
    /// `tunnels.lvs: added`, `tunnels.lvs.destinations: removed {…}`. Empty: nothing changed.
    public func differences(from old: Configuration) -> [String] {
        changes(from: old).map { Self.needsRestart($0) ? "\($0) (needs a restart)" : $0 }
    }

    /// Those of the differences that a running shuck cannot take up.
    public func changesNeedingRestart(from old: Configuration) -> [String] {
        changes(from: old).filter(Self.needsRestart)
    }

    private static func needsRestart(_ change: String) -> Bool {
        keys.map(\.description).contains {
            $0.needsRestart && change.hasPrefix("\($0.path.joined(separator: ".")): ")
        }
    }

    private func changes(from old: Configuration) -> [String] {
        Item.differences(
            .mapping(Key.items(old.withNames)), .mapping(Key.items(withNames)), path: "")
    }
}
