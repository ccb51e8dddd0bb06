// The words of a hand-over on their connection.

import Foundation
import LinuxIO

/// One side speaks, then the other. `ask` and `ready` are the next process's words, `offer` and `go` the
/// running one's; either may refuse instead, and then all is as it was.
enum HandOverMessage: Codable {
    /// The next process wants to take over, and understands this format.
    case ask(format: Int, version: String, processID: Int32)
    /// A document (`HandOver`) comes with this message, and behind it so many descriptors.
    case offer(descriptors: Int)
    /// Some of them come with this message.
    case descriptors
    /// All is prepared: workers may change at their next batch border.
    case ready
    /// No worker runs here any more; a document (`HandOver.Rest`) comes with this message.
    case go
    /// The next process forwards.
    case forwarding
    /// The running one is to become the binary on disk; it answers with `prepared`, or refuses.
    case upgrade
    /// Another process is prepared, and takes over.
    case prepared
    case refuse(String)
}

extension HandOverSocket {
    /// - Parameter document: comes with the message, as the first of its descriptors.
    func say(_ message: HandOverMessage, document: (any Encodable)? = nil) throws {
        let file = try document.map { try Self.document([UInt8](JSONEncoder().encode($0))) }
        try send(
            [UInt8](JSONEncoder().encode(message)), descriptors: file.map { [$0.number] } ?? [],
            milliseconds: Timing.handOverMilliseconds)
    }

    func say(descriptors: [Int32]) throws {
        let message = try [UInt8](JSONEncoder().encode(HandOverMessage.descriptors))
        for start in stride(from: 0, to: descriptors.count, by: Self.messageDescriptors) {
            let part = descriptors[start...].prefix(Self.messageDescriptors)
            try send(message, descriptors: Array(part), milliseconds: Timing.handOverMilliseconds)
        }
    }

    func hear(
        milliseconds: Int32 = Timing.handOverMilliseconds
    ) throws -> (message: HandOverMessage, descriptors: [Descriptor])? {
        guard let (bytes, descriptors) = try receive(milliseconds: milliseconds) else { return nil }
        return (try JSONDecoder().decode(HandOverMessage.self, from: Data(bytes)), descriptors)
    }

    /// Takes the descriptors that `say(descriptors:)` sends behind a message.
    func hear(descriptors count: Int) throws -> [Descriptor] {
        var descriptors: [Descriptor] = []
        while descriptors.count < count {
            guard let (message, more) = try hear(), case .descriptors = message, !more.isEmpty else {
                throw HostProblem(description: "descriptors of a hand-over did not come")
            }
            descriptors += more
        }
        return descriptors
    }

    static func read<T: Decodable>(_: T.Type, from document: Descriptor?) throws -> T {
        guard let document else { throw HostProblem(description: "a hand-over came without its document") }
        return try JSONDecoder().decode(T.self, from: Data(text(of: document)))
    }
}
