// The words of a worker's counters: which there are, how a batch is added to them, and what a kill leaves.

import Forwarding
import Synchronization

/// Words of a block, in memory that somebody else holds.
enum CounterWords {
    enum Single: Int, CaseIterable {
        case received, injected, passed, held, dropped, replied
        case clamped, unclamped, writes, refusedJoins, truncated, lastProgress
        case answersSent, answersFailed
        case reassemblyOverlap, reassemblyMemory, reassemblyTimeout
    }

    /// What the worker holds: trivially copyable.
    struct Writer {
        let words: UnsafeMutablePointer<Atomic<UInt64>>
        let sequence: UnsafeMutablePointer<Atomic<UInt64>>
        let shape: Shape

        @inline(__always)
        func add(_ index: Int, _ amount: UInt64 = 1) {
            let old = words[index].load(ordering: .relaxed)
            words[index].store(old &+ amount, ordering: .relaxed)
        }

        @inline(__always)
        func add(_ single: Single, _ amount: UInt64 = 1) { add(single.rawValue, amount) }

        @inline(__always)
        func set(_ single: Single, _ value: UInt64) {
            words[single.rawValue].store(value, ordering: .relaxed)
        }

        @inline(__always)
        func begin() {
            let old = sequence.pointee.load(ordering: .relaxed)
            sequence.pointee.store(old &+ 1, ordering: .relaxed)
            atomicMemoryFence(ordering: .releasing)
        }

        @inline(__always)
        func end() {
            let old = sequence.pointee.load(ordering: .relaxed)
            sequence.pointee.store(old &+ 1, ordering: .releasing)
        }
    }
}

extension CounterWords {
    /// How many of each label a policy has: where a counter stands in the block.
    struct Shape: Sendable, Equatable {
        let tunnels: Int
        let devices: Int
        let destinations: Int

        init(_ policy: Policy) {
            tunnels = policy.tunnels.count
            devices = policy.devices.count
            destinations = policy.tunnels.reduce(0) { $0 + $1.destinations.count }
        }

        private static let single = Single.allCases.count
        private static let reasons = DropReason.allCases.count
        var cells: Int { Self.single }
        var replied: Int { cells + 16 }
        var dropped: Int { replied + Self.reasons }
        var injected: Int { dropped + (tunnels + 1) * Self.reasons }
        var injectedBytes: Int { injected + tunnels * Mode.count * devices }
        var destination: Int { injectedBytes + tunnels * Mode.count * devices }
        var count: Int { destination + destinations }

        /// A drop that no tunnel could be named for counts for the one behind the last.
        @inline(__always)
        func dropIndex(tunnel: UInt16, reason: DropReason) -> Int {
            let row = tunnel == Verdict.noIndex ? tunnels : Int(tunnel)
            return dropped &+ row &* Self.reasons &+ Int(reason.rawValue)
        }

        @inline(__always)
        func injectIndex(tunnel: UInt16, mode: Mode, device: UInt16) -> Int {
            injected &+ (Int(tunnel) &* Mode.count &+ Int(mode.rawValue)) &* devices &+ Int(device)
        }
    }

    /// A consistent copy of a block.
    struct Values: Sendable {
        let shape: Shape
        let values: [UInt64]
        subscript(_ single: Single) -> UInt64 { values[single.rawValue] }

        /// Of a worker that was killed while it counted: sums that agree with their parts.
        var repaired: Values {
            var values = values
            func sum(_ range: Range<Int>) -> UInt64 { values[range].reduce(0, &+) }
            values[Single.injected.rawValue] = sum(shape.injected..<shape.injectedBytes)
            values[Single.dropped.rawValue] = sum(shape.dropped..<shape.injected)
            values[Single.replied.rawValue] = sum(shape.replied..<shape.dropped)
            let fates: [Single] = [.injected, .passed, .held, .dropped, .replied]
            values[Single.received.rawValue] = fates.reduce(0) { $0 &+ values[$1.rawValue] }
            return Values(shape: shape, values: values)
        }
    }
}

extension CounterWords.Writer {
    /// Adds neighbours of one fate.
    /// - Parameters:
    ///   - count: of them.
    ///   - bytes: of their inner packets.
    func tally(_ verdict: UnsafeMutablePointer<Verdict>, _ count: UInt64, _ bytes: UInt64) {
        let value = verdict.pointee
        if value.ecnCell != Verdict.noCell {
            add(shape.cells &+ Int(value.ecnCell), count)
        }
        switch value.kind {
        case .inject:
            add(.injected, count)
            let index = shape.injectIndex(
                tunnel: value.tunnel, mode: value.mode, device: value.device)
            add(index, count)
            add(index &- shape.injected &+ shape.injectedBytes, bytes)
            if value.destination != Verdict.noIndex {
                add(shape.destination &+ Int(value.destination), count)
            }
            if value.clampedMSS { add(.clamped, count) }
            if value.unclampedMSS { add(.unclamped, count) }
        case .pass: add(.passed, count)
        case .hold: add(.held, count)
        case .drop:
            add(.dropped, count)
            add(shape.dropIndex(tunnel: value.tunnel, reason: value.reason), count)
        case .reply:
            add(.replied, count)
            add(shape.replied &+ Int(value.reason.rawValue), count)
        }
    }
}
