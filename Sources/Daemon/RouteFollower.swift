// The mirror of the kernel's rules and routes: a dump, then every change of it, and a dump again
// when changes were lost. The control thread's alone; what it hands out is for any thread.

import LinuxIO
import Routing

@dynamicMemberLookup
struct RouteFollower {
    private(set) var mirror = RouteMirror()
    private(set) var generation: RouteTable
    private(set) var status = RouteStatus()
    /// When a pending dump may begin: dumps take at most a tenth of the time.
    private var dueNanoseconds: UInt64 = 0
    private var dumpNanoseconds: UInt64 = 0
    /// As they were when rules and routes last were read with them.
    private var links: [Link] = []
    /// By ifindex, as last told or read.
    private var states: [Int32: LinkState] = [:]
    /// By number, the interfaces that each nexthop object came to in the last dump.
    private var nexthops: [UInt32: [Int32]] = [:]
    /// What dumps took of the notices and others must hear of: see `takeUnseen`.
    private var unseen = KernelNotices()

    init(_ netlink: NetlinkSocket, _ notices: NetlinkSocket, _ links: [Link]) throws(SystemError) {
        generation = RouteTable([])
        try dump(netlink, notices, links)
    }

    /// Goes on counting where the follower of another process stopped.
    mutating func count(changes: UInt64, resyncs: [String: UInt64]) {
        status.changes += changes
        for (cause, count) in resyncs {
            if let cause = ResyncCause(rawValue: cause) { status.resyncs[cause, default: 0] += count }
        }
    }

    subscript<T>(dynamicMember member: KeyPath<RouteStatus, T>) -> T { status[keyPath: member] }

    /// Hands out what the mirror holds now.
    private mutating func renew() {
        generation = mirror.generation()
        (status.countIPv4, status.countIPv6) = (mirror.countIPv4, mirror.countIPv6)
        status.rules = mirror.rules.count
    }

    /// Reads everything again into a mirror of its own: until it is whole, and when it fails, readers keep
    /// the generation that they have.
    private mutating func dump(
        _ netlink: NetlinkSocket, _ notices: NetlinkSocket, _ links: [Link]
    ) throws(SystemError) {
        let start = Host.monotonicNanoseconds()
        // What was told before is in the dump; what is told meanwhile is taken after it.
        states = Dictionary(links.map { ($0.index, $0.state) }, uniquingKeysWith: { $1 })
        let before = notices.takeNotices(limit: .max)
        unseen.addWhatConcernsLinks(of: before)
        _ = note(before.linkChanges)
        let rules = try netlink.rules()
        // A kernel built without nexthop objects has none.
        let nexthops = (try? netlink.nexthops()) ?? [:]
        self.nexthops = nexthops
        let (groups, vrfs) = Self.properties(links)
        let fresh = RouteMirror()
        var ignored = 0
        try netlink.routes(
            begin: {
                fresh.begin(rules: rules, groups: groups, vrfs: vrfs)
                ignored = 0
            },
            each: { route in
                if route.isSourceSpecific { ignored += 1 }
                if let entry = route.found(nexthops) { fresh.add(entry) }
            })
        status.notes = ignored == 0 ? [] : ["\(ignored) IPv6 routes with a source prefix are not followed"]
        fresh.finish()
        mirror = fresh
        let meanwhile = notices.takeNotices(limit: .max)
        unseen.addWhatConcernsLinks(of: meanwhile)
        var isUnsure =
            note(meanwhile.linkChanges) || meanwhile.areLost || meanwhile.rules
            || meanwhile.nexthops || meanwhile.goneAddresses || meanwhile.linkdownRule
        for change in meanwhile.routes where !apply(change) { isUnsure = true }
        renew()
        self.links = links
        let end = Host.monotonicNanoseconds()
        dumpNanoseconds = end - start
        status.currentNanoseconds = end
        status.due = nil
        if isUnsure { ask(meanwhile.areLost ? .lost : .links) }
    }

    private static func properties(_ links: [Link]) -> (groups: [Int32: UInt32], vrfs: [UInt32]) {
        (
            Dictionary(links.map { ($0.index, $0.group) }, uniquingKeysWith: { $1 }),
            links.map(\.vrfTable).filter { $0 != 0 }.sorted()
        )
    }

    /// Sees to it that a dump is made, not before nine times what the last one took is over.
    mutating func ask(_ cause: ResyncCause) {
        guard status.due == nil else { return }
        status.due = cause
        dueNanoseconds = status.currentNanoseconds + Timing.dumpPauses * dumpNanoseconds
    }

    /// - Parameter links: as they are now.
    /// - Returns: whether there is a new generation.
    mutating func follow(
        _ told: KernelNotices, _ netlink: NetlinkSocket, _ notices: NetlinkSocket, links: [Link]
    ) throws(SystemError) -> Bool {
        if told.areLost { ask(.lost) }
        if told.nexthops { ask(.nexthops) }
        if note(told.linkChanges) || told.goneAddresses || told.linkdownRule { ask(.links) }
        if let cause = status.due, Host.monotonicNanoseconds() >= dueNanoseconds {
            // When it fails it is tried again, but not at once.
            dueNanoseconds = Host.monotonicNanoseconds() + Timing.dumpRetryNanoseconds
            try dump(netlink, notices, links)
            status.resyncs[cause, default: 0] += 1
            return true
        }
        var isChanged = false
        if told.rules || links != self.links {
            let (groups, vrfs) = Self.properties(links)
            mirror.change(
                rules: try netlink.rules(), groups: groups, vrfs: vrfs)
            self.links = links
            isChanged = true
        }
        // A mirror that waits for a dump still follows what it can.
        for change in told.routes {
            if !apply(change) { ask(.unlike) }
            status.changes += 1
            isChanged = true
        }
        if status.due == nil { status.currentNanoseconds = Host.monotonicNanoseconds() }
        guard isChanged else { return false }
        renew()
        return true
    }

    /// Keeps what was told of links.
    /// - Returns: whether routes may have gone or come with a link, of which the kernel does not tell.
    private mutating func note(_ changes: [KernelNotices.LinkChange]) -> Bool {
        var isChanged = false
        for change in changes {
            let old = states[change.index]
            states[change.index] = change.state
            // A link that is new has no routes but those that will be told of.
            if old != nil && old != change.state { isChanged = true }
        }
        return isChanged
    }

    /// - Returns: false when the mirror cannot be what the kernel has.
    private func apply(_ change: KernelNotices.RouteChange) -> Bool {
        var route = change.route
        // Since the last dump came, or its nexthop objects changed: another dump is to tell.
        if route.nexthop != 0, route.entry.interfaces.isEmpty, nexthops[route.nexthop] == nil {
            return false
        }
        // A nexthop that died is still one of its route's until it goes.
        if !change.isNew { route.isDead = false }
        guard let entry = route.found(nexthops) else {
            // A dead route is none, but what it took the place of is gone.
            return !(route.isDead && change.isReplacing)
        }
        guard change.isNew else {
            // IPv6 dumps nothing of what stands between nexthops told as one (net/ipv6/ip6_fib.c
            // `fib6_dump_node`): it shows when they are gone.
            let mayHaveHidden =
                !entry.prefix.isIPv4 && route.nexthop == 0 && entry.interfaces.count > 1
            return mirror.remove(entry) && !mayHaveHidden
        }
        // IPv6 puts a new route behind those of its metric (net/ipv6/ip6_fib.c).
        let isLast = change.isAppended || !entry.prefix.isIPv4
        return mirror.insert(entry, change.isReplacing ? .instead : isLast ? .last : .first)
    }

    /// What dumps since the last call took of the notices, without what is in the mirror: links, addresses
    /// and settings that changed after the caller last read them.
    mutating func takeUnseen() -> KernelNotices {
        defer { unseen = KernelNotices() }
        return unseen
    }

    /// When every worker has the last generation.
    func reclaim() { mirror.reclaim() }

    /// Milliseconds until a dump is to be made or notices are to be heard of; nil: none is due.
    var patience: Int32? {
        if !unseen.isEmpty { return 0 }
        guard status.due != nil else { return nil }
        let now = Host.monotonicNanoseconds()
        return now >= dueNanoseconds ? 0 : Int32(clamping: (dueNanoseconds - now) / 1_000_000 + 1)
    }
}
