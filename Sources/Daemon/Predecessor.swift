// The running process that this one takes over from.

import Glibc
import HostPlan
import LinuxIO
import Settings

/// One thread only.
final class Predecessor {
    private let socket: HandOverSocket

    /// What it offered.
    struct Offer {
        let document: HandOver
        let lock: Descriptor
        let adminSocket: Descriptor
        let handOverListener: Descriptor
        /// Of the pieces, in their order.
        let descriptors: [Descriptor]

        /// - Parameter all: as `Control.description` has them.
        init(_ document: HandOver, _ all: [Descriptor]) throws {
            guard all.count >= 3 else {
                throw HostProblem(description: "a hand-over came without its descriptors")
            }
            self.document = document
            (lock, adminSocket, handOverListener) = (all[0], all[1], all[2])
            descriptors = Array(all[3...])
        }
    }

    init(_ socket: HandOverSocket) throws {
        self.socket = socket
        try socket.say(.ask(format: HandOver.format, version: Build.version, processID: getpid()))
    }

    /// - Throws: its reason when it refuses.
    func offer() throws -> Offer {
        let (message, attached) = try hear()
        guard case .offer(let count) = message else { throw Self.misunderstood }
        return try offer(count, document: attached.first)
    }

    private func offer(_ count: Int, document: Descriptor?) throws -> Offer {
        let document = try HandOverSocket.read(HandOver.self, from: document)
        return try Offer(document, socket.hear(descriptors: count))
    }

    /// Says that this process is prepared.
    /// - Returns: what its workers left; or another offer, because what it holds has changed.
    func ready() throws -> (rest: HandOver.Rest?, offer: Offer?) {
        try socket.say(.ready)
        let (message, attached) = try hear(milliseconds: Timing.takeOverMilliseconds)
        switch message {
        case .go: return (try HandOverSocket.read(HandOver.Rest.self, from: attached.first), nil)
        case .offer(let count): return (nil, try offer(count, document: attached.first))
        default: throw Self.misunderstood
        }
    }

    func sayForwarding() throws { try socket.say(.forwarding) }

    /// So that it says why it goes on.
    func refuse(_ reason: String) { try? socket.say(.refuse(reason)) }

    private func hear(
        milliseconds: Int32 = Timing.handOverMilliseconds
    ) throws -> (message: HandOverMessage, descriptors: [Descriptor]) {
        guard let heard = try socket.hear(milliseconds: milliseconds) else {
            throw HostProblem(description: "the running shuck has ended, or closed the hand-over")
        }
        if case .refuse(let reason) = heard.message {
            throw HostProblem(description: "the running shuck does not hand over: \(reason)")
        }
        return heard
    }

    private static let misunderstood = HostProblem(
        description: "the running shuck does not speak as this one understands it")
}
