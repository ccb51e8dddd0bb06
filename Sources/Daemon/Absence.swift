// What could not be opened, why, and when it is tried again: each part of a plumbing by itself.

import Glibc
import LinuxIO

/// A part of a plumbing that is opened by itself.
enum Part: Hashable, Sendable {
    case interface(String)
    case device(String)
    case claims
    /// The program of one interface, where raw sockets stand in for it.
    case claim(String)
    case answers
    case replyTable

    var isInterface: Bool { if case .interface = self { true } else { false } }
}

/// Why a plumbing is made; it decides what becomes of a part that cannot be opened.
enum Occasion {
    /// Missing permission ends the start, for no retry mends it, and so does an interface that another
    /// shuck has. Other failures are tried again.
    case start
    /// A part that fails and was there before, or is new, refuses the configuration.
    case reload
    /// The host changed: what fails is tried again.
    case follow
}

/// Why a part is not there.
struct Absence: Sendable {
    let error: SystemError
    /// ifindex that stood under the name when it was tried; another one is tried at once.
    let index: Int32
    /// Attempts in a row that failed. 0: not tried, for what it needs is awaited.
    let failures: Int
    let notBeforeNanoseconds: UInt64

    var reason: String { "\(error)" }
    var isAwaited: Bool { failures == 0 }

    /// Of something that comes with a notice: a namespace.
    init(awaiting error: SystemError) {
        self.error = error
        index = 0
        failures = 0
        notBeforeNanoseconds = 0
    }

    init(_ error: SystemError, index: Int32, after old: Absence?, now: UInt64) {
        self.error = error
        self.index = index
        failures = (old?.failures ?? 0) + 1
        notBeforeNanoseconds = now + Backoff.nanoseconds(failures: failures)
    }
}

/// How long what failed is left alone.
enum Backoff {
    private static let first: UInt64 = 100_000_000
    private static let longest: UInt64 = 10_000_000_000

    /// Doubles with each failure in a row: 100 ms to 10 s.
    static func nanoseconds(failures: Int) -> UInt64 {
        // Seven doublings pass the longest.
        min(longest, first << UInt64(min(max(failures - 1, 0), 7)))
    }
}

extension Plumbing {
    /// Opens one part into the plumbing in the making, of which the receiver is the old one. A part that
    /// cannot be opened is absent there; the others go on.
    /// - Throws: what the occasion does not let pass.
    func attempt(
        _ part: Part, index: Int32 = 0, _ occasion: Occasion, into next: inout Plumbing,
        _ open: (inout Plumbing) throws(SystemError) -> Void
    ) throws(SystemError) {
        let (known, now) = (absences[part], Host.monotonicNanoseconds())
        if occasion == .follow, let known, known.index == index, now < known.notBeforeNanoseconds {
            next.absences[part] = known
            return
        }
        do throws(SystemError) {
            try open(&next)
        } catch {
            switch occasion {
            case .start where error.isPermission || part.isInterface && error.errno == EBUSY:
                throw error
            case .reload where known == nil: throw error
            default:
                let old = known?.index == index ? known : nil
                next.absences[part] = Absence(error, index: index, after: old, now: now)
            }
        }
    }

    /// Nothing that is there could be opened: the start ends with the reason.
    func refuseStartWithNothing(_ occasion: Occasion) throws(SystemError) {
        guard occasion == .start else { return }
        func failure(_ isOfKind: (Part) -> Bool) -> SystemError? {
            absences.first { isOfKind($0.key) && !$0.value.isAwaited }?.value.error
        }
        let device = failure { if case .device = $0 { true } else { false } }
        if let device, devices.isEmpty { throw device }
        let interface = failure { if case .interface = $0 { true } else { false } }
        if let interface, interfaces.isEmpty { throw interface }
    }

    /// When the next absent part is to be tried; nil: none is.
    var nextAttemptNanoseconds: UInt64? {
        absences.values.lazy.filter { !$0.isAwaited }.map(\.notBeforeNanoseconds).min()
    }
}
