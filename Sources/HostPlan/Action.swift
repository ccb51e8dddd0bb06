// A step from what is there to what is wanted.

public enum Action: Sendable, Equatable {
    case open(Resource)
    case change(from: Resource, to: Resource)
    /// Goes when no worker runs on it any more.
    case remove(Resource)

    /// When a step is taken. Later ones are seen by more of those who run on what was before.
    public enum Phase: Int, Sendable, CaseIterable, Comparable {
        /// Seen by nobody.
        case prepare
        /// Frames come in and the kernel is silent.
        case receive
        /// The running configuration has it, too.
        case share
        case retire

        public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    public var resource: Resource {
        switch self {
        case .open(let resource), .change(_, let resource), .remove(let resource): resource
        }
    }

    public var phase: Phase {
        switch self {
        case .remove: .retire
        case .open(.filter), .open(.claim), .open(.socketClaim), .change(_, .filter): .receive
        case .open(.replyTable), .change: .share
        case .open: .prepare
        }
    }
}
