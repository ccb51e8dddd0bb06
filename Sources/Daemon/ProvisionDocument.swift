// A provision as it crosses from the supervisor to its engine: a document, and the descriptors of what the
// engine does not have yet.

import HostPlan
import LinuxIO
import Settings

/// What is handed over once is named by a number from then on.
struct ProvisionDocument: Codable {
    struct NewPart: Codable {
        var number: Int
        var piece: HandOver.Piece
    }

    /// Counted from 1: of each provision of one engine.
    var sequence: UInt64
    var cpus: [Int]
    /// nil: as before.
    var files: [HandOver.File]?
    /// What the engine has already.
    var known: [Int]
    /// In the order of their descriptors, which come first.
    var new: [NewPart]
    var absences: [Part: Absence] = [:]
    var socketInterfaces: [Int]
    /// By worker.
    var counters: [Int]
    var copies: [Int]
    /// Copies that the worker of a process before this one has left, by worker.
    var left: [Int]
    var adminSocket: Int?
    var adminPort: Int?
    /// Of notices, then of questions; empty: it has them.
    var netlink: [Int]
    /// Of the descriptors behind those of `new`.
    var newFiles: [Int]
    var report: SupervisorReport
    /// Where another engine stopped counting.
    var count: EngineCount?
}
