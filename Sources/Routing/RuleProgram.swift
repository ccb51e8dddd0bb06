// Compiled policy rules: RuleProgram, and its RouteLayer.

/// A lookup that several rules in a row come to: its tables, one before the other.
struct RouteLayer {
    var tables: [TableID]
    /// Serves packets of this TOS, and those of none where 0.
    var tos: UInt8
    let trie: RouteTrie
}

/// One family's rules, compiled.
struct RuleProgram {
    var steps: [RuleStep] = []
    var layers: [RouteLayer] = []
    /// Numbers of layers, eight for each step that looks up: by the packet's TOS.
    var places: [Int] = []
    var isOneLookup = false
    /// See `RouteTable.Program`.
    var needsAddressesOnly = true
}
