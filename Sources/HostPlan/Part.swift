// Parts of a plan that are there or absent as a whole.

/// What is there or absent as a whole.
public enum Part: Sendable, Hashable, Codable {
    case interface(String)
    case device(String)
    case errors
    case answers
    case claims
    /// The claim program of one interface; raw sockets replace it while it is absent.
    case claim(String)
    case replyTable
}
