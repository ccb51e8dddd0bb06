// What status and metrics say of the mirror of the kernel's routes.

import LinuxIO

/// Why routes are dumped again: label `reason` of `shuck_routes_resyncs_total`.
enum ResyncCause: String, CaseIterable, Sendable {
    /// Notices did not fit the socket's buffer.
    case lost
    /// A link or an address changed, with which routes come and go untold.
    case links
    case nexthops
    /// A notice does not fit the mirror.
    case unlike
}

/// What status and metrics say of the mirror.
struct RouteStatus: Sendable {
    var countIPv4 = 0
    var countIPv6 = 0
    var rules = 0
    /// Dumps after the first, by why they were needed.
    var resyncs = Dictionary(uniqueKeysWithValues: ResyncCause.allCases.map { ($0, UInt64(0)) })
    /// Changes of single routes that were followed.
    var changes: UInt64 = 0
    /// When the mirror last was what the kernel had, monotonic.
    var currentNanoseconds: UInt64 = 0
    /// Why a dump is pending: the mirror is not what the kernel has. nil: none is.
    var due: ResyncCause?
    /// Routes that are not understood, as notes for status.
    var notes: [String] = []

    /// Seconds since the mirror was known to be the kernel's; 0 while nothing says otherwise.
    var age: Double {
        due == nil ? 0 : Double(Host.monotonicNanoseconds() - currentNanoseconds) / 1e9
    }
}
