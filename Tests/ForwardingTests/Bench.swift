// Puts one packet before the judge: a world to judge in, and memory that betrays every overrun.

import Glibc
import IP
import Routing
import SlowJudge
import Synchronization
import TestPackets
import Testing

@testable import Forwarding

extension Policy {
    /// Two interfaces, one tunnel with both families, any destination, no reverse path.
    static var usual: Policy {
        Policy(
            interfaces: [
                Interface(name: "eth0", reversePath: .off),
                Interface(name: "eth1", reversePath: .off),
            ],
            tunnels: [
                Tunnel(
                    name: "lvs", interfaces: [0, 1],
                    local: [prefix("192.0.2.2"), prefix("2001:db8::2")],
                    remotes: [prefix("198.51.100.0/24"), prefix("2001:db8:5::/48")])
            ])
    }
}

/// The usual policy after a change. The interfaces have the indices 2, 3, …
func world(
    mtu: Int32 = 1500, routes: [RouteEntry]? = nil, rules: [RuleEntry] = bothDefaults,
    _ change: (inout Policy) -> Void = { _ in }
) -> ForwardingTables {
    var policy = Policy.usual
    change(&policy)
    let states = policy.interfaces.enumerated().map {
        InterfaceState(index: Int32($0 + 2), mtu: mtu, reversePath: $1.reversePath)
    }
    return ForwardingTables(
        policy: PolicyTables(policy), routes: routes.map { RouteTable($0, rules: rules) },
        interfaces: states)
}

/// The kernel's own rules, and the table `default` for IPv6 too: cases are of both families.
let bothDefaults =
    RuleEntry.kernelDefaults
    + [
        RuleEntry(isIPv4: false, priority: 32767, action: .lookup(RouteEntry.tableDefault))
    ]

enum Outcome: Equatable {
    case inject([UInt8])
    case pass
    case drop(DropReason)
    case other

    var isInject: Bool { if case .inject = self { true } else { false } }
}

struct Judged {
    var verdict: Verdict
    var outcome: Outcome
}

/// How a frame came in.
struct Arrival {
    /// Bytes of the frame that the capture lost.
    var cut = 0
    var interface: UInt16 = 0
    var isForUs = true
    var linkLength = 14
    var vnet = VirtioHeader()
}

/// Judges a packet that lies in a heap block of exactly its size, so that AddressSanitizer sees
/// a read beyond it, and makes sure that the block is not written to.
func judge(
    _ packet: [UInt8], etherType: UInt16, in world: ForwardingTables, _ arrival: Arrival = Arrival()
) -> Judged {
    let block = malloc(packet.count)!
    let head = malloc(Limits.headBytes)!
    defer {
        free(block)
        free(head)
    }
    packet.withUnsafeBytes { if $0.count > 0 { memcpy(block, $0.baseAddress!, $0.count) } }
    var frame = Frame(
        network: UnsafeRawPointer(block), head: head, length: packet.count,
        wireLength: packet.count + arrival.cut, linkLength: arrival.linkLength,
        etherType: etherType, interface: arrival.interface, isForUs: arrival.isForUs,
        vnet: arrival.vnet)
    var verdict = Verdict(kind: .hold)
    Judge.judge(&frame, into: &verdict, count: 1, tables: world.view)
    expectSameWithCache(&frame, verdict, world)
    let isIntact = packet.withUnsafeBytes {
        $0.count == 0 || memcmp(block, $0.baseAddress!, $0.count) == 0
    }
    if !isIntact { Issue.record("the judge wrote to the frame") }
    switch verdict.kind {
    case .inject:
        // The judge steps over tags of VLAN 0.
        let start = frame.network - UnsafeRawPointer(block) + Int(verdict.offset)
        let end = start + Int(verdict.length)
        guard end <= packet.count, verdict.headLength <= verdict.length, verdict.reason == .none
        else {
            Issue.record("an injected packet reaches beyond its frame: \(verdict)")
            return Judged(verdict: verdict, outcome: .other)
        }
        let rewritten = UnsafeRawBufferPointer(start: head, count: Int(verdict.headLength))
        let rest = packet[(start + Int(verdict.headLength))..<end]
        return Judged(verdict: verdict, outcome: .inject(Array(rewritten) + rest))
    case .pass:
        return Judged(verdict: verdict, outcome: verdict.reason == .none ? .pass : .other)
    case .drop:
        return Judged(
            verdict: verdict,
            outcome: verdict.reason == .none ? .other : .drop(verdict.reason))
    case .hold, .reply:
        return Judged(verdict: verdict, outcome: .other)
    }
}

/// The fast way must say the same of every frame that any test judges: also when an earlier,
/// better frame of the same outer header has left its tunnel in the cache.
private func expectSameWithCache(_ frame: inout Frame, _ verdict: Verdict, _ world: ForwardingTables) {
    // An empty cache leaves every frame to the judge.
    guard isMatched(frame, verdict, world) else { return }
    let cache = CachePool.take()
    defer { CachePool.giveBack(cache) }
    cache.insert(&frame, tunnel: verdict.tunnel)
    // The first time its addresses are looked up, the second time they are found.
    for _ in 0..<2 {
        var other = Verdict(kind: .hold)
        other.vnet.flags = 0xff
        Judge.judge(&frame, into: &other, count: 1, tables: world.view, cache: cache)
        if !isSame(other, verdict) { Issue.record("with a cache \(other), without \(verdict)") }
    }
}

private func isSame(_ other: Verdict, _ verdict: Verdict) -> Bool {
    other.kind == verdict.kind && other.reason == verdict.reason
        && other.mode == verdict.mode && other.ecnCell == verdict.ecnCell
        && other.clampedMSS == verdict.clampedMSS && other.unclampedMSS == verdict.unclampedMSS
        && other.tunnel == verdict.tunnel && other.device == verdict.device
        && other.destination == verdict.destination && other.headLength == verdict.headLength
        && other.offset == verdict.offset && other.length == verdict.length
        && other.vnet == verdict.vnet
}

/// Caches that no test uses at the moment: each is a megabyte, and empty in no time.
private enum CachePool {
    private static let free = Mutex<[OuterCache]>([])

    static func take() -> OuterCache {
        let cache =
            free.withLock { $0.popLast() }
            ?? OuterCache(in: .allocate(byteCount: OuterCache.byteCount, alignment: 128))
        cache.empty()
        return cache
    }

    static func giveBack(_ cache: OuterCache) { free.withLock { $0.append(cache) } }
}

/// Whether the frame's outer header is one that its tunnel lets in, whatever else is wrong.
private func isMatched(_ frame: Frame, _ verdict: Verdict, _ world: ForwardingTables) -> Bool {
    guard verdict.tunnel != Verdict.noIndex else { return false }
    let tunnel = world.policy.policy.tunnels[Int(verdict.tunnel)]
    let bytes = UnsafeRawBufferPointer(start: frame.network, count: frame.length)
    let addresses = verdict.mode.outerIsIPv4 ? bytes[12..<20] : bytes[8..<40]
    let half = addresses.startIndex + addresses.count / 2
    let source = Address(bytes: addresses[..<half])!
    return tunnel.modes.contains(verdict.mode) && tunnel.remotes.contains { $0.contains(source) }
        && Address(bytes: addresses[half...])! != source
        && !(verdict.mode.outerIsIPv4 ? TunnelTests.nobody4 : TunnelTests.nobody6)
            .contains { ip($0) == source }
        && !world.policy.policy.tunnels.contains { $0.local.contains(Prefix(host: source)) }
}

func judge(
    _ packet: Encapsulated, in world: ForwardingTables, _ arrival: Arrival = Arrival()
) -> Judged {
    judge(
        packet.packet, etherType: packet.mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world, arrival)
}

func outcome(
    _ packet: Encapsulated, in world: ForwardingTables, _ arrival: Arrival = Arrival()
) -> Outcome {
    judge(packet, in: world, arrival).outcome
}

/// For the message of a failed random test.
func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
