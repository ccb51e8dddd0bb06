// A policy compiled to the immutable tables that the judge reads through plain pointers.

import IP
import Routing

/// Flags of an inner source address.
struct SourceClass {
    static let martian: UInt32 = 1
    static let linkLocal: UInt32 = 2
    /// Tunnel endpoint, destination, or listed in `inner.deny`.
    static let local: UInt32 = 4
    /// Its reverse path is not checked.
    static let exempt: UInt32 = 8
    /// A tunnel's own host address: no encapsulator may have it (RFC 2473 §4.1.2).
    static let endpoint: UInt32 = 16
    /// A rule rewrites it where it comes in by the rule's interface.
    static let rewritten: UInt32 = 32
    /// Holds an IPv4 address, which counts as well.
    static let embedding: UInt32 = 64
}

/// One destination rule as the judge reads it.
struct DestinationRule: BitwiseCopyable {
    static let anyProtocol: UInt16 = 0xffff
    /// Values of `mss` beside a fixed number of bytes.
    static let mssInherited: UInt16 = 0
    static let mssOff: UInt16 = 1
    static let mssAuto: UInt16 = 2

    var protocolNumber: UInt16
    var portCount: UInt16
    var firstPort: UInt32
    /// Bytes of the largest packet that the device takes; `anySize` where the kernel sees to it.
    var mtu: UInt32
    /// `device`, and in the upper half `index`: as they stand in a verdict.
    var way: UInt32
    var mss: UInt16

    var device: UInt16 { UInt16(truncatingIfNeeded: way) }
    /// Ordinal among the destinations of all tunnels, or `Verdict.noIndex`.
    var index: UInt16 { UInt16(truncatingIfNeeded: way >> 16) }

    static let anySize = UInt32.max

    static func way(device: Int, index: UInt16) -> UInt32 { UInt32(index) << 16 | UInt32(device) }

    @inline(__always)
    static func at(
        _ rules: UnsafePointer<DestinationRule>, _ byteOffset: UInt32
    ) -> UnsafePointer<DestinationRule> {
        (UnsafeRawPointer(rules) + Int(byteOffset)).assumingMemoryBound(to: DestinationRule.self)
    }

    /// Behind the last rule of a list: takes everything, in no size.
    static let end = DestinationRule(
        protocolNumber: anyProtocol, portCount: 0, firstPort: 0, mtu: 0,
        way: way(device: 0, index: Verdict.noIndex), mss: mssInherited)
}

/// The rules that an inner destination address is put to, in order.
struct DestinationList: BitwiseCopyable {
    var isMartian: Bool
    var count: UInt32
    var first: UInt32
}

struct TunnelRecord: BitwiseCopyable {
    /// A bit for each of the policy's interfaces.
    var interfaces: UnsafePointer<UInt64>
    var modes: UInt8
    var passOtherRemotes: Bool
    var remotes: PrefixTable.View
    var destinations: PrefixTable.View

    @inline(__always)
    func takes(interface: UInt16) -> Bool {
        interfaces[Int(interface &>> 6)] &>> UInt64(interface & 63) & 1 != 0
    }
}

/// Everything the judge reads of a policy: pointers into memory that `PolicyTables` owns.
public struct PolicyView: @unchecked Sendable, BitwiseCopyable {
    let locals: PrefixTable.View
    /// `candidates[locals.lookup(destination)]` is a count, then so many tunnel indices.
    let candidates: UnsafePointer<UInt16>
    let tunnels: UnsafePointer<TunnelRecord>
    let tunnelCount: Int
    let sources: PrefixTable.View
    let lists: UnsafePointer<DestinationList>
    let rules: UnsafePointer<DestinationRule>
    let ports: UnsafePointer<UInt32>
    let rewrites: UnsafePointer<SourceRewriteRecord>
    let rewriteCount: Int
    let deviceMTUs: UnsafePointer<UInt32>
    /// Bit inner ECN << 2 | outer ECN: such a packet's marks and TTL stay as they are.
    let untouchedCells: UInt16
    let mssIPv4: UInt16
    let mssIPv6: UInt16
    let ecn: ECNMode
    let dscp: FieldMode
    let ttl: FieldMode
}

public final class PolicyTables: @unchecked Sendable {
    // @unchecked: all memory is written only in `init`.
    public let policy: Policy
    public let view: PolicyView
    /// Destination rules of all tunnels together, in order: what `Verdict.destination` counts.
    public let destinationCount: Int

    private let tables: [PrefixTable]
    private let release: () -> Void

    public init(_ policy: Policy) {
        // `Configuration.load` refuses more.
        precondition(
            policy.interfaces.count <= Limits.interfaces && policy.tunnels.count <= Limits.tunnels
                && policy.devices.count <= Limits.devices)
        self.policy = policy
        var build = PolicyCompiler(policy)
        let locals = build.locals()
        let sources = PrefixTable(longestMatch: build.sourceClasses())
        var tables = [locals, sources]
        var records: [TunnelRecord] = []
        let words = (policy.interfaces.count + 63) / 64
        let interfaces = copied([UInt64](repeating: 0, count: words * policy.tunnels.count))
        for (number, tunnel) in policy.tunnels.enumerated() {
            let bits = interfaces + number * words
            for interface in tunnel.interfaces { bits[interface / 64] |= 1 << UInt64(interface % 64) }
            let remotes = PrefixTable(longestMatch: tunnel.remotes.map { ($0, 1) })
            let destinations = build.destinations(of: tunnel)
            tables += [remotes, destinations]
            records.append(
                TunnelRecord(
                    interfaces: UnsafePointer(bits),
                    modes: tunnel.modes.reduce(0) { $0 | 1 << $1.rawValue },
                    passOtherRemotes: tunnel.passOtherRemotes,
                    remotes: remotes.view, destinations: destinations.view))
        }
        self.tables = tables
        destinationCount = build.destinationCount
        let candidates = copied(build.candidates)
        let tunnels = copied(records)
        let lists = copied(build.lists)
        let rules = copied(build.rules)
        let ports = copied(build.ports)
        let rewrites = copied(policy.rewrites.map(SourceRewriteRecord.init))
        let deviceMTUs = copied(policy.devices.map { UInt32($0.mtu) })
        release = {
            interfaces.deallocate()
            candidates.deallocate()
            tunnels.deallocate()
            lists.deallocate()
            rules.deallocate()
            ports.deallocate()
            rewrites.deallocate()
            deviceMTUs.deallocate()
        }
        view = PolicyView(
            locals: locals.view, candidates: UnsafePointer(candidates),
            tunnels: UnsafePointer(tunnels), tunnelCount: records.count, sources: sources.view,
            lists: UnsafePointer(lists), rules: UnsafePointer(rules),
            ports: UnsafePointer(ports), rewrites: UnsafePointer(rewrites),
            rewriteCount: policy.rewrites.count, deviceMTUs: UnsafePointer(deviceMTUs),
            untouchedCells: PolicyCompiler.untouchedCells(policy),
            mssIPv4: PolicyCompiler.encoded(policy.mssIPv4),
            mssIPv6: PolicyCompiler.encoded(policy.mssIPv6),
            ecn: policy.ecn, dscp: policy.dscp, ttl: policy.ttl)
    }

    deinit { release() }
}

private func copied<T: BitwiseCopyable>(_ values: [T]) -> UnsafeMutablePointer<T> {
    let memory = UnsafeMutablePointer<T>.allocate(capacity: max(values.count, 1))
    memory.initialize(from: values, count: values.count)
    return memory
}

/// The working state of one compilation.
private struct PolicyCompiler {
    let policy: Policy
    var candidates: [UInt16] = [0]
    var lists: [DestinationList] = [DestinationList(isMartian: false, count: 0, first: 0)]
    /// The list of no destination begins with the first.
    var rules: [DestinationRule] = [.end]
    var ports: [UInt32] = []
    var destinationCount = 0
    private var tableOfAny: PrefixTable?

    init(_ policy: Policy) { self.policy = policy }

    static func encoded(_ clamp: MSSClamp) -> UInt16 {
        switch clamp {
        case .off: DestinationRule.mssOff
        case .auto: DestinationRule.mssAuto
        case .fixed(let value): value
        }
    }

    static func untouchedCells(_ policy: Policy) -> UInt16 {
        guard policy.dscp == .pipe, policy.ttl == .pipe else { return 0 }
        return (0..<16).reduce(0) { (cells, cell) -> UInt16 in
            let inner = UInt8(cell >> 2)
            let isDropped = policy.ecn == .standard && UInt8(cell) == ECN.notCapableCongested
            let isKept = ECN.decapsulated(policy.ecn, inner: inner, outer: UInt8(cell & 3)) == inner
            return isKept && !isDropped ? cells | 1 << UInt16(cell) : cells
        }
    }

    mutating func locals() -> PrefixTable {
        var pairs: [(prefix: Prefix, item: Int)] = []
        for (index, tunnel) in policy.tunnels.enumerated() {
            for prefix in Set(tunnel.local) { pairs.append((prefix, index)) }
        }
        var known: [[Int]: UInt32] = [:]
        var entries: [(Prefix, UInt32)] = []
        for (prefix, tunnels) in coveringItems(pairs) {
            let unique = Set(tunnels).sorted()
            if known[unique] == nil {
                known[unique] = UInt32(candidates.count)
                candidates.append(UInt16(unique.count))
                candidates += unique.map { UInt16($0) }
            }
            entries.append((prefix, known[unique]!))
        }
        return PrefixTable(longestMatch: entries)
    }

    /// A more specific prefix carries the flags of those that cover it, so that the order of
    /// the reasons does not depend on which prefix is longer.
    func sourceClasses() -> [(Prefix, UInt32)] {
        var flagged: [(prefix: Prefix, item: Int)] = []
        func add(_ prefixes: [Prefix], _ flag: UInt32) {
            flagged += prefixes.map { ($0, Int(flag)) }
        }
        // Link-local sources are never forwarded, whatever `martians` says (RFC 4291 §2.5.6).
        add([Martians.linkLocalIPv6], SourceClass.linkLocal)
        if policy.dropMartians { add(Martians.addresses, SourceClass.martian) }
        add(policy.denySources, SourceClass.local)
        for tunnel in policy.tunnels {
            add(tunnel.local.filter { $0.length > 0 }, SourceClass.local)
            add(tunnel.local.filter(\.isHost), SourceClass.endpoint)
            // One that holds everything says nothing of sources: the routes to pods do.
            add(tunnel.destinations.map(\.prefix).filter { $0.length > 0 }, SourceClass.local)
        }
        add(Embedding.prefixes, SourceClass.embedding)
        add(policy.exemptSources, SourceClass.exempt)
        add(policy.rewrites.map { Prefix(host: $0.from) }, SourceClass.rewritten)
        // Answered through us: nobody else may have it.
        add(policy.rewrites.map { Prefix(host: $0.to) }, SourceClass.local)
        return coveringItems(flagged).map { prefix, flags in
            (prefix, flags.reduce(0) { $0 | UInt32($1) })
        }
    }

    mutating func destinations(of tunnel: Policy.Tunnel) -> PrefixTable {
        if tunnel.destinations.isEmpty, let shared = tableOfAny { return shared }
        let firstRule = rules.count
        if tunnel.destinations.isEmpty {
            rules.append(
                DestinationRule(
                    protocolNumber: DestinationRule.anyProtocol, portCount: 0, firstPort: 0,
                    mtu: mtu(ofDevice: 0),
                    way: DestinationRule.way(device: 0, index: Verdict.noIndex),
                    mss: DestinationRule.mssInherited))
        }
        for destination in tunnel.destinations {
            rules.append(rule(destination))
        }
        let ranked =
            tunnel.destinations.isEmpty
            ? [(Prefix.allIPv4, firstRule), (Prefix.allIPv6, firstRule)]
            : tunnel.destinations.enumerated().map { ($1.prefix, firstRule + $0) }
        let martian = Int.max
        var pairs: [(prefix: Prefix, item: Int)] = ranked.map { (prefix: $0.0, item: $0.1) }
        // As of sources: never forwarded, whatever `martians` says (RFC 4291 §2.5.6).
        let refused = (policy.dropMartians ? Martians.addresses : []) + [Martians.linkLocalIPv6]
        pairs += refused.map { (prefix: $0, item: martian) }
        var known: [[Int]: UInt32] = [:]
        var entries: [(Prefix, UInt32)] = []
        for (prefix, items) in coveringItems(pairs) {
            if known[items] == nil { known[items] = list(items, martian: martian) }
            entries.append((prefix, known[items]!))
        }
        let table = PrefixTable(longestMatch: entries)
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

    private func mtu(ofDevice index: Int) -> UInt32 {
        let device = policy.devices[index]
        return device.isElsewhere ? UInt32(device.mtu) : DestinationRule.anySize
    }

    private mutating func rule(_ destination: Policy.Destination) -> DestinationRule {
        let firstPort = UInt32(ports.count)
        for range in destination.ports {
            ports.append(UInt32(range.lowerBound) << 16 | UInt32(range.upperBound))
        }
        destinationCount += 1
        return DestinationRule(
            protocolNumber: destination.protocolNumber.map(UInt16.init)
                ?? DestinationRule.anyProtocol,
            portCount: UInt16(destination.ports.count), firstPort: firstPort,
            mtu: mtu(ofDevice: destination.device),
            way: DestinationRule.way(
                device: destination.device, index: UInt16(clamping: destinationCount - 1)),
            mss: destination.mss.map(Self.encoded) ?? DestinationRule.mssInherited)
    }
}

/// Addresses that no packet may carry (RFC 1812 §5.3.7, RFC 6890, RFC 4213 §3.6).
enum Martians {
    static let linkLocalIPv6 = ipv6(0xfe80 << 48, 0, 10)

    /// 0/8, 127/8, 169.254/16, 224/4, 240/4 with the limited broadcast.
    private static let ipv4: [Prefix] = [
        Prefix(Address(ipv4: 0x0000_0000), length: 8)!,
        Prefix(Address(ipv4: 0x7f00_0000), length: 8)!,
        Prefix(Address(ipv4: 0xa9fe_0000), length: 16)!,
        Prefix(Address(ipv4: 0xe000_0000), length: 4)!,
        Prefix(Address(ipv4: 0xf000_0000), length: 4)!,
    ]
    /// ::/96 (with :: and ::1), multicast, site-local. IPv4-mapped addresses are added below.
    private static let ipv6: [Prefix] = [
        ipv6(0, 0, 96), ipv6(0xff00 << 48, 0, 8), ipv6(0xfec0 << 48, 0, 10),
    ]
    static let addresses = ipv4 + ipv6

    /// What no native probe may be sent to, whatever `martians` says. IPv4-mapped addresses, too,
    /// which as a prefix are all of IPv4.
    static let unroutable = ipv6 + [linkLocalIPv6, .allIPv4]

    /// Whether an IPv6 address lies in `unroutable`.
    static func isUnroutable(_ address: Address) -> Bool {
        // fe80::/10 and fec0::/10 lie side by side.
        address.high &>> 55 == 0xfe80 &>> 7 || address.high &>> 56 == 0xff
            || (address.high == 0
                && (address.low &>> 32 == 0 || address.low &>> 32 == 0xffff))
    }

    private static func ipv6(_ high: UInt64, _ low: UInt64, _ length: Int) -> Prefix {
        Prefix(Address(high: high, low: low), length: length)!
    }
}
