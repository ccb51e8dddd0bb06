// One generation of the host's rules and routes, as readers hold it: which interfaces lead back to an
// address? With the kernel's own rules one lookup, with others a walk of compiled rules.

import IP

/// A generation: the memory of its tries and records, and how to walk them.
public final class RouteTable: @unchecked Sendable {
    // @unchecked: the small tables are written only in `init`; tries change word by word.
    public let view: View
    /// Routes that went in, by family (`shuck_routes{family}`).
    public let countIPv4: Int
    public let countIPv6: Int
    /// ifindex of each device that a default route of either family leaves by, in tables that rules
    /// lead to; ascending.
    public let defaultInterfaces: [Int32]
    private let memory = StableMemory()
    private let kept: [AnyObject]

    /// What the mirror holds now. It may change the tries in place; all else it makes anew.
    init(
        four: RuleProgram, six: RuleProgram, answers: RouteAnswers, countIPv4: Int, countIPv6: Int,
        defaultInterfaces: [Int32]
    ) {
        let memory = self.memory
        func program(_ rules: RuleProgram) -> Program {
            Program(
                steps: memory.copy(rules.steps), count: rules.steps.count,
                layers: memory.copy(rules.places.map { rules.layers[$0].trie.view }),
                isOneLookup: rules.isOneLookup, needsAddressesOnly: rules.needsAddressesOnly,
                trie: rules.layers.first?.trie.view ?? Self.nothing)
        }
        view = View(
            four: program(four), six: program(six), records: UnsafePointer(answers.records.base),
            hops: UnsafePointer(answers.hops.base))
        kept = (four.layers + six.layers).map(\.trie.memory) + [answers.records, answers.hops]
        self.countIPv4 = countIPv4
        self.countIPv6 = countIPv6
        self.defaultInterfaces = defaultInterfaces
    }

    // Never read: a program without layers has no step that looks up.
    private static let nothing = RouteTrie(isIPv4: true).view

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
        public func isOneLookup(isIPv4: Bool) -> Bool { isIPv4 ? four.isOneLookup : six.isOneLookup }

        /// Whether packets between the same addresses, come in by the same interface, all have the
        /// same answer.
        @inlinable @inline(__always)
        public func needsAddressesOnly(isIPv4: Bool) -> Bool {
            isIPv4 ? four.needsAddressesOnly : six.needsAddressesOnly
        }

        /// Only where `isOneLookup`.
        @inlinable @inline(__always)
        public func lookup(ipv4 address: UInt32) -> RouteRecord {
            records[Int(four.trie.find(ipv4: address) & TrieEntry.valueMask)]
        }

        /// Only where `isOneLookup`.
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
