// The kernel as oracle of reassembly: random fragments of random datagrams sent into a namespace, what its
// raw sockets get, and what shuck makes whole of the same frames. The seed is printed; SHUCK_SEED repeats
// it, SHUCK_FRAGMENT_SETS asks more datagrams than 4,000.

import CLinux
import Forwarding
import Foundation
import Glibc
import IP
import SlowJudge
import TestPackets
import Testing

@testable import LinuxIO

extension OnHost {
    @Suite struct ReassemblyOracleTests {
        private static let environment = ProcessInfo.processInfo.environment
        private static let sets = environment["SHUCK_FRAGMENT_SETS"].flatMap(Int.init) ?? 4_000

        /// Whatever shuck makes whole the kernel delivers too, byte for byte. Where it refuses more,
        /// a fragment overlapped another, lied about its length, or was of another protocol.
        @Test("O8 O11 the kernel makes the same of random fragments, or more")
        func theKernelMakesTheSame() throws {
            let seed = try Random.seed(usually: 1_179_500_449)
            print("reassembly oracle: seed \(seed)")
            var random = Random(seed)
            var (same, stricter, whole) = (0, 0, 0)
            // Identifications of IPv4 have 16 bits, and fragments that stay wait for half a minute.
            for start in stride(from: 0, to: Self.sets, by: 20_000) {
                let sets = (start..<min(start + 20_000, Self.sets)).map {
                    FragmentSet(number: $0 - start, &random)
                }
                try Network.with { network in
                    var run = try FragmentRun(network)
                    for (set, kernel, ours) in try run.ask(sets) {
                        whole += ours.count
                        if ours == kernel {
                            same += 1
                        } else if set.isHonest || !FragmentRun.holds(kernel, ours) {
                            Issue.record("seed \(seed), \(set): kernel \(kernel), shuck \(ours)")
                        } else {
                            stricter += 1
                        }
                    }
                }
            }
            print("reassembly oracle: \(same) the same, \(stricter) refused by shuck alone")
            // Neither everything nor nothing, and what shuck alone refuses does occur.
            #expect(whole > Self.sets / 4 && same > Self.sets / 2)
            #expect(stricter > Self.sets / 100 && stricter < Self.sets / 4)
        }
    }
}

/// Fragments of one key, in the order in which they are sent.
private struct FragmentSet: CustomStringConvertible {
    struct Part {
        var offset: Int
        var more: Bool
        var protocolNumber: UInt8 = 4
        var payload: [UInt8]
    }
    let isIPv4: Bool
    var parts: [Part] = []
    /// Nothing but the pieces of a datagram and repetitions of them.
    private(set) var isHonest = true

    init(number: Int, _ random: inout Random) {
        isIPv4 = random.chance(2)
        let total = 8 + random.below(120)
        var cuts = Set((0..<random.below(5)).map { _ in (1 + random.below(total / 8)) * 8 })
        cuts = cuts.filter { $0 < total }
        // A whole in one piece would be no fragment.
        if cuts.isEmpty { cuts = [8 < total ? 8 : 0] }
        let borders = [0] + cuts.sorted().filter { $0 > 0 } + [total]
        for (from, to) in zip(borders, borders.dropFirst()) {
            parts.append(part(from, to, more: to < total || borders.count == 2, number, &random))
        }
        if random.chance(2) { parts.shuffle(using: &random) }
        if random.chance(6) { parts.insert(parts[random.below(parts.count)], at: random.below(parts.count)) }
        if random.chance(8) { parts.remove(at: random.below(parts.count)) }
        if random.chance(3) { return }
        if !isIPv4 && random.chance(6) {
            addStray(total, number, &random)
            return
        }
        for _ in 0...random.below(2) { disturb(total, number, &random) }
        // What ends before its datagram, and is whole by then, is followed by those that are left.
        if random.chance(4), let one = parts.first { parts.append(one) }
    }

    private mutating func disturb(_ total: Int, _ number: Int, _ random: inout Random) {
        isHonest = false
        let place = random.below(parts.count + 1)
        let from = random.below(total / 8 + 1) * 8
        let to = from + random.below(40)
        switch random.below(7) {
        // Odd, empty, overlapping or far away, as chance has it.
        case 0...2: parts.insert(part(from, to, more: true, number, &random), at: place)
        case 3, 4:
            // From 0 on it would be no fragment.
            let from = max(from, 8)
            parts.insert(
                part(from, from + random.below(40), more: false, number, &random), at: place)
        case 5:
            parts.insert(
                part(65_528, 65_528 + random.below(24), more: random.chance(2), number, &random),
                at: place)
        default:
            // The same bytes, with another end.
            guard var part = parts.randomElement(using: &random), part.offset > 0 else { return }
            part.more.toggle()
            parts.insert(part, at: place)
        }
    }

    /// Of IPv6 the protocol is not part of the key. A fragment that is no tunnel's and comes first
    /// is the kernel's alone, so nothing of the datagram may come twice.
    private mutating func addStray(_ total: Int, _ number: Int, _ random: inout Random) {
        isHonest = false
        parts = parts.reduce(into: []) { known, part in
            if !known.contains(where: { $0.offset == part.offset }) { known.append(part) }
        }
        guard !parts.isEmpty else { return }
        let from = random.below(total / 8 + 1) * 8
        let more = from == 0 || random.chance(2)
        var stray = part(from, from + 8 + random.below(40), more: more, number, &random)
        if stray.more { stray.payload.removeLast(stray.payload.count % 8) }
        stray.protocolNumber = random.pick([41, 17])
        parts.insert(stray, at: 1 + random.below(parts.count))
    }

    /// Each has bytes of its own: the first two say which set it is of.
    private func part(
        _ from: Int, _ to: Int, more: Bool, _ number: Int, _ random: inout Random
    ) -> Part {
        var bytes: [UInt8] = []
        while bytes.count < to - from {
            bytes += [UInt8(number >> 8 & 255), UInt8(number & 255)]
            bytes += (0..<6).map { _ in UInt8(random.below(256)) }
        }
        return Part(offset: from, more: more, payload: Array(bytes.prefix(max(to - from, 0))))
    }

    /// Network headers and all behind them.
    func packets(identification: Int) -> [[UInt8]] {
        parts.map { part in
            let field =
                isIPv4
                ? part.offset / 8 | (part.more ? 0x2000 : 0)
                : part.offset | (part.more ? 1 : 0)
            if isIPv4 {
                return Frames.ipv4(
                    part.protocolNumber, from: Frames.four(9), to: Frames.four(2), part.payload,
                    fragment: field, identification: identification)
            }
            let header =
                [part.protocolNumber, 0] + Frames.word(field) + [0, 0]
                + Frames.word(identification)
            return Frames.ipv6(44, from: Frames.six(9), to: Frames.six(2), header + part.payload)
        }
    }

    var description: String {
        (isIPv4 ? "IPv4" : "IPv6")
            + parts.map {
                " \($0.offset)..<\($0.offset + $0.payload.count)\($0.more ? "+" : "")"
                    + ($0.protocolNumber == 4 ? "" : " of \($0.protocolNumber)")
            }.joined()
    }
}

/// One namespace with raw sockets of protocols 4 and 41, and one reassembler of shuck's.
private struct FragmentRun {
    private let network: Network
    private let receivers: [Descriptor]
    private var sent = 0

    init(_ network: Network) throws {
        self.network = network
        try Network.run(
            """
            set -e
            ip address add 192.0.2.2/24 dev near
            ip address add 2001:db8::2/64 dev near nodad
            cd /proc/sys/net
            # Linux forgets fragments of a source of which it saw many since; memory for all of them.
            echo 0 >ipv4/ipfrag_max_dist
            echo 1000000000 >ipv4/ipfrag_high_thresh
            echo 1000000000 >ipv6/ip6frag_high_thresh
            """)
        receivers = try [(AF_INET, 4), (AF_INET6, 4), (AF_INET6, 41)].map { family, number in
            let kind = Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            let receiver = Descriptor(socket(family, kind, Int32(number)))
            var bytes: Int32 = 64 << 20
            try check("setsockopt", "SO_RCVBUFFORCE") {
                setsockopt(receiver.number, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, 4)
            }
            return receiver
        }
    }

    /// Payloads that the kernel delivered and that shuck made whole, of each set.
    mutating func ask(_ sets: [FragmentSet]) throws -> [(FragmentSet, kernel: [[UInt8]], ours: [[UInt8]])] {
        var delivered = [[[UInt8]]](repeating: [], count: sets.count)
        for start in stride(from: 0, to: sets.count, by: 100) {
            let end = min(start + 100, sets.count)
            try send((start..<end).flatMap { sets[$0].packets(identification: $0) }, &delivered)
        }
        let world = Self.world()
        let ours = sets.enumerated().map { number, set in
            Self.whole(set.packets(identification: number), world)
        }
        // The scheduler may have put a frame before another, or lost it; three times are no accident.
        for attempt in 1...2 {
            for number in sets.indices
            where !Self.isRight(sets[number], delivered[number], ours[number]) {
                delivered[number] = []
                try send(sets[number].packets(identification: number + attempt * 20_000), &delivered)
            }
        }
        return sets.indices.map { (sets[$0], delivered[$0], ours[$0]) }
    }

    private static func isRight(_ set: FragmentSet, _ kernel: [[UInt8]], _ ours: [[UInt8]]) -> Bool {
        set.isHonest ? kernel == ours : holds(kernel, ours)
    }

    /// Whether one list holds another, in order.
    static func holds(_ all: [[UInt8]], _ some: [[UInt8]]) -> Bool {
        var rest = some[...]
        for one in all where one == rest.first { rest = rest.dropFirst() }
        return rest.isEmpty
    }

    /// Sends them and a whole packet of each family, and takes what comes until these do. A frame
    /// may be lost, also one of these: they are sent again until they come.
    private mutating func send(_ packets: [[UInt8]], _ delivered: inout [[[UInt8]]]) throws {
        sent += 1
        let marker: [UInt8] = [255, 255] + Frames.word(sent >> 16) + Frames.word(sent)
        let markers = [
            Frames.ipv4(4, from: Frames.four(9), to: Frames.four(2), marker),
            Frames.ipv6(4, from: Frames.six(9), to: Frames.six(2), marker),
        ].map {
            Frames.ethernet(Network.nearAddress, $0[0] >> 4 == 4 ? 0x0800 : 0x86dd, $0)
        }
        try network.send(
            packets.map {
                Frames.ethernet(Network.nearAddress, $0[0] >> 4 == 4 ? 0x0800 : 0x86dd, $0)
            })
        var looks = 0
        var seen: Set<Int> = []
        var buffer = [UInt8](repeating: 0, count: 70_000)
        try Network.eventually("the markers") {
            if looks % 100 == 0 { try network.send(markers) }
            looks += 1
            for (index, receiver) in receivers.enumerated() {
                while true {
                    let count = recv(receiver.number, &buffer, buffer.count, Int32(MSG_DONTWAIT))
                    guard count > 0 else { break }
                    // Of IPv4 the header comes along.
                    let payload = Array(buffer[..<count].dropFirst(index == 0 ? 20 : 0))
                    if payload == marker {
                        seen.insert(index)
                        continue
                    }
                    // A marker that was sent twice.
                    if payload.count == marker.count, payload[..<2] == [255, 255] { continue }
                    let number = Int(payload[0]) << 8 | Int(payload[1])
                    guard number < delivered.count else {
                        throw Failure(description: "a payload of no set: \(payload)")
                    }
                    delivered[number].append(payload)
                }
            }
            return seen.count == 2
        }
    }

    // MARK: shuck

    private static func world() -> ForwardingTables {
        let policy = Policy(
            interfaces: [Policy.Interface(name: "near", reversePath: .off)],
            tunnels: [
                Policy.Tunnel(
                    name: "t", interfaces: [0],
                    local: [Frames.four(2), Frames.six(2)].map { Prefix(host: Address(bytes: $0)!) },
                    remotes: [Frames.four(9), Frames.six(9)].map { Prefix(host: Address(bytes: $0)!) })
            ])
        return ForwardingTables(
            policy: PolicyTables(policy), routes: nil,
            interfaces: [InterfaceState(index: 2, mtu: 1500, reversePath: .off)])
    }

    /// Payloads of the datagrams that became whole, whatever the judge then made of them.
    private static func whole(_ packets: [[UInt8]], _ world: ForwardingTables) -> [[UInt8]] {
        let reassembler = Reassembler(memory: 1 << 20, timeout: 30_000_000_000, seed: 1)
        let head = UnsafeMutableRawPointer.allocate(byteCount: Limits.headBytes, alignment: 8)
        let verdict = UnsafeMutablePointer<Verdict>.allocate(capacity: 1)
        defer {
            head.deallocate()
            verdict.deallocate()
        }
        return packets.compactMap { packet in
            packet.withUnsafeBytes { bytes -> [UInt8]? in
                var frame = Frame(
                    network: bytes.baseAddress!, head: head, length: bytes.count,
                    wireLength: bytes.count, linkLength: 14,
                    etherType: packet[0] >> 4 == 4 ? 0x0800 : 0x86dd, interface: 0, isForUs: true)
                Judge.judge(
                    &frame, into: verdict, count: 1, tables: world.view, reassembler: reassembler)
                guard frame.network != bytes.baseAddress! else { return nil }
                let header = packet[0] >> 4 == 4 ? 20 : 40
                return Array(
                    UnsafeRawBufferPointer(start: frame.network, count: frame.length)[header...])
            }
        }
    }
}
