// What one simulated world is made of: Scenario, and what is left out of it to make it smaller; RandomStream.

/// A world follows from these values alone.
public struct Scenario: Sendable {
    public var seed: UInt64
    /// Frames that the kernel is offered.
    public var frames: Int
    /// Numbers of frames that do not come.
    public var absentFrames: Set<Int> = []
    /// Numbers of faults that do not happen.
    public var absentFaults: Set<Int> = []
    /// What the driver does wrong on purpose, so that tests can show that it is noticed.
    public var sabotage: Sabotage?
    /// Prints every event.
    public var isVerbose = false

    public init(seed: UInt64, frames: Int = 100_000) {
        self.seed = seed
        self.frames = frames
    }
}

/// Faults of a worker that the invariants must notice.
public enum Sabotage: String, CaseIterable, Sendable {
    /// Slots go back to the kernel before their writes.
    case earlyRelease
    /// A joined packet that the kernel refused counts as written.
    case refusedJoinDelivered
    /// The worker goes on with tables that it said it had left.
    case staleGeneration
    /// A frame at the end of a full batch is counted twice.
    case countedTwice
    /// Packets of a refused joined packet go out last first.
    case reorderedAfterRefusal
    /// Each worker has the tokens that all of them are to share.
    case bucketsOfItsOwn
    /// Counters of a killed worker are taken as they are.
    case unrepairedCounters
    /// A slot without its frame is given back before the ring's place says so.
    case losesInOneStep
}

/// SplitMix64. Each subject of a world has a stream of its own, so that leaving out one thing changes little
/// else.
struct RandomStream {
    private var state: UInt64

    init(_ seed: UInt64, _ subject: UInt64) { state = seed ^ subject &* 0xd6e8_feb8_6659_fd93 }

    @inline(__always)
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value &>> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value &>> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value &>> 31
    }

    @inline(__always)
    mutating func below(_ bound: Int) -> Int {
        Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(bound)).high)
    }

    @inline(__always)
    mutating func chance(_ oneIn: Int) -> Bool { below(oneIn) == 0 }

    @inline(__always)
    mutating func percent(_ share: Int) -> Bool { below(100) < share }

    @inline(__always)
    mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }
}
