// A compiled policy rule.

import IP

/// A rule that may match, in the order of the walk.
@usableFromInline
struct RuleStep: BitwiseCopyable, Sendable {
    @usableFromInline enum Action: UInt8, BitwiseCopyable, Sendable { case lookup, jump, none, answer }
    /// The packet's source and destination, under their masks.
    var source = Address(high: 0, low: 0)
    var sourceMask = Address(high: 0, low: 0)
    var destination = Address(high: 0, low: 0)
    var destinationMask = Address(high: 0, low: 0)
    var tos: UInt8 = 0
    var tosMask: UInt8 = 0
    /// 0: any.
    var protocolNumber: UInt8 = 0
    var isInverted = false
    /// A selector that never holds, as `iif eth0`.
    var isImpossible = false
    var action = Action.none
    var firstSourcePort: UInt16 = 0
    var lastSourcePort: UInt16 = .max
    var firstDestinationPort: UInt16 = 0
    var lastDestinationPort: UInt16 = .max
    /// Whom it is for: the VRF of that table; `outside`: what is in none; 0: everybody. Apart from the
    /// selectors: `isInverted` does not turn it round.
    var vrf: UInt32 = 0
    static let outside = UInt32.max
    /// First of eight layers, one a TOS; a step; or a record.
    var target: UInt32 = 0
    var suppressLength: Int32 = -1
    var suppressGroup: Int64 = -1

    /// net/core/fib_rules.c `fib_rule_match`.
    @inline(__always)
    func matches(_ question: ReversePathQuestion) -> Bool {
        let from = question.source
        let to = question.destination
        let holds =
            !isImpossible
            && (from.high & sourceMask.high) == source.high
            && (from.low & sourceMask.low) == source.low
            && (to.high & destinationMask.high) == destination.high
            && (to.low & destinationMask.low) == destination.low
            && question.tos & tosMask == tos
            && (protocolNumber == 0 || protocolNumber == question.protocolNumber)
            && question.sourcePort >= firstSourcePort && question.sourcePort <= lastSourcePort
            && question.destinationPort >= firstDestinationPort
            && question.destinationPort <= lastDestinationPort
        return holds != isInverted && (vrf == 0 || vrf == (question.vrf == 0 ? Self.outside : question.vrf))
    }
}
