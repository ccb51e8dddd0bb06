// The kernel's rules and routes as one thread keeps them, and the tries made of them. Changes go into
// the tries in place, word by word; readers hold generations (`RouteTable`) and never wait.

import IP

/// Not thread-safe: one thread owns it. The generations it makes are for any thread.
public final class RouteMirror {
    public private(set) var rules: [RuleEntry] = []
    public private(set) var countIPv4 = 0
    public private(set) var countIPv6 = 0
    fileprivate private(set) var four = RuleProgram()
    fileprivate private(set) var six = RuleProgram()
    private var layers: [RouteLayer] { four.layers + six.layers }
    fileprivate private(set) var answers = RouteAnswers()
    /// What the tries' readers may have of them.
    private var published = RouteAnswers()
    private(set) var stores: [TableID: RouteStore] = [:]
    private(set) var sets: [[RouteSpec]] = []
    /// How many prefixes have a set; and numbers of sets that none has any more.
    private var uses: [Int] = []
    private var spare: [UInt32] = []
    private var numbers: [[RouteSpec]: UInt32] = [:]
    /// Answers of sets, by TOS and whether the prefix is the default route's.
    private var answered = [[Int32]](repeating: [], count: 16)
    private var groups: [Int32: UInt32] = [:]
    private var vrfs: [UInt32] = []
    /// Readers of the last generation see no change any more.
    private var isDetached = false
    /// The tries do not yet hold what the stores hold.
    private var isStale = true

    private static let unknown: Int32 = -1
    /// No route of the set serves such packets; and: the next table is to be asked.
    private static let absent: Int32 = -2
    private static let thrown: Int32 = -3

    public init() {}

    /// Everything anew, in the kernel's order.
    /// - Parameters:
    ///   - groups: by ifindex the device group, for `suppress_ifgroup`; 0 where it is missing.
    ///   - vrfs: tables of the VRFs that interfaces are in, for `l3mdev`.
    public func load(
        _ entries: some Sequence<RouteEntry>, rules: [RuleEntry], groups: [Int32: UInt32] = [:],
        vrfs: [UInt32] = []
    ) {
        begin(rules: rules, groups: groups, vrfs: vrfs)
        for entry in entries { add(entry) }
        finish()
    }

    /// As `load`, in parts: `begin`, any number of `add`, `finish`.
    public func begin(
        rules: [RuleEntry], groups: [Int32: UInt32] = [:], vrfs: [UInt32] = []
    ) {
        self.rules = rules
        self.groups = rules.contains { $0.suppressGroup != nil } ? groups : [:]
        self.vrfs = vrfs
        stores = [:]
        sets = []
        uses = []
        spare = []
        numbers = [:]
        answers = RouteAnswers()
        answered = [[Int32]](repeating: [], count: 16)
        (countIPv4, countIPv6) = (0, 0)
        isStale = true
    }

    public func add(_ entry: RouteEntry) {
        change(entry.prefix, entry.table) { $0.append(RouteSpec(entry)) }
    }

    public func finish() { compile() }

    /// Other rules over the same routes. See `load`.
    public func change(
        rules: [RuleEntry], groups: [Int32: UInt32] = [:], vrfs: [UInt32] = []
    ) {
        let groups = rules.contains { $0.suppressGroup != nil } ? groups : [:]
        guard rules != self.rules || groups != self.groups || vrfs != self.vrfs else { return }
        if groups != self.groups {
            answered = [[Int32]](repeating: [], count: 16)
        }
        (self.rules, self.groups, self.vrfs) = (rules, groups, vrfs)
        isStale = true
    }

    // MARK: changes

    /// How a new route stands to those of its prefix and metric (`NLM_F_REPLACE`, `NLM_F_APPEND`).
    public enum Place: Sendable { case first, last, instead }

    /// A route that came. The same route again changes nothing.
    /// - Returns: false when the mirror may now be another than the kernel's.
    public func insert(_ entry: RouteEntry, _ place: Place) -> Bool {
        let new = RouteSpec(entry)
        var isSure = true
        change(entry.prefix, entry.table) { routes in
            let same = routes.indices.filter {
                routes[$0].metric == new.metric && routes[$0].tos == new.tos
            }
            // Which of several nexthops IPv6 replaces, and whether others come or go with it,
            // depends on more than is told (net/ipv6/ip6_fib.c `fib6_add_rt2node`).
            isSure =
                entry.prefix.isIPv4 || same.isEmpty
                || same.count == 1 && new.isSingle && routes[same[0]].isSingle
                    && routes[same[0]].hasGateway == new.hasGateway
            guard !routes.contains(new) else { return }
            if !entry.prefix.isIPv4, place != .instead,
                let index = same.first(where: {
                    // The nexthops of one IPv6 route are told together whenever one joins them.
                    !routes[$0].interfaces.isEmpty
                        && routes[$0].interfaces.count < new.interfaces.count
                        && new.holdsHops(of: routes[$0])
                })
            {
                routes[index] = new
                return
            }
            switch place {
            case .instead where !same.isEmpty: routes[same[0]] = new
            case .first where !same.isEmpty: routes.insert(new, at: same[0])
            default: routes.append(new)
            }
        }
        return isSure
    }

    /// A route that went.
    /// - Returns: false when the mirror may now be another than the kernel's.
    public func remove(_ entry: RouteEntry) -> Bool {
        let old = RouteSpec(entry)
        var isSure = false
        change(entry.prefix, entry.table) { routes in
            if let index = routes.firstIndex(of: old) {
                // A nexthop that IPv6 tells of alone may have been one of several.
                isSure =
                    entry.prefix.isIPv4 || old.interfaces.isEmpty
                    || !routes.contains {
                        $0 != old && $0.metric == old.metric && $0.holdsHops(of: old)
                    }
                routes.remove(at: index)
            } else if !entry.prefix.isIPv4,
                let index = routes.firstIndex(where: {
                    $0.metric == old.metric && $0.kind == old.kind
                        && $0.interfaces.count > old.interfaces.count
                        && $0.holdsHops(of: old)
                })
            {
                // One of the nexthops of an IPv6 route; links take others away without a word.
                routes[index].removeHops(of: old)
            }
        }
        return isSure
    }

    private func change(_ prefix: Prefix, _ table: UInt32, _ body: (inout [RouteSpec]) -> Void) {
        let id = TableID(isIPv4: prefix.isIPv4, table: table)
        let old = stores[id]?[prefix]
        var routes = old.map { sets[Int($0)] } ?? []
        let before = routes.count
        body(&routes)
        if prefix.isIPv4 {
            countIPv4 += routes.count - before
        } else {
            countIPv6 += routes.count - before
        }
        let new = routes.isEmpty ? nil : number(routes)
        guard new != old else { return }
        let uplinks = prefix.length == 0 && !isStale ? defaultInterfaces : nil
        stores[id, default: RouteStore(isIPv4: prefix.isIPv4)][prefix] = new
        if let new { uses[Int(new)] += 1 }
        if let old { release(Int(old)) }
        for route in routes where route.tos != 0 && prefix.isIPv4 {
            if stores[id]!.tosValues.insert(route.tos).inserted { isStale = true }
        }
        if isStale { return }
        if let uplinks, uplinks != defaultInterfaces { keepFromReaders() }
        refresh(prefix, id)
    }

    /// A reader learns with its next generation which devices default routes leave by. Until then it must not
    /// see routes that go with the new ones: their sources would be taken for pods' addresses.
    private func keepFromReaders() {
        guard !isDetached else { return }
        isDetached = true
        for layer in layers { layer.trie.detach() }
    }

    private func number(_ routes: [RouteSpec]) -> UInt32 {
        if let known = numbers[routes] { return known }
        let new = spare.popLast() ?? UInt32(sets.count)
        if Int(new) == sets.count {
            sets.append(routes)
            uses.append(0)
        } else {
            sets[Int(new)] = routes
        }
        numbers[routes] = new
        return new
    }

    /// A set of one prefix less. Gateways and metrics that change for days are to leave nothing behind.
    private func release(_ set: Int) {
        uses[set] -= 1
        guard uses[set] == 0 else { return }
        numbers[sets[set]] = nil
        sets[set] = []
        for place in answered.indices where set < answered[place].count {
            answered[place][set] = Self.unknown
        }
        spare.append(UInt32(set))
    }

    // MARK: generations

    /// What readers are to take next. The one before is to be held until they have.
    public func generation() -> RouteTable {
        if isStale { compile() }
        isDetached = false
        return RouteTable(self)
    }

    /// To be called when all readers have the last generation: what the tries left may be used anew.
    public func reclaim() { for layer in layers { layer.trie.reclaim() } }

    /// Bytes of the tries that readers walk.
    public var trieBytes: Int { layers.reduce(0) { $0 + $1.trie.byteCount } }

    private func compile() {
        isStale = false
        four = RuleCompiler(isIPv4: true, rules: rules, vrfs: vrfs).program(stores)
        six = RuleCompiler(isIPv4: false, rules: rules, vrfs: vrfs).program(stores)
        for layer in layers { fill(layer) }
        published = answers
    }

    private func fill(_ layer: RouteLayer) {
        for (place, id) in layer.tables.enumerated() {
            guard let store = stores[id] else { continue }
            let before = layer.tables[..<place].compactMap { stores[$0] }
            store.visit { prefix, set in
                guard answer(set, prefix.length, layer.tos) != Self.absent,
                    !before.contains(where: { holds($0, prefix, layer.tos) })
                else { return }
                layer.trie.set(prefix, effective(prefix.address, prefix.length, layer))
            }
        }
        layer.trie.compact()
    }

    /// A prefix of one table changed: of every trie with that table, what follows from it.
    private func refresh(_ prefix: Prefix, _ id: TableID) {
        for layer in (id.isIPv4 ? four : six).layers where layer.tables.contains(id) {
            store(prefix, layer)
            guard !prefix.isHost else { continue }
            // What other tables have within it may have looked through to it.
            for other in layer.tables where other != id {
                for inner in prefixes(of: other, within: prefix) { store(inner, layer) }
            }
        }
    }

    private func prefixes(of id: TableID, within prefix: Prefix) -> [Prefix] {
        guard let store = stores[id], let longest = store.lengths.first, longest > prefix.length
        else { return [] }
        var within: [Prefix] = []
        store.visit { inner, _ in
            if inner.length > prefix.length && prefix.covers(inner) { within.append(inner) }
        }
        return within
    }

    private func store(_ prefix: Prefix, _ layer: RouteLayer) {
        let isHeld = layer.tables.contains { id in
            stores[id].map { holds($0, prefix, layer.tos) } ?? false
        }
        if isHeld {
            let value = effective(prefix.address, prefix.length, layer)
            detachIfGrown()
            layer.trie.set(prefix, value)
        } else {
            let outer = longest(prefix.address, below: prefix.length, layer).map {
                (length: $0, value: effective(prefix.address, $0, layer))
            }
            detachIfGrown()
            layer.trie.remove(prefix, outer: outer)
        }
    }

    /// Whether a table has a route to the prefix that serves packets of the TOS.
    private func holds(_ store: RouteStore, _ prefix: Prefix, _ tos: UInt8) -> Bool {
        store[prefix].map { answer($0, prefix.length, tos) != Self.absent } ?? false
    }

    /// Readers of the last generation have the old records: nothing that they walk may lead beyond.
    private func detachIfGrown() {
        guard published.records !== answers.records || published.hops !== answers.hops else {
            return
        }
        published = answers
        for layer in layers { layer.trie.detach() }
    }

    private func longest(_ address: Address, below length: Int, _ layer: RouteLayer) -> Int? {
        layer.tables.compactMap { id -> Int? in
            guard let store = stores[id] else { return nil }
            return store.lengths.first { candidate in
                guard candidate < length, let set = store.set(address, length: candidate) else {
                    return false
                }
                return answer(set, candidate, layer.tos) != Self.absent
            }
        }.max()
    }

    /// The record for addresses whose longest prefix, of any of the tables, is this one.
    private func effective(_ address: Address, _ length: Int, _ layer: RouteLayer) -> UInt32 {
        for id in layer.tables {
            guard let store = stores[id] else { continue }
            for candidate in store.lengths where candidate <= length {
                guard let set = store.set(address, length: candidate) else { continue }
                let answer = answer(set, candidate, layer.tos)
                if answer == Self.absent { continue }
                if answer == Self.thrown { break }
                return UInt32(answer)
            }
        }
        return 0
    }

    private func answer(_ set: UInt32, _ length: Int, _ tos: UInt8) -> Int32 {
        let place = Int(tos >> 2 & 7) * 2 + (length == 0 ? 1 : 0)
        if answered[place].count <= Int(set) {
            answered[place] += [Int32](
                repeating: Self.unknown, count: max(64, sets.count * 2 - answered[place].count))
        }
        let known = answered[place][Int(set)]
        if known != Self.unknown { return known }
        let ordered = RouteAnswers.order(sets[Int(set)], tos: tos)
        let new: Int32 =
            if ordered.isEmpty {
                Self.absent
            } else if ordered[0].kind == .throw {
                Self.thrown
            } else {
                Int32(answers.index(ordered, isDefault: length == 0, groups: groups))
            }
        answered[place][Int(set)] = new
        return new
    }

    /// See `RouteTable.defaultInterfaces`.
    fileprivate var defaultInterfaces: [Int32] {
        let tables = Set(layers.flatMap(\.tables))
        let routes = tables.flatMap { id in
            stores[id]?[id.isIPv4 ? .allIPv4 : .allIPv6].map { sets[Int($0)] } ?? []
        }
        return Set(routes.filter { $0.kind == .unicast }.flatMap(\.interfaces)).sorted()
    }

    // MARK: for explanations

    /// The routes of a table to a prefix, the preferred first.
    func routes(_ prefix: Prefix, _ id: TableID, tos: UInt8) -> [RouteEntry] {
        guard let set = stores[id]?[prefix] else { return [] }
        return RouteAnswers.order(sets[Int(set)], tos: tos).map { $0.entry(prefix, id.table) }
    }

    func group(of interface: Int32?) -> UInt32? {
        interface.map { groups[$0] ?? 0 }
    }

    /// All routes, in no order: for comparing mirrors.
    public func entries() -> [RouteEntry] {
        stores.flatMap { id, store in
            var found: [RouteEntry] = []
            store.visit { prefix, set in
                found += sets[Int(set)].map { $0.entry(prefix, id.table) }
            }
            return found
        }
    }
}

extension RouteTable {
    /// A generation that nobody changes: routes and rules in the kernel's order.
    public convenience init(
        _ entries: some Sequence<RouteEntry>, rules: [RuleEntry] = RuleEntry.kernelDefaults
    ) {
        let mirror = RouteMirror()
        mirror.load(entries, rules: rules)
        self.init(mirror)
    }

    fileprivate convenience init(_ mirror: RouteMirror) {
        self.init(
            four: mirror.four, six: mirror.six, answers: mirror.answers, countIPv4: mirror.countIPv4,
            countIPv6: mirror.countIPv6, defaultInterfaces: mirror.defaultInterfaces)
    }
}
