// Limits of what is injected: so many packets and no more, whoever sends them.

import IP
import Testing

@testable import Forwarding

@Suite("Limits of what is injected")
struct PacketLimitTests {
    private static let remotes = (0..<3).map { Address(ipv4: 0x0a00_0001 + UInt32($0)) }
    private static let second: UInt64 = 1_000_000_000

    /// How many of `count` packets may be injected.
    private static func taken(
        _ limits: PacketLimits, _ count: Int, segments: Int = 1, from remote: Address? = remotes[0],
        now: UInt64 = second
    ) -> Int {
        (0..<count).reduce(0) { sum, _ in sum + (limits.take(segments, from: remote, now: now) ? 1 : 0) }
    }

    @Test func noLimitIsNothing() {
        #expect(PacketLimits(packetsPerSecond: nil, perRemote: nil, seed: 1) == nil)
    }

    @Test("a batch at once, then the rate", arguments: [nil, remotes[0]])
    func inAll(remote: Address?) throws {
        let limits = try #require(PacketLimits(packetsPerSecond: 1000, perRemote: nil, seed: 1))
        defer { limits.deallocate() }
        #expect(Self.taken(limits, 100, from: remote) == 64)
        #expect(Self.taken(limits, 100, from: remote, now: Self.second + 5_000_000) == 5)
        #expect(Self.taken(limits, 100, from: Self.remotes[1], now: Self.second + 5_000_000) == 0)
        // What was not used for an hour does not add up.
        #expect(Self.taken(limits, 100, from: remote, now: 3600 * Self.second) == 64)
    }

    @Test("10 ms of a high rate at once")
    func burst() throws {
        let limits = try #require(PacketLimits(packetsPerSecond: 100_000, perRemote: nil, seed: 1))
        defer { limits.deallocate() }
        #expect(Self.taken(limits, 2000) == 1000)
    }

    @Test("one remote's flood leaves the others what is theirs", arguments: [UInt64(1), 2, 3])
    func perRemote(seed: UInt64) throws {
        let limits = try #require(PacketLimits(packetsPerSecond: 10_000, perRemote: 1000, seed: seed))
        defer { limits.deallocate() }
        #expect(Self.taken(limits, 10_000) == 64)
        #expect(Self.taken(limits, 100, from: Self.remotes[1]) == 36)
        // A packet without an outer header has no remote.
        #expect(Self.taken(limits, 100, from: nil, now: Self.second + 1_000_000) == 10)
        #expect(Self.taken(limits, 100, from: Self.remotes[2], now: 2 * Self.second) == 64)
    }

    @Test("a frame takes a token per segment")
    func segments() throws {
        let limits = try #require(PacketLimits(packetsPerSecond: 1000, perRemote: nil, seed: 1))
        defer { limits.deallocate() }
        #expect(Self.taken(limits, 100, segments: 10) == 7)
        // 70 taken, 64 there: the debt is paid first.
        #expect(Self.taken(limits, 100, now: Self.second + 6_000_000) == 0)
        #expect(Self.taken(limits, 100, now: Self.second + 7_000_000) == 1)
    }

    @Test("in a batch what is over the limit is a drop", arguments: [true, false])
    func batch(isPerRemote: Bool) throws {
        let limits = try #require(
            PacketLimits(
                packetsPerSecond: isPerRemote ? nil : 1000, perRemote: isPerRemote ? 1000 : nil, seed: 1))
        defer { limits.deallocate() }
        let segments = (0..<8).map { number in
            var segment = Segment(.ipip, isTCP: false)
            segment.sourcePort = UInt16(number)
            return segment
        }
        withJudged(segments) { batch, times in
            let frame = batch.frames[0]
            let remote = Address(ipv4: Bytes(frame.network, count: frame.length).ipv4.source)
            #expect(Self.taken(limits, 60, from: remote, now: times.of(batch.frames)) == 60)
            batch.apply(limits, 8, times)
            let verdicts = (0..<8).map { batch.verdicts[$0] }
            #expect(verdicts.prefix(4).allSatisfy { $0.kind == .inject })
            #expect(verdicts.suffix(4).allSatisfy { $0.kind == .drop && $0.reason == .rateLimit })
            #expect(batch.list(8, times).operations == 0..<4)
        }
    }
}
