// One table of a compiled list of rules.

/// A lookup that several rules in a row come to: its tables, one before the other.
struct RouteLayer {
    var tables: [TableID]
    /// Serves packets of this TOS, and those of none where 0.
    var tos: UInt8
    let trie: RouteTrie
}
