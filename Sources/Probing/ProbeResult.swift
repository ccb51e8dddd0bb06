// ProbeResult, what became of a flow's probes.

/// What became of a flow's probes, in its last try.
public struct ProbeResult: Sendable {
    public let flow: ProbeFlow
    /// Tries so far.
    public private(set) var tries = 0
    public private(set) var sent = 0
    public private(set) var answered = 0
    /// The service said that it is not there: a RST, or port unreachable.
    public internal(set) var refused = 0
    /// Of those that are over: an interrupted run leaves others open.
    public internal(set) var unanswered = 0
    public private(set) var roundTrips = RoundTrips()
    /// The largest MSS of all answers: that of the service which fits least.
    public private(set) var mss: Int?
    /// Answers whose MSS option is 0 or cannot be read.
    public private(set) var brokenMSS = 0
    /// Of all tries, each once.
    public internal(set) var errors: [ICMPReport] = []
    /// errno of a probe that this host could not send.
    public internal(set) var sendError: Int32?

    public init(flow: ProbeFlow) { self.flow = flow }

    public var isAnswered: Bool { sent > 0 && answered == sent }

    /// Notes that a probe of this flow is sent; the first of a try begins the try.
    mutating func begin(_ plan: ProbePlan) {
        if tries == 0 || isOver(plan) {
            tries += 1
            (sent, answered, refused, unanswered, brokenMSS) = (0, 0, 0, 0, 0)
            roundTrips = RoundTrips()
        }
        sent += 1
    }

    /// Whether every probe of the try has its end.
    func isOver(_ plan: ProbePlan) -> Bool { answered + refused + unanswered == plan.count }

    /// What is known of a flow, also when the run was interrupted.
    public enum Standing: Sendable {
        /// Not asked, or not to the end of the first try.
        case undecided
        case answered
        /// A try failed, and no later one was answered.
        case failed
    }

    public func standing(_ plan: ProbePlan) -> Standing {
        if answered == plan.count { return .answered }
        return tries == 0 || tries == 1 && !isOver(plan) ? .undecided : .failed
    }

    mutating func answer(after time: UInt64, mss: UInt16?) {
        answered += 1
        roundTrips.add(time)
        guard let mss else { return }
        if mss == 0 { brokenMSS += 1 } else { self.mss = max(self.mss ?? 0, Int(mss)) }
    }
}
