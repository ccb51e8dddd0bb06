// The kernel's filter against the judge: it drops exactly the frames that the judge calls ours.

import CLinux
import Forwarding
import Foundation
import Routing
import Testing

@testable import Daemon
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

        /// Headers up to and beyond what is walked, fragments among them, then `last`. Whole:
        /// behind the end of a chain that is cut short the program reads nothing and leaves the
        /// frame to the kernel, which refuses it; the judge counts it as ours.
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
            }
            return Frames.ethernet(target, type, packet)
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
                        ports: !hasPorts ? [] : (0...random.below(2)).map { _ in
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
                let program = try ClaimProgram(
                    policy.claims(interface: 0).map(ClaimRule.init),
                    native: policy.nativeClaim(interface: 0).map(NativeClaimRule.init)
                ).load(object: "near")
                let world = Self.world(policy)
                for number in 0..<250 {
                    let frame = number % 8 == 0
                        ? Self.frame(&random) : Self.nativeFrame(&random)
                    let isOurs = Self.isOurs(frame, world)
                    let result = try ClaimProgram.run(program, frame: frame)
                    #expect(
                        result == (isOurs ? Self.dropped : Self.untouched),
                        "\(Self.text(policy)); \(policy.rewrites); \(Self.text(frame))")
                    ours += isOurs ? 1 : 0
                }
            }
            #expect(ours > 20 && ours < 1980, "\(ours) of 2000 frames")
        }

        /// More than the verifier may want, and than one jump reaches.
        @Test func thousandsOfDestinationsAreNoTrap() throws {
            let all = ClaimRule.Network(bytes: Frames.six(0), length: 64)
            var rule = NativeClaimRule(sources: [Self.probes[0]], targets: [], excluded: [all])
            for number in 0..<3000 {
                rule.targets.append(
                    .init(
                        network: .init(
                            bytes: Array(Frames.six(0)[..<14]) + Frames.word(number), length: 128),
                        protocolNumber: 6, ports: [80...80, 443...443]))
            }
            // Loaded or refused with a reason: no trap.
            do {
                _ = try ClaimProgram([], native: rule).load(object: "near")
            } catch {
                #expect("\(error)".contains("BPF_PROG_LOAD"))
            }
            rule.targets.removeLast(2900)
            _ = try ClaimProgram([], native: rule).load(object: "near")
        }

        // MARK: the judge

        private static func isOurs(_ frame: [UInt8], _ world: World) -> Bool {
            let head = UnsafeMutableRawPointer.allocate(
                byteCount: Limits.headBytes, alignment: 16)
            defer { head.deallocate() }
            return frame.withUnsafeBytes { bytes in
                var one = Frame(
                    network: bytes.baseAddress! + 14, head: head, length: frame.count - 14,
                    wireLength: frame.count - 14, linkLength: 14,
                    etherType: UInt16(frame[12]) << 8 | UInt16(frame[13]), interface: 0,
                    isForUs: frame[..<6].allSatisfy { $0 == 0 })
                return withUnsafeTemporaryAllocation(of: Verdict.self, capacity: 1) { verdicts in
                    Judge.judge(&one, into: verdicts.baseAddress!, count: 1, world: world.view)
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

        private static func world(_ policy: Policy) -> World {
            World(
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
                let rules = policy.claims(interface: 0).map(ClaimRule.init)
                let program = try ClaimProgram(rules).load(object: "near")
                let world = Self.world(policy)
                for _ in 0..<250 {
                    let frame = Self.frame(&random)
                    let isOurs = Self.isOurs(frame, world)
                    let result = try ClaimProgram.run(program, frame: frame)
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
            let all = ClaimRule.Network(bytes: [0, 0, 0, 0], length: 0)
            for rules in [
                [], [ClaimRule(local: all, remotes: [], excluded: [])],
                [ClaimRule(local: all, remotes: [all], excluded: [all])],
            ] {
                let program = try ClaimProgram(rules).load(object: "near")
                #expect(try ClaimProgram.run(program, frame: frame) == Self.untouched)
            }
            for rules in [
                [ClaimRule(local: all, remotes: nil, excluded: [])],
                [ClaimRule(local: all, remotes: [all], excluded: [])],
            ] {
                let program = try ClaimProgram(rules).load(object: "near")
                #expect(try ClaimProgram.run(program, frame: frame) == Self.dropped)
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
            let program = try ClaimProgram(policy.claims(interface: 0).map(ClaimRule.init)).load(
                object: "near")
            let frame = Frames.ethernet(
                [UInt8](repeating: 0, count: 6), 0x0800,
                Frames.ipv4(
                    4, from: Frames.four(2), to: Frames.four(2),
                    [UInt8](repeating: 0, count: 40)))
            #expect(Self.isOurs(frame, Self.world(policy)))
            #expect(try ClaimProgram.run(program, frame: frame) == Self.dropped)
        }

        /// Where the two differ, and are known to: too short to be told. The kernel's own input
        /// refuses such frames in silence, so that nobody is answered.
        @Test func aChainThatIsCutIsLeftToTheKernel() throws {
            let policy = Policy(
                interfaces: [Policy.Interface(name: "near", reversePath: .off)],
                tunnels: [
                    Policy.Tunnel(
                        name: "all", interfaces: [0],
                        local: [Prefix(Address(bytes: Frames.six(2))!, length: 128)!],
                        remotes: [Prefix(Address(bytes: Frames.six(0))!, length: 64)!])
                ])
            let program = try ClaimProgram(policy.claims(interface: 0).map(ClaimRule.init)).load(
                object: "near")
            let whole = Frames.ipv6(
                60, from: Frames.six(1), to: Frames.six(2),
                [4, 1] + [UInt8](repeating: 0, count: 14) + [UInt8](repeating: 7, count: 32))
            let target = [UInt8](repeating: 0, count: 6)
            let frame = Frames.ethernet(target, 0x86dd, whole)
            #expect(try ClaimProgram.run(program, frame: frame) == Self.dropped)
            let cut = Array(frame[..<(14 + 40)])
            // A load behind the end of a packet ends a program with 0, TC_ACT_OK.
            #expect(try ClaimProgram.run(program, frame: cut) == 0)
        }
    }
}
