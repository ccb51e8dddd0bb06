// How the daemon is: what the supervisor tells, and what the engine runs on.

import Routing
import Settings

@dynamicMemberLookup
struct DaemonState: Sendable {
    var supervisor: SupervisorReport
    /// In force.
    var configuration: Configuration
    /// Of what the workers are handed; see `Assignment.generation`.
    var generation: UInt64 = 1
    var links: [Link]
    var routes: RouteStatus
    /// What of the sandbox the host refuses.
    var sandboxRefusals: [String] = []
    /// Why workers use plain system calls instead of io_uring; nil: they use io_uring.
    var ringRefusal: String?

    subscript<T>(dynamicMember member: WritableKeyPath<SupervisorReport, T>) -> T {
        get { supervisor[keyPath: member] }
        set { supervisor[keyPath: member] = newValue }
    }
}
