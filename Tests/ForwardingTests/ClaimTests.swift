// The kernel's filter is built from claims: they must say "ours" exactly where the judge does.

import IP
import Routing
import TestPackets
import Testing

@testable import Forwarding

@Suite("Claims")
struct ClaimTests {
    /// A small world of addresses, so that prefixes nest and meet.
    static func address(_ isIPv4: Bool, _ random: inout Random) -> Address {
        let low = UInt64(random.below(16))
        return isIPv4
            ? Address(ipv4: 0xc000_0200 | UInt32(low))
            : Address(high: 0x2001_0db8 << 32, low: low)
    }

    static func prefixes(_ count: Int, _ random: inout Random) -> [Prefix] {
        (0..<count).map { _ in
            let isIPv4 = random.chance(2)
            let address = address(isIPv4, &random)
            let length = random.chance(3) ? 4 : random.below(5)
            if random.chance(25) { return Prefix(address, length: 0)! }
            return Prefix(address, length: (isIPv4 ? 28 : 124) + length)!
        }
    }

    static func policy(_ random: inout Random) -> Policy {
        var policy = Policy.usual
        policy.tunnels = (0..<(1 + random.below(5))).map { index in
            Policy.Tunnel(
                name: "tunnel\(index)", interfaces: [[0], [1], [0, 1]][random.below(3)],
                local: prefixes(1 + random.below(3), &random),
                remotes: prefixes(1 + random.below(3), &random),
                passOtherRemotes: random.chance(2),
                modes: Set(Mode.allCases.filter { _ in random.chance(2) }))
        }
        return policy
    }

    static func isOurs(_ claims: Claims, source: Address, destination: Address) -> Bool {
        let holding = claims.locals.filter { $0.prefix.contains(destination) }
        guard let local = holding.max(by: { $0.prefix.length < $1.prefix.length }) else {
            return false
        }
        guard let set = local.remotes else { return true }
        return claims.remotes[set].contains { $0.contains(source) }
            && !claims.endpoints.contains(source)
    }

    @Test("claims and verdicts agree", arguments: 1...8)
    func agreement(seed: Int) {
        var random = Random(UInt64(seed))
        var ours = 0
        for _ in 0..<40 {
            let policy = Self.policy(&random)
            let world = ForwardingTests.world { $0 = policy }
            let claims = [0, 1].map { policy.claims(interface: $0) }
            for _ in 0..<100 {
                let packet = Encapsulated(Mode.allCases[random.below(4)]).with {
                    $0.outer.source = Self.address($0.outer.isIPv4, &random)
                    $0.outer.destination = Self.address($0.outer.isIPv4, &random)
                    // Whatever is wrong with it.
                    if random.chance(4) { $0.inner.ttl = 0 }
                    if random.chance(4) { $0.outer.checksumError = 1 }
                    if random.chance(4) { $0.outer.lengthField = 65535 }
                    if random.chance(4) { $0.outer.fragment = 0x2000 }
                }
                let interface = random.below(2)
                let expected = Self.isOurs(
                    claims[interface], source: packet.outer.source,
                    destination: packet.outer.destination)
                let result = outcome(packet, in: world, Arrival(interface: UInt16(interface)))
                ours += expected ? 1 : 0
                if (result != .pass) != expected {
                    Issue.record(
                        """
                        seed \(seed): \(result), claimed \(expected): \(hex(packet.packet)), \
                        \(policy.tunnels)
                        """)
                    return
                }
            }
        }
        #expect(ours > 400 && ours < 3_600)
    }

    @Test("a prefix of several tunnels is there once")
    func noPrefixTwice() {
        var random = Random(77)
        for _ in 0..<50 {
            let prefixes = Self.policy(&random).claims(interface: 0).locals.map(\.prefix)
            #expect(Set(prefixes).count == prefixes.count)
        }
    }

    @Test("tunnels with the same remotes share a set of them")
    func sharedSets() {
        var policy = Policy.usual
        policy.tunnels[0].passOtherRemotes = true
        policy.tunnels[0].interfaces = [0]
        policy.tunnels[0].local = (0..<1000).map { Prefix(host: Address(ipv4: 0x0a00_0000 + $0)) }
        let claims = policy.claims(interface: 0)
        #expect(claims.locals.count == 1000)
        #expect(claims.remotes.count == 1)
        #expect(claims.endpoints.count == 1000)
    }

    @Test("what a shared address claims")
    func sharedAddress() {
        var policy = Policy.usual
        policy.tunnels[0].passOtherRemotes = true
        policy.tunnels[0].interfaces = [1]
        #expect(policy.claims(interface: 0).locals.isEmpty)
        let claims = policy.claims(interface: 1)
        #expect(claims.locals.count == 2)
        #expect(claims.locals.contains(.init(prefix: prefix("192.0.2.2"), remotes: 0)))
        #expect(claims.remotes.count == 1)
        #expect(claims.remotes[0].contains(prefix("198.51.100.0/24")))
        #expect(claims.endpoints.contains(prefix("192.0.2.2").address))
        policy.tunnels[0].passOtherRemotes = false
        let all = policy.claims(interface: 1)
        #expect(all.locals.allSatisfy { $0.remotes == nil })
        #expect(all.remotes.isEmpty && all.endpoints.isEmpty)
    }
}
