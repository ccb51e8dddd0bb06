// What happened in a world, so that a finding can be read: Event, EventLog, Finding.

/// One thing that happened. Numbers only: the log allocates nothing while the world runs.
struct Event: BitwiseCopyable {
    enum Kind: UInt8 {
        case arrive, overflow, take, plan, write, icmp, settle, release, crash, succeed, adopt, reload,
            routes, jump
        case mood
    }

    var kind: Kind
    var step: Int
    var first: Int
    var second: Int
    var third: Int
}

extension Event: CustomStringConvertible {
    var description: String {
        let text =
            switch kind {
            case .arrive: "ring \(first): \(third) frames arrive, the last is frame \(second)"
            case .overflow: "ring \(first) is full: frame \(second) is lost"
            case .take: "worker \(third) takes \(first) frames, \(second) of them larger than their slot"
            case .plan: "plan: \(first) operations"
            case .write:
                "write \(first) to device \(second >> 16), from place \(second & 0xffff): \(third)"
            case .icmp: "ICMP error for place \(first): \(second)"
            case .settle: "settle: \(first) more operations"
            case .release: "\(first) of \(second) slots go back"
            case .crash:
                "worker \(third), and the process, dies at "
                    + "\(World.CrashPoint(rawValue: UInt8(first))!), \(second) done"
            case .succeed: "another process begins; \(first) frames were in flight"
            case .adopt: "worker \(second) adopts generation \(first)"
            case .reload: "reload: generation \(first)"
            case .routes: "routes change: generation \(first)"
            case .jump: "the clock jumps by \(first) ms"
            case .mood: "device \(first) turns \(World.Mood(rawValue: UInt8(second))!) for \(third) writes"
            }
        return "\(step): \(text)"
    }
}

/// The last events.
struct EventLog: ~Copyable {
    private static let capacity = 64
    private let events = UnsafeMutablePointer<Event>.allocate(capacity: capacity)
    private var count = 0
    private let isVerbose: Bool

    init(isVerbose: Bool) { self.isVerbose = isVerbose }
    deinit { events.deallocate() }

    @inline(__always)
    mutating func note(_ kind: Event.Kind, _ step: Int, _ first: Int, _ second: Int = 0, _ third: Int = 0) {
        let event = Event(kind: kind, step: step, first: first, second: second, third: third)
        events[count & (Self.capacity - 1)] = event
        count &+= 1
        if isVerbose { print(event) }
    }

    /// The last 50, the oldest first.
    var last: [String] {
        (max(0, count - 50)..<count).map { "\(events[$0 & (Self.capacity - 1)])" }
    }
}

/// An invariant that does not hold.
public struct Finding: Error, CustomStringConvertible, Sendable {
    public let seed: UInt64
    /// Batches before it.
    public let step: Int
    /// Frames that had been offered.
    public let frames: Int
    /// Numbers of the faults that had happened.
    public let faults: [Int]
    public let text: String
    public let events: [String]

    public var description: String {
        """
        seed 0x\(String(seed, radix: 16)), step \(step), after \(frames) frames and \(faults.count) faults:
        \(text)
        the last events (step: what happened):
        \(events.map { "  " + $0 }.joined(separator: "\n"))
        """
    }
}
