// The way of an assignment to its worker.

import LinuxIO
import Synchronization

/// The way to a worker: the next assignment, taken at a batch border without a lock. Only the control
/// thread posts and pings.
final class Mailbox: Sendable {
    /// Not an address: asks the worker only whether it still looks.
    private static let ping: UInt = 1
    /// A retained `Assignment`, `ping`, or 0 once the worker has looked.
    private let next = Atomic<UInt>(0)
    /// When what stands in `next` was put where nothing was, monotonic.
    private let waitingSince = Atomic<UInt64>(0)
    /// The generation that the worker runs on.
    let taken = Atomic<UInt64>(0)
    /// Why the worker goes on with the generation before that one; nil: it refused none.
    let refusal = Mutex<Refusal?>(nil)
    /// Set when the worker ended, but not as it was told to.
    let failure = Mutex<String?>(nil)
    /// The worker's thread does nothing any more.
    let hasEnded = Atomic<Bool>(false)
    let wakeup: Wakeup
    /// For whoever captures what the worker receives.
    let tap = CaptureTap()

    struct Refusal: Sendable {
        let generation: UInt64
        let reason: String
    }

    init() throws(SystemError) { wakeup = try Wakeup() }

    deinit { _ = take() }

    func post(_ assignment: Assignment) {
        let new = UInt(bitPattern: Unmanaged.passRetained(assignment).toOpaque())
        noteWaiting()
        tap.note(assignment)
        // One that was never taken is replaced.
        _ = Self.owned(next.exchange(new, ordering: .acquiringAndReleasing))
        wakeup.signal()
    }

    /// Asks for a sign of life: the worker's look at its mailbox.
    func askForLife() {
        guard isEmpty else { return }
        noteWaiting()
        // The worker only ever empties it.
        next.store(Self.ping, ordering: .releasing)
        wakeup.signal()
    }

    /// Before something is put in, so that a reader who finds it also finds its time.
    private func noteWaiting() {
        if isEmpty { waitingSince.store(Host.monotonicNanoseconds(), ordering: .releasing) }
    }

    /// How long the worker has not looked at what waits for it, in nanoseconds; 0 when nothing waits.
    var silence: UInt64 {
        guard next.load(ordering: .acquiring) != 0 else { return 0 }
        let (now, since) = (Host.monotonicNanoseconds(), waitingSince.load(ordering: .acquiring))
        return now > since ? now - since : 0
    }

    @inline(__always)
    var isEmpty: Bool { next.load(ordering: .relaxed) == 0 }

    /// Why the worker does not run on this generation; nil where it does, or has not decided.
    func refusal(of generation: UInt64) -> String? {
        refusal.withLock { $0?.generation == generation ? $0?.reason : nil }
    }

    /// nil when there is none, or only the question for a sign of life, which this answers.
    func take() -> Assignment? { Self.owned(next.exchange(0, ordering: .acquiringAndReleasing)) }

    private static func owned(_ bits: UInt) -> Assignment? {
        guard bits != ping else { return nil }
        return UnsafeMutableRawPointer(bitPattern: bits).map {
            Unmanaged<Assignment>.fromOpaque($0).takeRetainedValue()
        }
    }
}
