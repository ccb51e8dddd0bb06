// What one shuck hands to the next, as values: what it holds, its configuration, and where its workers
// stopped.

import HostPlan
import LinuxIO

/// What the next process prepares itself with while this one forwards.
struct HandOver: Codable {
    /// Of messages, documents, the order of descriptors, and memory that outlives a process (`CounterBlock`,
    /// `RingPlace`, `FrameCopies`): raised when any of them changes.
    static let format = 3

    /// Where the next process asks for it, beside the admin socket.
    static func path(beside admin: String) -> String { admin + ".hand-over" }

    struct File: Codable, Equatable {
        var name: String
        var text: String
    }

    /// Something that is held, and how many of the descriptors are its.
    struct Piece: Codable {
        var resource: Resource
        var descriptors = 0
        /// Of a TUN device.
        var index: Int32?
        var offloads: TunDevice.Offloads?
        var refused: TunDevice.Offloads?
        /// Of a claim.
        var means: Claim.Means?
        var filterHandle: UInt32?
        /// Of sockets for ICMP errors: whether there is one for IPv4, when there is one at all.
        var hasIPv4: Bool?
    }

    var format = HandOver.format
    var processID: Int32
    var version: String
    /// The configuration in force, as it was read.
    var files: [File]
    /// What stands on another thing comes behind it.
    var held: [Piece]
    /// What is to be removed from the host and could not be yet.
    var surplus: [Piece]

    /// What changes until workers stop.
    struct Rest: Codable {
        var count: EngineCount
        var report: SupervisorReport
    }
}
