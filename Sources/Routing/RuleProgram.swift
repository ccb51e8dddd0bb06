// Compiled policy rules.

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
