// A part of what a configuration needs.

/// What is there or absent as a whole.
public enum Part: Sendable, Hashable {
    case interface(String)
    case device(String)
    case errors
    case answers
    case claims
    /// The program of one interface, where raw sockets stand in for it.
    case claim(String)
    case replyTable
}
