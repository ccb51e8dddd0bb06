// What is injected at most, in all and from one remote: buckets of tokens that all workers share.

import IP
import Synchronization

/// The rates of `limits`. A packet takes one token; a frame that the kernel is to segment takes one per
/// segment.
/// Any thread may take tokens: each bucket is one atomic time stamp.
public struct PacketLimits: @unchecked Sendable, BitwiseCopyable {
    // @unchecked: the stamps are atomic.

    /// Buckets of remotes. Remotes whose addresses have one hash share a bucket, so that spoofed sources
    /// need no memory of their own.
    static let remotes = 4096

    private let all: TokenRate?
    private let each: TokenRate?
    private let seed: UInt64
    /// Of all packets, then of the remotes.
    private let stamps: UnsafeMutablePointer<Atomic<UInt64>>

    /// - Parameters:
    ///   - all: packets per second of all workers together; nil: no limit.
    ///   - each: packets per second of one remote; nil: no limit.
    ///   - seed: of the hash; whoever knows it can choose sources that share a remote's bucket.
    /// - Returns: nil without any limit. To be deallocated when no worker takes of it any more.
    public init?(packetsPerSecond all: Int?, perRemote each: Int?, seed: UInt64) {
        guard all != nil || each != nil else { return nil }
        // 10 ms of the rate at once, or a worker's batch.
        func rate(_ perSecond: Int) -> TokenRate {
            TokenRate(
                perSecond: perSecond, burst: max(perSecond / 100, Limits.batch), most: Int(UInt16.max))
        }
        self.all = all.map(rate)
        self.each = each.map(rate)
        self.seed = seed
        stamps = .allocate(capacity: 1 + Self.remotes)
        for place in 0...Self.remotes { (stamps + place).initialize(to: Atomic(0)) }
    }

    public func deallocate() {
        stamps.deinitialize(count: 1 + Self.remotes)
        stamps.deallocate()
    }

    /// Takes a packet's tokens, the remote's first, so that one remote's flood leaves the others theirs.
    /// - Parameters:
    ///   - segments: at least 1.
    ///   - remote: the outer source; nil: a packet that is not encapsulated.
    ///   - now: nanoseconds of a clock that does not go back.
    /// - Returns: whether the packet may be injected.
    func take(_ segments: Int, from remote: Address?, now: UInt64) -> Bool {
        if let each, let remote {
            let place = 1 + Int(truncatingIfNeeded: hash(remote) % UInt64(Self.remotes))
            guard each.take(segments, of: stamps + place, now: now) else { return false }
        }
        return all?.take(segments, of: stamps, now: now) ?? true
    }

    private func hash(_ address: Address) -> UInt64 {
        // A multiplication folds both halves into the upper one (as wyhash does).
        let product = (address.high ^ seed).multipliedFullWidth(by: address.low ^ 0x9e37_79b9_7f4a_7c15)
        return product.high ^ product.low
    }
}
