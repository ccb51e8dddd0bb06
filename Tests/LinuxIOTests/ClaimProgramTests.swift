// The kernel's filter against the judge: it drops exactly the frames that the judge calls ours.

import CLinux
import Foundation
import IP
import Routing
import SlowJudge
import TestPackets
import Testing

@testable import Daemon
@testable import Forwarding
@testable import LinuxIO

extension OnHost {
    @Suite struct ClaimProgramTests {
        private static let dropped: Int32 = 2  // TC_ACT_SHOT
        private static let untouched: Int32 = -1  // TC_ACT_UNSPEC

        /// Addresses so few that frames often meet a prefix.
        private static func address(_ isIPv4: Bool, _ random: inout Random) -> [UInt8] {
            isIPv4 ? Frames.four(UInt8(random.below(16))) : Frames.six(UInt8(random.below(16)))
        }

        private static func prefixes(_ count: Int, _ random: inout Random) -> [Prefix] {
            (0..<count).map { _ in
                let isIPv4 = random.chance(2)
                let length = random.chance(3) ? 4 : random.below(5)
                let bits = random.chance(25) ? 0 : (isIPv4 ? 28 : 124) + length
                return Prefix(Address(bytes: address(isIPv4, &random))!, length: bits)!
            }
        }

        private static func policy(_ random: inout Random) -> Policy {
            Policy(
                interfaces: [
                    Policy.Interface(name: "near", reversePath: .off),
                    Policy.Interface(name: "other", reversePath: .off),
                ],
                tunnels: (0..<(1 + random.below(4))).map { index in
                    Policy.Tunnel(
                        name: "tunnel\(index)",
                        interfaces: random.pick([[0], [0, 1], [0], [1]]),
                        local: prefixes(1 + random.below(3), &random),
                        remotes: prefixes(1 + random.below(3), &random),
                        passOtherRemotes: random.chance(2),
                        modes: Set(Mode.allCases.filter { _ in !random.chance(3) }))
                })
        }

        // MARK: frames

        private static let tunnels: [UInt8] = [4, 41]
        private static let others: [UInt8] = [1, 6, 17, 47, 50, 51, 58, 59, 89, 132, 137, 255]
        private static let walked: [UInt8] = [0, 43, 44, 60]

        private static func upper(_ random: inout Random) -> UInt8 {
            random.chance(3) ? random.pick(others) : random.pick(tunnels)
        }

        /// Headers up to and beyond what is walked, fragments among them, then `last`.
        private static func chain(_ last: UInt8, _ random: inout Random)
            -> (first: UInt8, bytes: [UInt8])
        {
            let count = random.chance(3) ? 0 : random.below(11)
            let numbers = (0..<count).map { _ in random.pick(walked) }
            var bytes: [UInt8] = []
            for (index, number) in numbers.enumerated() {
                let next = index + 1 < count ? numbers[index + 1] : last
                guard number == 44 else {
                    let words = random.chance(6) ? random.below(40) : random.below(3)
                    var header: [UInt8] = [next, UInt8(words)]
                    header += random.bytes(words * 8 + 6)
                    if random.chance(2) {
                        // Padding, as acceptable as options can be.
                        header.replaceSubrange(
                            2..., with: [UInt8](repeating: 0, count: words * 8 + 6))
                    }
                    bytes += header
                    continue
                }
                let offset = random.chance(2) ? 0 : random.below(1 << 13)
                let flags = random.below(8)
                bytes += [next, UInt8(random.below(256))] + Frames.word(offset << 3 | flags)
                bytes += [0, 0, 0, 9]
            }
            return (numbers.first ?? last, bytes)
        }

        private static func inner(_ random: inout Random) -> [UInt8] {
            switch random.below(3) {
            case 0: random.bytes(64 + random.below(64))
            case 1:
                Frames.ipv4(
                    17, from: [198, 51, 100, 7], to: [203, 0, 113, 4], random.bytes(40))
            default:
                Frames.ipv6(17, from: Frames.six(99), to: Frames.six(98), random.bytes(40))
            }
        }

        private static func frame(_ random: inout Random) -> [UInt8] {
            let isIPv4 = random.chance(2)
            let source = address(isIPv4, &random)
            var destination = address(isIPv4, &random)
            // Frames to their own source have a test of their own.
            while destination == source { destination = address(isIPv4, &random) }
            // The loopback device that test runs come in on has address zero.
            var target = [UInt8](repeating: 0, count: 6)
            if random.chance(12) {
                target = random.pick([[1, 0, 0x5e, 0, 0, 1], [2, 9, 9, 9, 9, 9]])
            }
            var type = isIPv4 ? 0x0800 : 0x86dd
            if random.chance(20) { type = random.pick([0x8100, 0x0806, 0x88b5, 0x0800, 0x86dd]) }
            let payload = inner(&random)
            var packet: [UInt8]
            if isIPv4 {
                packet = Frames.ipv4(
                    upper(&random), from: source, to: destination, payload,
                    fragment: random.chance(4) ? random.below(1 << 16) : 0x4000)
                if random.chance(6) { packet[0] = UInt8(random.below(256)) }
                if random.chance(6) { packet[10] ^= 1 }
            } else {
                let chain = chain(upper(&random), &random)
                packet = Frames.ipv6(
                    chain.first, from: source, to: destination, chain.bytes + payload)
                if random.chance(6) { packet[0] = 0x60 | UInt8(random.below(16)) }
                if random.chance(6) {
                    packet.replaceSubrange(4..<6, with: Frames.word(random.below(200)))
                }
            }
            // A test run takes no frame that ends within the header that its ethertype names.
            var rest = 40
            if random.chance(4) {
                packet = tagged(packet, &type, &random)
                rest = 1
            }
            if random.chance(4) { packet.removeLast(random.below(max(packet.count - rest, 1))) }
            return Frames.ethernet(target, type, packet)
        }

        /// Behind tags, most of them of VLAN 0.
        private static func tagged(
            _ packet: [UInt8], _ type: inout Int, _ random: inout Random
        ) -> [UInt8] {
            var packet = packet
            for _ in 0..<random.pick([1, 1, 2, 3, 8, 9]) {
                let vlan = random.chance(10) ? random.pick([1, 256, 4095]) : 0
                packet = Frames.word(random.below(16) << 12 | vlan) + Frames.word(type) + packet
                type = random.pick([0x8100, 0x88a8])
            }
            return packet
        }

        // MARK: native frames

        private static let probes = (0..<4).map { [0xfe, 0x80] + [UInt8](repeating: 0, count: 13) + [$0] }

        /// A policy that rewrites sources, with destinations of all kinds.
        private static func nativePolicy(_ random: inout Random) -> Policy {
            var policy = policy(&random)
            for index in policy.tunnels.indices where !random.chance(4) {
                policy.tunnels[index].destinations = (0...random.below(5)).map { _ in
                    let number: UInt8? = random.pick([nil, 6, 17, 58, 132])
                    let hasPorts = (number == 6 || number == 17) && random.chance(2)
                    return Policy.Destination(
                        prefix: prefixes(1, &random)[0], protocolNumber: number,
                        ports: !hasPorts
                            ? []
                            : (0...random.below(2)).map { _ in
                                let first = UInt16(random.pick([1, 40, 80, 65_535]))
                                return first...max(first, first &+ UInt16(random.below(3) * 20))
                            })
                }
            }
            policy.dropMartians = random.chance(2)
            policy.rewrites = (0...random.below(3)).map { number in
                Policy.SourceRewrite(
                    from: Address(bytes: random.pick(probes))!,
                    to: Address(bytes: [0x26, 3] + [UInt8](repeating: UInt8(number), count: 14))!,
                    interface: random.chance(4) ? 1 : 0)
            }
            return policy
        }

        private static func nativeFrame(_ random: inout Random) -> [UInt8] {
            let number = random.chance(8) ? random.pick(others) : random.pick([6, 17, 58])
            var payload = random.bytes(random.chance(4) ? random.below(24) : 20 + random.below(20))
            if payload.count >= 4 {
                payload.replaceSubrange(
                    2..<4, with: Frames.word(random.pick([1, 39, 40, 60, 80, 100, 101, 65_535])))
            }
            if number == 58, !payload.isEmpty, random.chance(2) {
                payload[0] = UInt8(random.pick([128, 129, 130, 133, 135, 137, 138, 143, 1]))
            }
            var destination = Frames.six(UInt8(random.below(16)))
            if random.chance(6) {
                destination.replaceSubrange(
                    0..<12,
                    with: random.pick([
                        [0xfe, 0x80] + random.bytes(10), [0xfe, 0xc0] + random.bytes(10),
                        [0xff] + random.bytes(11), [UInt8](repeating: 0, count: 12),
                        [UInt8](repeating: 0, count: 10) + [255, 255],
                    ]))
            }
            var packet = Frames.ipv6(
                number, from: random.chance(8) ? Frames.six(3) : random.pick(probes),
                to: destination, payload)
            if random.chance(16) { packet[0] = UInt8(random.below(256)) }
            if random.chance(16) { packet[7] = UInt8(random.below(2)) }
            if random.chance(8) {
                packet.replaceSubrange(4..<6, with: Frames.word(random.below(60)))
            }
            if random.chance(8) { packet += random.bytes(random.below(20)) }
            var target = [UInt8](repeating: 0, count: 6)
            if random.chance(16) { target = [2, 9, 9, 9, 9, 9] }
            return Frames.ethernet(target, 0x86dd, packet)
        }

        /// The kernel drops exactly what is injected, and lets all else alone.
        @Test(arguments: 1...16)
        func dropsTheNativeProbesThatTheJudgeInjects(seed: UInt64) throws {
            var random = Random(seed)
            var ours = 0
            for _ in 0..<8 {
                let policy = Self.nativePolicy(&random)
                let program = try Self.program(policy)
                let world = Self.world(policy)
                for number in 0..<250 {
                    let frame =
                        number % 8 == 0
                        ? Self.frame(&random) : Self.nativeFrame(&random)
                    let isOurs = Self.isOurs(frame, world)
                    let result = try BPF.run(program, frame: frame).answer
                    #expect(
                        result == (isOurs ? Self.dropped : Self.untouched),
                        "\(Self.text(policy)); \(policy.rewrites); \(Self.text(frame))")
                    ours += isOurs ? 1 : 0
                }
            }
            #expect(ours > 20 && ours < 1980, "\(ours) of 2000 frames")
        }

        /// Ports of many destinations, in ranges that meet, nest and reach both ends.
        @Test func thousandsOfDestinationsAreClaimed() throws {
            var policy = Policy(
                interfaces: [Policy.Interface(name: "near", reversePath: .off)],
                tunnels: [
                    Policy.Tunnel(
                        name: "all", interfaces: [0], local: [.allIPv6], remotes: [.allIPv6])
                ])
            policy.rewrites = [
                Policy.SourceRewrite(
                    from: Address(bytes: Self.probes[0])!, to: Address(bytes: Frames.six(200))!,
                    interface: 0)
            ]
            let ports: [[ClosedRange<UInt16>]] = [
                [80...80, 443...443], [1...65_535], [0...7, 65_535...65_535],
            ]
            let blocks = Array(Frames.six(0)[..<13])
            policy.tunnels[0].destinations = (0..<20_000).map { number in
                let address = Address(bytes: blocks + [UInt8(number >> 16)] + Frames.word(number))!
                return Policy.Destination(
                    prefix: Prefix(host: address), protocolNumber: 6, ports: ports[number % 3])
            }
            let program = try Self.program(policy)
            let world = Self.world(policy)
            var random = Random(7)
            for _ in 0..<500 {
                let number = random.below(22_000)
                let port = random.pick([0, 1, 7, 8, 79, 80, 81, 442, 443, 444, 65_534, 65_535])
                let segment = random.bytes(2) + Frames.word(port) + random.bytes(16)
                let frame = Frames.ethernet(
                    [UInt8](repeating: 0, count: 6), 0x86dd,
                    Frames.ipv6(
                        6, from: Self.probes[0],
                        to: blocks + [UInt8(number >> 16)] + Frames.word(number), segment))
                let expected = Self.isOurs(frame, world) ? Self.dropped : Self.untouched
                #expect(
                    try BPF.run(program, frame: frame).answer == expected,
                    "destination \(number) port \(port)")
            }
        }

        @Test(
            arguments: [
                0...0, 0...65_535, 1...65_535, 1...1, 80...81, 79...81, 65_535...65_535, 1023...32_768,
            ] as [ClosedRange<UInt16>])
        func blocksAreTheRange(range: ClosedRange<UInt16>) {
            var held: [UInt16] = []
            for block in ClaimMaps.blocks(range) {
                let size = 1 << (16 - block.length)
                #expect(Int(block.port) % size == 0)
                held += (0..<size).map { block.port + UInt16($0) }
            }
            #expect(held == Array(range))
        }

        /// More than any program could hold by itself: prefixes that nest, some from anyone, some
        /// shared.
        @Test(arguments: [(true, 100_000), (false, 20_000)])
        func aHundredThousandPrefixesAreClaimed(isIPv4: Bool, count: Int) throws {
            var random = Random(isIPv4 ? 4 : 6)
            let start: [UInt8] = isIPv4 ? [10] : Array(Frames.six(0)[..<13])
            func prefix() -> Prefix {
                let bits = random.pick([0, 0, 0, 0, 1, 4, 8])
                return Prefix(
                    Address(bytes: start + random.bytes(3))!, length: (isIPv4 ? 32 : 128) - bits)!
            }
            let policy = Policy(
                interfaces: [Policy.Interface(name: "near", reversePath: .off)],
                tunnels: [true, false].map { isShared in
                    Policy.Tunnel(
                        name: "\(isShared)", interfaces: [0],
                        local: (0..<(isShared ? count * 9 / 10 : count / 10)).map { _ in prefix() },
                        remotes: (0..<(count / 4)).map { _ in prefix() }, passOtherRemotes: isShared)
                })
            let program = try Self.program(policy)
            let world = Self.world(policy)
            var answers: [Int32: Int] = [:]
            for _ in 0..<2000 {
                let near = random.pick(policy.tunnels[0].local).address.bytes
                let target = random.chance(2) ? near : start + random.bytes(3)
                let source = start + random.bytes(3)
                let inner = [UInt8](repeating: 0x45, count: 40)
                let frame = Frames.ethernet(
                    [UInt8](repeating: 0, count: 6), isIPv4 ? 0x0800 : 0x86dd,
                    isIPv4
                        ? Frames.ipv4(4, from: source, to: target, inner)
                        : Frames.ipv6(4, from: source, to: target, inner))
                let expected = Self.isOurs(frame, world) ? Self.dropped : Self.untouched
                let answer = try BPF.run(program, frame: frame).answer
                #expect(answer == expected, "\(source) to \(target)")
                answers[answer, default: 0] += 1
            }
            #expect(answers[Self.dropped, default: 0] > 10)
            #expect(answers[Self.untouched, default: 0] > 10)
        }

        // MARK: the judge

        private static func program(_ policy: Policy) throws -> Descriptor {
            try policy.claims(interface: 0).program.load(object: "near")
        }

        /// Whether a frame goes so far that its protocol is there to see: without it no socket
        /// filter lets it in, whatever the judge would say of it.
        private static func showsProtocol(_ frame: [UInt8]) -> Bool {
            var start = 14
            var type = Array(frame[12..<14])
            while [[0x81, 0x00], [0x88, 0xa8]].contains(type), frame.count >= start + 4 {
                type = Array(frame[(start + 2)..<(start + 4)])
                start += 4
            }
            return frame.count > start + (type == [8, 0] ? 9 : 6)
        }

        private static func isOurs(_ frame: [UInt8], _ world: ForwardingTables) -> Bool {
            guard showsProtocol(frame) else { return false }
            let head = UnsafeMutableRawPointer.allocate(
                byteCount: Limits.headBytes, alignment: 16)
            defer { head.deallocate() }
            return frame.withUnsafeBytes { bytes in
                var one = Frame(
                    network: bytes.baseAddress! + 14, head: head, length: frame.count - 14,
                    wireLength: frame.count - 14, linkLength: 14,
                    etherType: UInt16(frame[12]) << 8 | UInt16(frame[13]), interface: 0,
                    isForUs: frame[..<6].allSatisfy { $0 == 0 }
                        || frame.starts(with: Network.nearAddress))
                return withUnsafeTemporaryAllocation(of: Verdict.self, capacity: 1) { verdicts in
                    Judge.judge(&one, into: verdicts.baseAddress!, count: 1, tables: world.view)
                    return verdicts[0].kind != .pass
                }
            }
        }

        private static func text(_ frame: [UInt8]) -> String {
            frame.prefix(160).map { String(format: "%02x", $0) }.joined()
        }

        private static func text(_ policy: Policy) -> String {
            policy.tunnels.filter { $0.interfaces.contains(0) }.map { tunnel in
                let remotes = tunnel.remotes.map { "\($0.address.bytes)/\($0.length)" }
                let local = tunnel.local.map { "\($0.address.bytes)/\($0.length)" }
                return "\(local) from \(remotes), others \(tunnel.passOtherRemotes)"
            }.joined(separator: "; ")
        }

        private static func world(_ policy: Policy) -> ForwardingTables {
            ForwardingTables(
                policy: PolicyTables(policy), routes: nil,
                interfaces: policy.interfaces.map {
                    InterfaceState(index: 1, mtu: 1500, reversePath: $0.reversePath)
                })
        }

        @Test(arguments: 1...16)
        func dropsWhatTheJudgeCallsOurs(seed: UInt64) throws {
            var random = Random(seed)
            var ours = 0
            for _ in 0..<8 {
                let policy = Self.policy(&random)
                let program = try Self.program(policy)
                let world = Self.world(policy)
                for _ in 0..<250 {
                    let frame = Self.frame(&random)
                    let isOurs = Self.isOurs(frame, world)
                    let result = try BPF.run(program, frame: frame).answer
                    #expect(
                        result == (isOurs ? Self.dropped : Self.untouched),
                        "\(Self.text(policy)); \(Self.text(frame))")
                    ours += isOurs ? 1 : 0
                }
            }
            #expect(ours > 20 && ours < 1980, "\(ours) of 2000 frames")
        }

        /// One whose claims no frame can meet loads, and leaves all to the kernel.
        @Test func noClaimsAreAProgramToo() throws {
            let frame = Frames.ethernet(
                [UInt8](repeating: 0, count: 6), 0x0800,
                Frames.ipv4(
                    4, from: Frames.four(1), to: Frames.four(2),
                    [UInt8](repeating: 0, count: 40)))
            func claims(shared: Bool, _ remotes: [[Prefix]] = [], endpoints: [Address] = []) -> Claims {
                var claims = Claims()
                claims.locals = [Claims.Local(prefix: .allIPv4, remotes: shared ? 0 : nil)]
                (claims.remotes, claims.endpoints) = (remotes, endpoints)
                return claims
            }
            let remote = Address(bytes: Frames.four(1))!
            for (claims, answer) in [
                (Claims(), Self.untouched),
                (claims(shared: true, [[]]), Self.untouched),
                (claims(shared: true, [[.allIPv4]], endpoints: [remote]), Self.untouched),
                (claims(shared: false), Self.dropped),
                (claims(shared: true, [[.allIPv4]]), Self.dropped),
            ] {
                let program = try claims.program.load(object: "near")
                #expect(try BPF.run(program, frame: frame).answer == answer)
            }
        }

        /// A remote that sends to itself is refused by the judge, so the kernel must not answer.
        @Test func aFrameToItsOwnSourceIsClaimed() throws {
            let network = Prefix(Address(bytes: Frames.four(0))!, length: 24)!
            let policy = Policy(
                interfaces: [Policy.Interface(name: "near", reversePath: .off)],
                tunnels: [
                    Policy.Tunnel(
                        name: "all", interfaces: [0], local: [network], remotes: [network],
                        passOtherRemotes: true)
                ])
            let program = try Self.program(policy)
            let frame = Frames.ethernet(
                [UInt8](repeating: 0, count: 6), 0x0800,
                Frames.ipv4(
                    4, from: Frames.four(2), to: Frames.four(2),
                    [UInt8](repeating: 0, count: 40)))
            #expect(Self.isOurs(frame, Self.world(policy)))
            #expect(try BPF.run(program, frame: frame).answer == Self.dropped)
        }

        /// Wherever a frame of any form ends: claimed where the judge refuses it, else left to
        /// the next program, and never let through by a load that failed.
        @Test func framesThatEndAnywhereAreToldApart() throws {
            try Network.with { network in
                let policy = Self.cutPolicy()
                let world = Self.world(policy)
                let claim = try Claim.byProgram(
                    policy.claims(interface: 0).program, interface: "near",
                    index: network.near, allowClsact: false)
                let next = try NextProgram(network.near)
                var (left, ours) = (0, 0)
                for frame in Self.forms() {
                    // Sooner the kernel finds no header, or no tag and the ethertype behind it.
                    let cuts = ((frame[12] == 0x81 ? 20 : 15)...frame.count).map {
                        Array(frame[..<$0])
                    }
                    let claimed = cuts.filter { Self.isOurs($0, world) }.count
                    ours += claimed
                    left += cuts.count - claimed
                    try network.send(cuts)
                    try Network.eventually(
                        "\(cuts.count - claimed) of \(cuts.count) cuts of \(Self.text(frame))"
                    ) { try next.frames() == left }
                }
                // None comes late: a frame sent after all of them is the next one that is counted.
                try network.send([
                    Frames.ethernet([UInt8](repeating: 0, count: 6), 0x88b5, [UInt8](repeating: 0, count: 46))
                ])
                try Network.eventually("the last frame") { try next.frames() > left }
                #expect(try next.frames() == left + 1)
                #expect(left > 100 && ours > 100)
                withExtendedLifetime(claim) {}
            }
        }

        private static func cutPolicy() -> Policy {
            func hosts(_ last: UInt8) -> [Prefix] {
                [Frames.four(last), Frames.six(last)].map { Prefix(host: Address(bytes: $0)!) }
            }
            var policy = Policy(
                interfaces: [Policy.Interface(name: "near", reversePath: .off)],
                tunnels: [
                    Policy.Tunnel(name: "all", interfaces: [0], local: hosts(2), remotes: hosts(1))
                ])
            policy.rewrites = [
                Policy.SourceRewrite(
                    from: Address(bytes: probes[0])!, to: Address(bytes: Frames.six(200))!,
                    interface: 0)
            ]
            return policy
        }

        /// One frame of each form that the program tells apart, with and without tags.
        private static func forms() -> [[UInt8]] {
            let zeros = [UInt8](repeating: 0, count: 32)
            let chain = [44, 1] + zeros[..<14] + [4, 0, 0, 1] + zeros[..<4]
            var packets = [
                (0x86dd, Frames.ipv6(60, from: Frames.six(1), to: Frames.six(2), chain + zeros))
            ]
            for number: UInt8 in [4, 41, 6, 17] {
                packets += [
                    (0x0800, Frames.ipv4(number, from: Frames.four(1), to: Frames.four(2), zeros)),
                    (0x86dd, Frames.ipv6(number, from: Frames.six(1), to: Frames.six(2), zeros)),
                    (0x86dd, Frames.ipv6(number, from: probes[0], to: Frames.six(9), zeros)),
                ]
            }
            return packets.flatMap { type, packet in
                [0, 1, 3].map { tags in
                    var (type, packet) = (type, packet)
                    for _ in 0..<tags {
                        packet = Frames.word(0xa000) + Frames.word(type) + packet
                        type = 0x8100
                    }
                    return Frames.ethernet(Network.nearAddress, type, packet)
                }
            }
        }
    }
}

/// Somebody else's program behind the claim: it counts what it is asked about, and drops it.
private final class NextProgram {
    private let map: Descriptor
    private let link: Descriptor

    init(_ index: Int32) throws {
        var contents = FilterMap(.exact, "test_count", dataBytes: 4)
        contents.add([0, 0, 0, 0], value: 0)
        map = try contents.make(object: "near")
        func word(_ code: UInt64, to: UInt64 = 0, from: UInt64 = 0, offset: Int16 = 0, value: Int32 = 0)
            -> UInt64
        {
            code | to << 8 | from << 12 | UInt64(UInt16(bitPattern: offset)) << 16
                | UInt64(UInt32(bitPattern: value)) << 32
        }
        let program = try BPF.load(
            [
                word(0x62, to: 10, offset: -4),  // key 0
                word(0x18, to: 1, from: 1, value: map.number), word(0),
                word(0xbf, to: 2, from: 10), word(0x07, to: 2, value: -4),
                word(0x85, value: 1),  // bpf_map_lookup_elem
                word(0x15, offset: 2), word(0xb7, to: 1, value: 1),
                word(0xc3, from: 1),  // atomic add
                word(0xb7, value: 2), word(0x95),  // TCX_DROP
            ], type: BPF_PROG_TYPE_SCHED_CLS, object: "near")
        var attributes = bpf_attr()
        attributes.link_create.prog_fd = UInt32(program.number)
        attributes.link_create.target_ifindex = UInt32(index)
        attributes.link_create.attach_type = UInt32(CLINUX_BPF_TCX_INGRESS)
        attributes.link_create.flags = 1 << 4  // BPF_F_AFTER
        link = Descriptor(try BPF.call(BPF_LINK_CREATE, &attributes, "bpf(BPF_LINK_CREATE)", "near"))
    }

    func frames() throws -> Int {
        var (key, value) = (UInt32(0), UInt32(0))
        var attributes = bpf_attr()
        attributes.map_fd = UInt32(map.number)
        try withUnsafeMutablePointer(to: &key) { key in
            try withUnsafeMutablePointer(to: &value) { value in
                attributes.key = UInt64(UInt(bitPattern: key))
                attributes.value = UInt64(UInt(bitPattern: value))
                try BPF.call(BPF_MAP_LOOKUP_ELEM, &attributes, "bpf(BPF_MAP_LOOKUP_ELEM)", "near")
            }
        }
        return Int(value)
    }
}
