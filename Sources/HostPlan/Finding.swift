// Something that an operator should know: one list for a start, a reload, `check`, status, log, metric and
// readiness.

/// Something of this host, or of the running daemon, that an operator should know.
public struct Finding: Sendable, Hashable, Codable, CustomStringConvertible {
    /// Label `what` of `shuck_degraded`: which part falls short.
    public enum What: String, Sendable, Codable, CaseIterable {
        /// How the kernel is kept from answering for frames that are ours.
        case claim
        /// An interface that is not received from.
        case interface
        /// A device that packets cannot be injected through.
        case device
        /// Segments that the kernel does not take joined.
        case offload
        /// Writes to devices and waiting for frames by io_uring.
        case ring = "io_uring"
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
        /// What the engine gives up before it looks at a packet.
        case sandbox

        /// Whether shuck chose another way than the one asked for, because the host refused that:
        /// what `run --strict` does not start with.
        public var isFallback: Bool { [.claim, .offload, .probes, .ring].contains(self) }
    }

    /// What becomes of the daemon with it.
    public enum Severity: Int, Sendable, Codable, Comparable {
        /// Everything works; something could be faster, or surprise.
        case advice
        /// Something works less well than asked.
        case degraded
        /// Traffic that should be forwarded is not: `/readyz` answers 503.
        case blocking
        /// Nothing starts and no reload is applied with it. Where it comes later, it is blocking.
        case refusal

        public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    public let what: What
    /// The interface, device, sysctl or worker; with `what` it tells one from another.
    public let subject: String
    /// What happened, to what, and why.
    public let text: String
    /// What to type or to change; nil where `text` says it.
    public let remedy: String?
    public let severity: Severity

    public init(what: What, subject: String, text: String, remedy: String? = nil, severity: Severity) {
        self.what = what
        self.subject = subject
        self.text = text
        self.remedy = remedy
        self.severity = severity
    }

    public var description: String { text + (remedy.map { ": \($0)" } ?? "") }
    public var isBlocking: Bool { severity >= .blocking }
}
