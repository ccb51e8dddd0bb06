// The answers that lookups end in: equal ones are one record, and records only ever come to more.

/// Memory that grows by being replaced; readers keep what they have.
final class GrowingMemory<Element: BitwiseCopyable>: @unchecked Sendable {
    // @unchecked: the writer fills only what no reader has an index of yet.
    let base: UnsafeMutablePointer<Element>
    let capacity: Int
    fileprivate(set) var count: Int

    init(capacity: Int) {
        base = .allocate(capacity: capacity)
        self.capacity = capacity
        count = 0
    }

    deinit { base.deallocate() }

    fileprivate func adding(_ elements: [Element]) -> GrowingMemory {
        var memory = self
        if count + elements.count > capacity {
            memory = GrowingMemory(capacity: (count + elements.count) * 2)
            memory.base.initialize(from: base, count: count)
            memory.count = count
        }
        (memory.base + memory.count).initialize(from: elements, count: elements.count)
        memory.count += elements.count
        return memory
    }
}

struct RouteAnswers {
    private struct Answer: Hashable {
        var kind: RouteKind
        var isDefault: Bool
        var group: UInt32
        var best: [Int32]
        var others: [Int32]
    }

    private(set) var records = GrowingMemory<RouteRecord>(capacity: 256)
    private(set) var hops = GrowingMemory<Int32>(capacity: 1024)
    private var known: [Answer: UInt32] = [:]

    /// What a rule itself answers; 0: nothing was found.
    static let refusals: [RouteKind] = [.none, .blackhole, .unreachable, .prohibit]

    init() {
        for kind in Self.refusals {
            _ = add(Answer(kind: kind, isDefault: false, group: 0, best: [], others: []))
        }
    }

    private mutating func add(_ answer: Answer) -> UInt32 {
        if let index = known[answer] { return index }
        let index = UInt32(records.count)
        let first = UInt32(hops.count)
        hops = hops.adding(answer.best + answer.others)
        records = records.adding([
            RouteRecord(
                kind: answer.kind, isDefault: answer.isDefault,
                bestCount: UInt16(clamping: answer.best.count),
                allCount: UInt16(clamping: answer.best.count + answer.others.count),
                firstHop: first, group: answer.group)
        ])
        known[answer] = index
        return index
    }

    /// The kernel takes the route of the packet's own TOS before one of none, then the lowest
    /// metric, then the first (net/ipv4/fib_trie.c `fib_table_lookup`).
    static func order(_ routes: [RouteSpec], tos: UInt8) -> [RouteSpec] {
        let applying = routes.filter { $0.tos == 0 || $0.tos == tos }
        return applying.enumerated().sorted {
            let (left, right) = ($0.element, $1.element)
            if left.tos != right.tos { return left.tos > right.tos }
            if left.metric != right.metric { return left.metric < right.metric }
            return $0.offset < $1.offset
        }.map(\.element)
    }

    /// - Parameter ordered: the applying routes, the best first; never empty.
    mutating func index(
        _ ordered: [RouteSpec], isDefault: Bool, groups: [Int32: UInt32]
    ) -> UInt32 {
        let best = ordered[0]
        var seen: Set<Int32> = []
        let hops = best.interfaces.filter { seen.insert($0).inserted }
        let others = ordered.filter { $0.kind == .unicast }.flatMap(\.interfaces)
            .filter { seen.insert($0).inserted }
        return add(
            Answer(
                kind: best.kind, isDefault: isDefault,
                group: hops.first.flatMap { groups[$0] } ?? 0, best: hops, others: others))
    }
}
