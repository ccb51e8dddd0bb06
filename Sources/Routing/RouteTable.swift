// One generation of the host's rules and routes, as readers hold it: which interfaces lead back to an
// address? With the kernel's own rules one lookup, with others a walk of compiled rules.

import IP

/// What a lookup finds: equal answers of many prefixes share one record.
public struct RouteRecord: BitwiseCopyable, Sendable {
    public let kind: RouteKind
    /// The prefix was of length 0.
    public let isDefault: Bool
    /// Interfaces of the preferred route stand first, those of the others of its prefix after.
    @usableFromInline let bestCount: UInt16
    @usableFromInline let allCount: UInt16
    @usableFromInline let firstHop: UInt32
    /// Group of the first nexthop's device.
    @usableFromInline let group: UInt32

    /// Whether the preferred route leaves by any device: one by a nexthop that is not known does not.
    @inlinable @inline(__always)
    public var hasInterface: Bool { bestCount > 0 }
}

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

/// A generation: the memory of its tries and records, and how to walk them.
public final class RouteTable: @unchecked Sendable {
    // @unchecked: the view's small tables are written only in `init`; tries change word by word.
    public let view: View
    /// Routes that went in, by family (`shuck_routes{family}`).
    public let countIPv4: Int
    public let countIPv6: Int
    /// ifindex of each device that a default route of either family leaves by, in tables that rules
    /// lead to; ascending.
    public let defaultInterfaces: [Int32]
    private let kept: [AnyObject]
    private let layers: UnsafeMutablePointer<RouteTrie.View>
    private let steps: UnsafeMutablePointer<RuleStep>

    /// A generation that nobody changes: routes and rules in the kernel's order.
    public convenience init(
        _ entries: some Sequence<RouteEntry>, rules: [RuleEntry] = RuleEntry.kernelDefaults
    ) {
        let mirror = RouteMirror()
        mirror.load(entries, rules: rules)
        self.init(mirror)
    }

    /// What the mirror holds now. It may change the tries in place; all else it makes anew.
    init(_ mirror: RouteMirror) {
        let programs = [mirror.four, mirror.six]
        let tries = programs.flatMap { program in program.places.map { program.layers[$0] } }
        layers = .allocate(capacity: max(tries.count, 1))
        steps = .allocate(capacity: max(programs.reduce(0) { $0 + $1.steps.count }, 1))
        for (index, layer) in tries.enumerated() {
            (layers + index).initialize(to: layer.trie.view)
        }
        var compiled: [Program] = []
        var (step, layer) = (0, 0)
        for program in programs {
            (steps + step).initialize(from: program.steps, count: program.steps.count)
            compiled.append(
                Program(
                    steps: steps + step, count: program.steps.count, layers: layers + layer,
                    isOneLookup: program.isOneLookup,
                    needsAddressesOnly: program.needsAddressesOnly,
                    trie: program.layers.first?.trie.view ?? Self.nothing))
            step += program.steps.count
            layer += program.places.count
        }
        let records = mirror.answers.records
        let hops = mirror.answers.hops
        kept = tries.map(\.trie.memory) + [records, hops]
        view = View(
            four: compiled[0], six: compiled[1], records: UnsafePointer(records.base),
            hops: UnsafePointer(hops.base))
        countIPv4 = mirror.countIPv4
        countIPv6 = mirror.countIPv6
        defaultInterfaces = mirror.defaultInterfaces
    }

    // Never read: a program without layers has no step that looks up.
    private static let nothing = RouteTrie(isIPv4: true).view

    deinit {
        layers.deallocate()
        steps.deallocate()
    }

    /// One family's rules.
    @usableFromInline
    struct Program: @unchecked Sendable, BitwiseCopyable {
        let steps: UnsafePointer<RuleStep>
        let count: Int
        let layers: UnsafePointer<RouteTrie.View>
        /// Every packet takes the same tables in the same order.
        @usableFromInline let isOneLookup: Bool
        /// No step and no route looks at a packet's TOS, protocol or ports.
        @usableFromInline let needsAddressesOnly: Bool
        @usableFromInline let trie: RouteTrie.View
    }

    /// What a reader holds. Valid while the table lives.
    public struct View: @unchecked Sendable, BitwiseCopyable {
        @usableFromInline let four: Program
        @usableFromInline let six: Program
        @usableFromInline let records: UnsafePointer<RouteRecord>
        @usableFromInline let hops: UnsafePointer<Int32>

        /// Whether the source alone decides, so that `lookup` is the whole answer.
        @inlinable @inline(__always)
        public var isOneLookupIPv4: Bool { four.isOneLookup }

        @inlinable @inline(__always)
        public var isOneLookupIPv6: Bool { six.isOneLookup }

        /// Whether packets between the same addresses, come in by the same interface, all have the
        /// same answer.
        @inlinable @inline(__always)
        public var needsAddressesOnlyIPv4: Bool { four.needsAddressesOnly }

        @inlinable @inline(__always)
        public var needsAddressesOnlyIPv6: Bool { six.needsAddressesOnly }

        /// Only where `isOneLookupIPv4`.
        @inlinable @inline(__always)
        public func lookup(ipv4 address: UInt32) -> RouteRecord {
            records[Int(four.trie.find(ipv4: address) & TrieEntry.valueMask)]
        }

        /// Only where `isOneLookupIPv6`.
        @inlinable @inline(__always)
        public func lookup(ipv6 address: Address) -> RouteRecord {
            records[Int(six.trie.find(ipv6: address) & TrieEntry.valueMask)]
        }

        /// The kernel's answer, whatever the rules (net/core/fib_rules.c `fib_rules_lookup`).
        /// - Parameter isIPv4: the packet's family; its source may be a mapped address.
        public func find(_ question: ReversePathQuestion, isIPv4: Bool) -> RouteRecord {
            let program = isIPv4 ? four : six
            var index = 0
            while index < program.count {
                let step = program.steps + index
                index &+= 1
                guard step.pointee.matches(question) else { continue }
                switch step.pointee.action {
                case .none: break
                case .jump: index = Int(step.pointee.target)
                case .answer: return records[Int(step.pointee.target)]
                case .lookup:
                    let layer =
                        program.layers + Int(step.pointee.target)
                        + Int(question.tos >> 2 & 7)
                    let word =
                        isIPv4
                        ? layer.pointee.find(ipv4: question.source.ipv4)
                        : layer.pointee.find(ipv6: question.source)
                    let value = Int(word & TrieEntry.valueMask)
                    if value == 0 || isSuppressed(records[value], word, step) { continue }
                    return records[value]
                }
            }
            return records[0]
        }

        /// net/ipv4/fib_rules.c `fib4_rule_suppress`: only what would be a success.
        @inline(__always)
        private func isSuppressed(
            _ record: RouteRecord, _ word: UInt32, _ step: UnsafePointer<RuleStep>
        ) -> Bool {
            switch record.kind {
            case .blackhole, .unreachable, .prohibit: false
            default:
                TrieEntry.length(word) <= Int(step.pointee.suppressLength)
                    || (record.bestCount > 0
                        && Int64(record.group) == step.pointee.suppressGroup)
            }
        }

        /// Whether the preferred route leaves by the interface, by any of its nexthops
        /// (net/ipv4/fib_frontend.c `fib_info_nh_uses_dev`).
        @inlinable @inline(__always)
        public func bestUses(_ record: RouteRecord, interface: Int32) -> Bool {
            uses(record.firstHop, record.bestCount, interface)
        }

        /// Whether any route of the matched prefix leaves by the interface.
        @inlinable @inline(__always)
        public func anyUses(_ record: RouteRecord, interface: Int32) -> Bool {
            uses(record.firstHop, record.allCount, interface)
        }

        @inlinable @inline(__always)
        func uses(_ first: UInt32, _ count: UInt16, _ interface: Int32) -> Bool {
            var index = Int(first)
            let end = index &+ Int(count)
            while index < end {
                if hops[index] == interface { return true }
                index &+= 1
            }
            return false
        }
    }
}
