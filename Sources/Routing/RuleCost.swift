// What a host's policy rules cost each reverse-path question.

/// The rules of one family, compiled.
public struct RuleCost: Sendable, Equatable {
    /// Rules that are walked for each source that no cache knows; 1 with the kernel's own rules.
    public let steps: Int
    /// Whether the answer depends on the addresses alone, so that workers cache it.
    public let isCached: Bool

    public init(_ rules: [RuleEntry], isIPv4: Bool) {
        let program = RuleCompiler(isIPv4: isIPv4, rules: rules, vrfs: []).program([:])
        steps = program.steps.count
        isCached = program.needsAddressesOnly
    }
}
