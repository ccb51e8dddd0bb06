// One generation of the host's routes: which interfaces lead back to an address?
// Immutable once built; the mirror that follows the kernel publishes a new one per change.

/// The kernel's route types, linux/rtnetlink.h `RTN_*`, with its numbers.
public enum RouteKind: UInt8, Sendable, Hashable, BitwiseCopyable {
    case none = 0
    case unicast = 1
    case local = 2
    case broadcast = 3
    case anycast = 4
    case multicast = 5
    case blackhole = 6
    case unreachable = 7
    case prohibit = 8
    case `throw` = 9
}

/// One route as the kernel's dump or `ip -j route` gives it.
public struct RouteEntry: Hashable, Sendable {
    public var prefix: Prefix
    /// Routing table: 255 local, 254 main, 253 default (linux/rtnetlink.h `RT_TABLE_*`).
    public var table: UInt32
    public var kind: RouteKind
    /// Lower is preferred (`RTA_PRIORITY`).
    public var metric: UInt32
    /// `rtm_tos`; a route with one serves only packets that carry it.
    public var tos: UInt8
    /// ifindex of every nexthop.
    public var interfaces: [Int32]

    public init(
        prefix: Prefix, table: UInt32, kind: RouteKind = .unicast, metric: UInt32 = 0,
        tos: UInt8 = 0, interfaces: [Int32]
    ) {
        self.prefix = prefix
        self.table = table
        self.kind = kind
        self.metric = metric
        self.tos = tos
        self.interfaces = interfaces
    }

    public static let tableDefault: UInt32 = 253
    public static let tableMain: UInt32 = 254
    public static let tableLocal: UInt32 = 255
}

/// What a lookup finds: equal answers of many prefixes share one record.
public struct RouteRecord: BitwiseCopyable, Sendable {
    public let kind: RouteKind
    /// The prefix was of length 0.
    public let isDefault: Bool
    /// Interfaces of the preferred route stand first, those of the others of its prefix after.
    @usableFromInline let bestCount: UInt16
    @usableFromInline let allCount: UInt16
    @usableFromInline let firstHop: UInt32
}

/// The tables that the kernel's default rules walk (local, main, default), in one lookup.
public final class RouteTable: @unchecked Sendable {
    // @unchecked: all memory is written only in `init`.
    public let view: View
    /// Routes that went in, by family (`shuck_routes{family}`).
    public let countIPv4: Int
    public let countIPv6: Int
    private let prefixes: PrefixTable
    private let records: UnsafeMutablePointer<RouteRecord>
    private let hops: UnsafeMutablePointer<Int32>

    private struct Answer: Hashable {
        var kind: RouteKind
        var isDefault: Bool
        var best: [Int32]
        var others: [Int32]
    }

    /// Entries of other tables than local, main and default are ignored.
    public init(_ entries: [RouteEntry]) {
        var answers: [Answer] = [Answer(kind: .none, isDefault: false, best: [], others: [])]
        var known: [Answer: UInt32] = [:]
        var painting: [(Prefix, UInt32)] = []
        for table in [RouteEntry.tableDefault, RouteEntry.tableMain, RouteEntry.tableLocal] {
            let behind = painting
            let byPrefix = Dictionary(
                grouping: entries.filter { $0.table == table }, by: \.prefix)
            for (prefix, routes) in byPrefix.sorted(by: { $0.key.length < $1.key.length }) {
                let answer = Self.answer(prefix, routes)
                if answer.kind == .throw {
                    painting += Self.uncovered(behind, prefix)
                    continue
                }
                let index = known[answer] ?? UInt32(answers.count)
                if index == answers.count {
                    answers.append(answer)
                    known[answer] = index
                }
                painting.append((prefix, index))
            }
        }
        prefixes = PrefixTable(painting: painting)
        records = .allocate(capacity: answers.count)
        let flat = answers.flatMap { $0.best + $0.others }
        hops = .allocate(capacity: max(flat.count, 1))
        hops.initialize(from: flat, count: flat.count)
        var firstHop: UInt32 = 0
        for (index, answer) in answers.enumerated() {
            let all = answer.best.count + answer.others.count
            (records + index).initialize(
                to: RouteRecord(
                    kind: answer.kind, isDefault: answer.isDefault,
                    bestCount: UInt16(answer.best.count), allCount: UInt16(all),
                    firstHop: firstHop))
            firstHop += UInt32(all)
        }
        view = View(
            prefixes: prefixes.view, records: UnsafePointer(records), hops: UnsafePointer(hops))
        countIPv4 = entries.count { $0.prefix.isIPv4 }
        countIPv6 = entries.count - countIPv4
    }

    deinit {
        records.deallocate()
        hops.deallocate()
    }

    /// What a `throw` route leaves of its prefix to the tables behind its own.
    private static func uncovered(
        _ behind: [(Prefix, UInt32)], _ prefix: Prefix
    ) -> [(Prefix, UInt32)] {
        let base = behind.lastIndex { $0.0.covers(prefix) }
        return [(prefix, base.map { behind[$0].1 } ?? 0)]
            + behind[(base ?? 0)...].filter { prefix.covers($0.0) }
    }

    /// The kernel prefers the lowest metric without a TOS. IPv6 keeps the nexthops of one
    /// multipath route as routes of equal metric (net/ipv6/ip6_fib.c, siblings): all are best.
    private static func answer(_ prefix: Prefix, _ routes: [RouteEntry]) -> Answer {
        let plain = routes.filter { $0.tos == 0 }
        let candidates = plain.isEmpty ? routes : plain
        let first = candidates.min { $0.metric < $1.metric }!
        var best = first.interfaces
        if !prefix.isIPv4 {
            best += candidates.filter { $0.metric == first.metric && $0.kind == first.kind }
                .flatMap(\.interfaces)
        }
        let others = routes.filter { $0.kind == .unicast }.flatMap(\.interfaces)
        return Answer(
            kind: first.kind, isDefault: prefix.length == 0,
            best: Set(best).sorted(), others: Set(others).subtracting(best).sorted())
    }

    /// What a reader holds. Valid while the table lives.
    public struct View: @unchecked Sendable, BitwiseCopyable {
        @usableFromInline let prefixes: PrefixTable.View
        @usableFromInline let records: UnsafePointer<RouteRecord>
        @usableFromInline let hops: UnsafePointer<Int32>

        @inlinable @inline(__always)
        public func lookup(_ address: Address) -> RouteRecord {
            records[Int(prefixes.lookup(address))]
        }

        @inlinable @inline(__always)
        public func lookup(ipv6 address: Address) -> RouteRecord {
            records[Int(prefixes.lookup(ipv6: address))]
        }

        @inlinable @inline(__always)
        public func lookup(ipv4 address: UInt32) -> RouteRecord {
            records[Int(prefixes.lookup(ipv4: address))]
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
