// Floods of small first fragments before the reassembler, by a clock of their own: what they cost the
// legitimate datagrams that come in between, and how much one remote and all together may hold.

import IP
import TestPackets
import Testing

@testable import Forwarding

/// Datagrams of two fragments from a balancer, 2 ms apart, in a flood of first fragments of 8 bytes.
private struct Flood {
    static let datagrams = 100
    static let distance: UInt64 = 2_000_000
    static let balancer = Address(high: 0x2001_0db8_0001_0000, low: 0xb6)

    /// How many sources the flood has, and its fragments a second.
    var sources: UInt64
    var rate: UInt64
    /// Nanoseconds between the fragments of a legitimate datagram.
    var gap: UInt64
    /// Bits 127…64 of the sources: the balancer's own /64 if nothing else is said.
    var network = Self.balancer.high
    var memory = 4 << 20

    /// Legitimate datagrams that became whole.
    func survivors() -> Int {
        let reassembler = Reassembler(memory: memory, timeout: 30_000_000_000, seed: 7)
        // The flood has filled the memory by then.
        let start = 15_000 * 1_000_000_000 / rate
        var whole = 0
        var firsts = 0
        var seconds = 0
        func send(until now: UInt64) {
            while true {
                let first = start + UInt64(firsts) * Self.distance
                let second = start + UInt64(seconds) * Self.distance + gap
                if firsts < Self.datagrams, first <= min(second, now) {
                    _ = reassembler.insert(part(firsts, isFirst: true), now: first)
                    firsts += 1
                } else if seconds < Self.datagrams, second <= now {
                    if case .whole = reassembler.insert(part(seconds, isFirst: false), now: second) {
                        whole += 1
                    }
                    reassembler.recycle()
                    seconds += 1
                } else {
                    return
                }
            }
        }
        let end = start + gap + UInt64(Self.datagrams) * Self.distance
        for number in 0..<end * rate / 1_000_000_000 {
            let now = number * 1_000_000_000 / rate
            send(until: now)
            let source = Address(high: network, low: 1 << 32 | number % sources)
            _ = reassembler.insert(Self.first(of: source, UInt32(truncatingIfNeeded: number)), now: now)
        }
        send(until: end)
        return whole
    }

    private func part(_ number: Int, isFirst: Bool) -> Fragment {
        Fragment(
            key: Self.key(Self.balancer, UInt32(number)), offset: isFirst ? 0 : 720,
            payload: Bytes(Self.bytes, count: 720), moreFragments: isFirst, ecn: 0,
            header: Bytes(Self.bytes, count: isFirst ? 40 : 0), nextHeaderAt: 6, nextHeader: 41)
    }

    static func first(of source: Address, _ identification: UInt32, bytes: Int = 8) -> Fragment {
        Fragment(
            key: key(source, identification), offset: 0, payload: Bytes(Self.bytes, count: bytes),
            moreFragments: true, ecn: 0, header: Bytes(Self.bytes, count: 40), nextHeaderAt: 6,
            nextHeader: 41)
    }

    static func last(of source: Address, _ identification: UInt32) -> Fragment {
        Fragment(
            key: key(source, identification), offset: 8, payload: Bytes(bytes, count: 8),
            moreFragments: false, ecn: 0, header: Bytes(bytes, count: 0), nextHeaderAt: 6,
            nextHeader: 41)
    }

    private static func key(_ source: Address, _ identification: UInt32) -> DatagramKey {
        DatagramKey(
            source: source, destination: Address(high: 1, low: 1), identification: identification,
            protocolNumber: DatagramKey.ipv6)
    }

    /// What every fragment carries; nobody writes to it.
    nonisolated(unsafe) private static let bytes: UnsafeRawPointer = {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 2048, alignment: 8)
        memory.initializeMemory(as: UInt8.self, repeating: 0x60, count: 2048)
        return UnsafeRawPointer(memory)
    }()
}

@Suite("Floods of fragments")
struct FragmentFloodTests {
    private static let millisecond: UInt64 = 1_000_000

    @Test(
        "30,000 first fragments a second, from the balancer's own /64",
        arguments: [1, 256, 4_096, 60_000] as [UInt64], [1, 10] as [UInt64])
    func small(sources: UInt64, gap: UInt64) {
        let flood = Flood(sources: sources, rate: 30_000, gap: gap * Self.millisecond)
        #expect(flood.survivors() == Flood.datagrams)
    }

    @Test("300,000 a second: whoever completes in the time that fills the memory is not touched")
    func fast() {
        for sources: UInt64 in [256, 60_000] {
            let flood = Flood(sources: sources, rate: 300_000, gap: 10 * Self.millisecond)
            #expect(flood.survivors() == Flood.datagrams)
        }
    }

    /// 4 MiB hold some 9,000 of them: 9 ms of a million a second.
    @Test("a million a second: the datagrams of who holds less than the flood's sources stay")
    func beyondTheMemory() {
        var flood = Flood(sources: 256, rate: 1_000_000, gap: 20 * Self.millisecond)
        #expect(flood.survivors() == Flood.datagrams)
        // No source holds less than one of so many does.
        flood.sources = 60_000
        #expect(flood.survivors() < Flood.datagrams / 10)
        // In a network that is not the flood's they stay all the same.
        flood.network += 1
        #expect(flood.survivors() == Flood.datagrams)
    }

    @Test("a remote fills an eighth of the memory, all together all of it")
    func quota() {
        for memory in [4 << 20, 16 << 20] {
            let all = memory / Reassembler.bytesPerCell
            // Not by one more or less: each of these takes one cell.
            let one = Address(high: 7, low: 7)
            #expect(quotaHeld(memory, one) == all / 8)
            let reassembler = Reassembler(memory: memory, timeout: 1, seed: 3)
            for number in 0..<UInt32(all) {
                let source = Address(high: 9, low: UInt64(number))
                _ = reassembler.insert(Flood.first(of: source, number), now: 0)
            }
            #expect(reassembler.failures.memory == 0)
            _ = reassembler.insert(Flood.first(of: one, 0), now: 0)
            #expect(reassembler.failures.memory == 1)
        }
    }

    /// Datagrams of one remote that are held before the first of them is evicted.
    private func quotaHeld(_ memory: Int, _ source: Address) -> Int {
        let reassembler = Reassembler(memory: memory, timeout: 1, seed: 3)
        var number: UInt32 = 0
        while reassembler.failures.memory == 0, number < 1_000_000 {
            _ = reassembler.insert(Flood.first(of: source, number), now: 0)
            number += 1
        }
        return Int(number) - 1
    }

    @Test("of a remote at its quota the oldest goes, and of another none")
    func oldestOfTheRemote() {
        let memory = 4 << 20
        let quota = memory / Reassembler.bytesPerCell / 8
        let reassembler = Reassembler(memory: memory, timeout: 1, seed: 3)
        let one = Address(high: 7, low: 7)
        let other = Address(high: 7, low: 8)
        _ = reassembler.insert(Flood.first(of: other, 0), now: 0)
        for number in 0..<UInt32(quota + 10) {
            _ = reassembler.insert(Flood.first(of: one, number), now: 0)
        }
        #expect(reassembler.failures.memory == 10)
        #expect(isWhole(reassembler.insert(Flood.last(of: other, 0), now: 0)))
        #expect(!isWhole(reassembler.insert(Flood.last(of: one, 9), now: 0)))
        #expect(isWhole(reassembler.insert(Flood.last(of: one, 12), now: 0)))
        #expect(isWhole(reassembler.insert(Flood.last(of: one, UInt32(quota + 9)), now: 0)))
    }

    /// What is refused holds one cell, so that even such datagrams have a quota.
    @Test("refused datagrams count too")
    func refused() {
        let memory = 4 << 20
        let quota = memory / Reassembler.bytesPerCell / 8
        let reassembler = Reassembler(memory: memory, timeout: 1, seed: 3)
        let one = Address(high: 7, low: 7)
        for number in 0..<UInt32(quota) {
            reassembler.refuse(
                Flood.first(of: one, number).key, opens: true, now: 0)
        }
        let isRefused = { (number: UInt32) in
            reassembler.insert(Flood.first(of: one, number), now: 0) == .refused(.fragmentOverlap)
        }
        #expect(isRefused(0) && isRefused(UInt32(quota - 1)))
        reassembler.refuse(Flood.first(of: one, UInt32(quota)).key, opens: true, now: 0)
        #expect(!isRefused(0) && isRefused(UInt32(quota)))
        reassembler.expire(now: 1)
        #expect(reassembler.isEmpty)
    }

    private func isWhole(_ outcome: Reassembler.Outcome) -> Bool {
        if case .whole = outcome { true } else { false }
    }
}
