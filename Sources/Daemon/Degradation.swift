// Where the daemon does less than it was asked to: one list for status, log, metric and readiness.

/// Something that works less well than asked, or that was changed under a running shuck.
struct Degradation: Sendable, Hashable {
    /// Label `what` of `shuck_degraded`: which part falls short.
    enum What: String, Sendable, CaseIterable {
        /// How the kernel is kept from answering for frames that are ours.
        case claim
        /// An interface that is not received from.
        case interface
        /// A device that packets cannot be injected through.
        case device
        /// Segments that the kernel does not take joined.
        case offload
        /// A sysctl, address or link that shuck set or demands.
        case host
        /// The mirror of the kernel's routes and rules.
        case routes
        /// The clamp of what pods answer.
        case replies
        /// The rewriting of link-local health probes, or the way back of their answers.
        case probes
        /// A worker that stands still.
        case worker
        /// Lines of the log that could not be written.
        case log

        /// Whether shuck chose another way than the one asked for, because the host refused that:
        /// what `run --strict` does not start with.
        var isFallback: Bool { self == .claim || self == .offload || self == .probes }
    }

    let what: What
    /// The interface, device, sysctl or worker; with `what` it tells one from another.
    let subject: String
    /// What happened, to what, why, and what to type.
    let text: String
    /// Whether traffic that should be forwarded is not: `/readyz` answers 503.
    let isBlocking: Bool
}

/// Which degradations the log has told of, so that each is told of once when it comes and once when
/// it goes.
struct ToldDegradations {
    private struct Key: Hashable {
        let what: Degradation.What
        let subject: String
    }
    private var texts: [Key: String] = [:]

    /// - Returns: those that came, or that say something else than before, in order; and those that
    ///   went, as `what subject`.
    mutating func update(_ now: [Degradation]) -> (came: [Degradation], went: [String]) {
        var current: [Key: String] = [:]
        var came: [Degradation] = []
        for one in now {
            let key = Key(what: one.what, subject: one.subject)
            guard current[key] == nil else { continue }
            current[key] = one.text
            if texts[key] != one.text { came.append(one) }
        }
        let went = texts.keys.filter { current[$0] == nil }.map { "\($0.what.rawValue) \($0.subject)" }
        texts = current
        return (came, went.sorted())
    }
}
