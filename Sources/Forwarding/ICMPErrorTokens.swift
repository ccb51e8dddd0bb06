// How many ICMP errors are sent, at a rate that no flood can drive.

import Synchronization

/// The tokens of a rate that workers share.
public struct ICMPErrorTokens: @unchecked Sendable, BitwiseCopyable {
    private let rate: TokenRate
    private let stamp: UnsafeMutablePointer<Atomic<UInt64>>

    /// To be deallocated when no worker takes of them any more.
    /// - Parameter perSecond: at least 1, as `burst`.
    public init(perSecond: Int, burst: Int) {
        rate = TokenRate(perSecond: perSecond, burst: burst)
        stamp = .allocate(capacity: 1)
        stamp.initialize(to: Atomic(0))
    }

    public func deallocate() {
        stamp.deinitialize(count: 1)
        stamp.deallocate()
    }

    /// - Parameter now: nanoseconds of a clock that does not go back.
    /// - Returns: whether there was one.
    func take(now: UInt64) -> Bool { rate.take(of: stamp, now: now) }
}
