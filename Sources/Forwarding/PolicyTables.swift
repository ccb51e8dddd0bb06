// A policy compiled to the immutable tables that the judge reads through plain pointers.

import IP
import Routing

public final class PolicyTables: @unchecked Sendable {
    // @unchecked: all memory is written only in `init`.
    public let policy: Policy
    public let view: PolicyView

    private let tables: [PrefixTable]
    private let memory: StableMemory

    public init(_ policy: Policy) {
        // `Configuration.load` refuses more.
        precondition(
            policy.interfaces.count <= Limits.interfaces.value && policy.tunnels.count <= Limits.tunnels.value
                && policy.devices.count <= Limits.devices.value)
        self.policy = policy
        var compiler = PolicyCompiler(policy)
        view = compiler.view()
        tables = compiler.tables
        memory = compiler.memory
    }
}

/// The working state of one compilation.
private struct PolicyCompiler {
    private typealias Pairs = [(prefix: Prefix, item: Int)]

    let policy: Policy
    /// Of all tunnels together, in order: what `Verdict.destination` counts.
    private var destinationCount = 0
    private(set) var tables: [PrefixTable] = []
    let memory = StableMemory()
    private var candidates: [UInt16] = [0]
    private var lists: [DestinationList] = [DestinationList(isMartian: false, count: 0, first: 0)]
    /// The list of no destination begins with the first.
    private var rules: [DestinationRule] = [.end]
    private var ports: [UInt32] = []
    private var tableOfAny: PrefixTable.View?

    init(_ policy: Policy) { self.policy = policy }

    mutating func view() -> PolicyView {
        let locals = locals()
        let addresses = table(addressClasses())
        let tunnels = policy.tunnels.map { record($0) }
        return PolicyView(
            locals: locals, candidates: memory.copy(candidates), tunnels: memory.copy(tunnels),
            tunnelCount: tunnels.count, addresses: addresses, lists: memory.copy(lists),
            rules: memory.copy(rules), ports: memory.copy(ports),
            rewrites: memory.copy(policy.rewrites.map(SourceRewriteRecord.init)),
            rewriteCount: policy.rewrites.count,
            deviceMTUs: memory.copy(policy.devices.map { UInt32($0.mtu) }),
            untouchedCells: untouchedCells, mssIPv4: policy.mssIPv4.encoded,
            mssIPv6: policy.mssIPv6.encoded, ecn: policy.ecn, dscp: policy.dscp, ttl: policy.ttl)
    }

    private mutating func table(_ entries: [(Prefix, UInt32)]) -> PrefixTable.View {
        let table = PrefixTable(longestMatch: entries)
        tables.append(table)
        return table.view
    }

    /// - Parameter number: stores the items that cover a prefix; asked once for equal ones.
    private mutating func table(
        _ pairs: Pairs, _ number: (inout PolicyCompiler, [Int]) -> UInt32
    ) -> PrefixTable.View {
        var known: [[Int]: UInt32] = [:]
        var entries: [(Prefix, UInt32)] = []
        for (prefix, items) in coveringItems(pairs) {
            let found = known[items] ?? number(&self, items)
            known[items] = found
            entries.append((prefix, found))
        }
        return table(entries)
    }

    private var untouchedCells: UInt16 {
        guard policy.dscp == .pipe, policy.ttl == .pipe else { return 0 }
        return (0..<16).reduce(0) { (cells, cell) -> UInt16 in
            let inner = UInt8(cell >> 2)
            let isDropped = policy.ecn == .standard && UInt8(cell) == ECN.notCapableCongested
            let isKept = ECN.decapsulated(policy.ecn, inner: inner, outer: UInt8(cell & 3)) == inner
            return isKept && !isDropped ? cells | 1 << UInt16(cell) : cells
        }
    }

    private mutating func locals() -> PrefixTable.View {
        let pairs = policy.tunnels.enumerated().flatMap { index, tunnel in
            tunnel.local.map { (prefix: $0, item: index) }
        }
        return table(pairs) { compiler, tunnels in
            compiler.candidates.append(UInt16(tunnels.count))
            compiler.candidates += tunnels.map { UInt16($0) }
            return UInt32(compiler.candidates.count - tunnels.count - 1)
        }
    }

    /// A more specific prefix carries the flags of those that cover it, so that the order of
    /// the reasons does not depend on which prefix is longer.
    private func addressClasses() -> [(Prefix, UInt32)] {
        var flagged: Pairs = []
        func add(_ prefixes: [Prefix], _ flag: UInt32) {
            flagged += prefixes.map { ($0, Int(flag)) }
        }
        for special in SpecialPrefix.table { add([special.prefix], special.flags) }
        add(refused, AddressClass.refused)
        add(policy.denySources, AddressClass.local)
        for tunnel in policy.tunnels {
            add(tunnel.local.filter { $0.length > 0 }, AddressClass.local)
            add(tunnel.local.filter(\.isHost), AddressClass.endpoint)
            // One that holds everything says nothing of sources: the routes to pods do.
            add(tunnel.destinations.map(\.prefix).filter { $0.length > 0 }, AddressClass.local)
        }
        add(policy.exemptSources, AddressClass.exempt)
        add(policy.rewrites.map { Prefix(host: $0.from) }, AddressClass.rewritten)
        // Answered through us: nobody else may have it.
        add(policy.rewrites.map { Prefix(host: $0.to) }, AddressClass.local)
        return coveringItems(flagged).map { prefix, flags in
            (prefix, flags.reduce(0) { $0 | UInt32($1) })
        }
    }

    private var refused: [Prefix] {
        SpecialPrefix.table.filter { $0.isRefused(dropMartians: policy.dropMartians) }.map(\.prefix)
    }

    private mutating func record(_ tunnel: Policy.Tunnel) -> TunnelRecord {
        var interfaces = [UInt64](repeating: 0, count: (policy.interfaces.count + 63) / 64)
        for interface in tunnel.interfaces { interfaces[interface / 64] |= 1 << UInt64(interface % 64) }
        return TunnelRecord(
            interfaces: memory.copy(interfaces), modes: tunnel.modes.reduce(0) { $0 | 1 << $1.rawValue },
            passOtherRemotes: tunnel.passOtherRemotes, remotes: table(tunnel.remotes.map { ($0, 1) }),
            destinations: destinations(of: tunnel))
    }

    private mutating func destinations(of tunnel: Policy.Tunnel) -> PrefixTable.View {
        if tunnel.destinations.isEmpty, let tableOfAny { return tableOfAny }
        let first = rules.count
        var pairs: Pairs = []
        if tunnel.destinations.isEmpty {
            rules.append(rule(Policy.Destination(prefix: .allIPv4), index: Verdict.noIndex))
            pairs = [(.allIPv4, first), (.allIPv6, first)]
        }
        for destination in tunnel.destinations {
            pairs.append((destination.prefix, rules.count))
            rules.append(rule(destination, index: UInt16(clamping: destinationCount)))
            destinationCount += 1
        }
        let martian = Int.max
        pairs += refused.map { (prefix: $0, item: martian) }
        let table = table(pairs) { $0.list($1, martian: martian) }
        if tunnel.destinations.isEmpty { tableOfAny = table }
        return table
    }

    /// Rules of a list must lie side by side: those of nested prefixes are copied.
    private mutating func list(_ items: [Int], martian: Int) -> UInt32 {
        let chosen = items.filter { $0 != martian }
        lists.append(
            DestinationList(
                isMartian: items.contains(martian), count: UInt32(chosen.count),
                first: UInt32(rules.count)))
        rules += chosen.map { rules[$0] } + [.end]
        return UInt32(lists.count - 1)
    }

    private mutating func rule(_ destination: Policy.Destination, index: UInt16) -> DestinationRule {
        let firstPort = UInt32(ports.count)
        ports += destination.ports.map { UInt32($0.lowerBound) << 16 | UInt32($0.upperBound) }
        let device = policy.devices[destination.device]
        return DestinationRule(
            protocolNumber: destination.protocolNumber.map(UInt16.init)
                ?? DestinationRule.anyProtocol,
            portCount: UInt16(destination.ports.count), firstPort: firstPort,
            mtu: device.isElsewhere ? UInt32(device.mtu) : DestinationRule.anySize,
            way: DestinationRule.way(device: destination.device, index: index),
            mss: destination.mss?.encoded ?? DestinationRule.mssInherited)
    }
}

extension MSSClamp {
    fileprivate var encoded: UInt16 {
        switch self {
        case .off: DestinationRule.mssOff
        case .auto: DestinationRule.mssAuto
        case .fixed(let value): value
        }
    }
}
