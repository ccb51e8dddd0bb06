// The connection of a supervisor and its engine: messages with documents and descriptors. Documents go in
// pieces, for a file of their own needs a descriptor, of which there may be none.

import Foundation
import Glibc
import LinuxIO

/// One end. One thread at a time.
final class EngineLink {
    /// A message as it came.
    struct Heard<Message> {
        var message: Message
        /// Of the document; empty: there was none.
        var document: [UInt8]
        /// None when this process may not have as many as were sent.
        var descriptors: [Descriptor]
    }

    /// What comes before the pieces of a message.
    private struct Head: Codable {
        var message: Int
        var document: Int
        var descriptors: Int
    }

    /// Bytes of a piece: a socket's buffer holds several.
    private static let pieceBytes = 32 << 10
    /// Bytes of a message and its document, so that a confused peer costs no more than this.
    private static let bytesMax = 256 << 20
    private static let descriptorsMax = 1 << 20
    /// Errors that pass: the kernel had no memory, no room, or no patience.
    private static let passing = [ENOBUFS, ENOMEM, EAGAIN, EINTR, ETOOMANYREFS, EMFILE, ENFILE]
    private static let tries = 100

    private let socket: HandOverSocket
    /// How long the other end may take nothing before that is an error.
    private let patience: Int32
    /// Pieces that came while this end was sending.
    private var inbox: [HandOverSocket.Piece] = []
    private var isClosed = false

    /// - Parameter patience: milliseconds that the other end may take nothing while this one speaks.
    init(_ socket: HandOverSocket, patience: Int32) { (self.socket, self.patience) = (socket, patience) }

    var descriptor: Int32 { socket.descriptor.number }
    /// Something came that poll(2) does not tell of any more.
    var hasInbox: Bool { !inbox.isEmpty }

    /// The other end takes what it is told: most of the buffer is free.
    var isTaken: Bool {
        var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return poll(&polled, 1, 0) == 1 && polled.revents & Int16(POLLOUT) != 0
    }

    /// No more is said from here on; the other end hears it.
    func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    // MARK: saying

    /// Takes in meanwhile what the other end says, so that two that send wait for nobody.
    /// - Throws: when the other end takes nothing for too long.
    func say(
        _ message: some Encodable, document: (any Encodable)? = nil, descriptors: [Descriptor] = []
    ) throws {
        let encoder = JSONEncoder()
        let text = try [UInt8](encoder.encode(message))
        let rest = try document.map { try [UInt8](encoder.encode($0)) } ?? []
        let head = Head(message: text.count, document: rest.count, descriptors: descriptors.count)
        try send([UInt8](encoder.encode(head)), [])
        let whole = text + rest
        for start in stride(from: 0, to: whole.count, by: Self.pieceBytes) {
            try send(Array(whole[start...].prefix(Self.pieceBytes)), [])
        }
        let size = HandOverSocket.messageDescriptors
        for start in stride(from: 0, to: descriptors.count, by: size) {
            try send([0], descriptors[start...].prefix(size).map(\.number))
        }
    }

    private func send(_ piece: [UInt8], _ descriptors: [Int32]) throws {
        let deadline = Host.monotonicNanoseconds() + UInt64(patience) * 1_000_000
        var failures = 0
        while true {
            do throws(SystemError) {
                return try socket.send(piece, descriptors: descriptors, milliseconds: 0)
            } catch {
                let isFull = error.errno == ETIMEDOUT || error.errno == EAGAIN
                guard isFull || Self.passing.contains(error.errno),
                    isFull ? Host.monotonicNanoseconds() < deadline : failures < Self.tries
                else { throw error }
                failures += isFull ? 0 : 1
            }
            try takeIn()
            Host.pause(milliseconds: Timing.pauseMilliseconds)
        }
    }

    private func takeIn() throws {
        while !isClosed, Host.waitReadable([descriptor], milliseconds: 0)[0] {
            guard let piece = try nextPiece(milliseconds: 0) else {
                isClosed = true
                return
            }
            inbox.append(piece)
        }
    }

    // MARK: hearing

    /// The next message, whole.
    /// - Returns: nil when the other end is closed.
    /// - Throws: also when none comes in time.
    func hear<Message: Decodable>(
        _: Message.Type, milliseconds: Int32
    ) throws -> Heard<Message>? {
        guard let first = try piece(milliseconds: milliseconds) else { return nil }
        let head = try JSONDecoder().decode(Head.self, from: Data(first.bytes))
        guard (0...Self.bytesMax).contains(head.message), (0...Self.bytesMax).contains(head.document),
            (0...Self.descriptorsMax).contains(head.descriptors)
        else { throw Self.misunderstood }
        var bytes: [UInt8] = []
        while bytes.count < head.message + head.document {
            guard let next = try piece(milliseconds: Timing.handOverMilliseconds), !next.bytes.isEmpty else {
                throw Self.misunderstood
            }
            bytes += next.bytes
        }
        guard bytes.count == head.message + head.document else { throw Self.misunderstood }
        var descriptors: [Descriptor] = []
        let size = HandOverSocket.messageDescriptors
        for _ in stride(from: 0, to: head.descriptors, by: size) {
            guard let next = try piece(milliseconds: Timing.handOverMilliseconds) else {
                throw Self.misunderstood
            }
            descriptors += next.descriptors
        }
        let message = try JSONDecoder().decode(Message.self, from: Data(bytes[..<head.message]))
        return Heard(
            message: message, document: Array(bytes[head.message...]),
            // Which ones are missing nobody tells.
            descriptors: descriptors.count == head.descriptors ? descriptors : [])
    }

    private func piece(milliseconds: Int32) throws -> HandOverSocket.Piece? {
        if !inbox.isEmpty { return inbox.removeFirst() }
        return isClosed ? nil : try nextPiece(milliseconds: milliseconds)
    }

    private func nextPiece(milliseconds: Int32) throws -> HandOverSocket.Piece? {
        let deadline = Host.monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
        var failures = 0
        while true {
            do throws(SystemError) {
                return try socket.receivePiece(bytes: Self.pieceBytes, milliseconds: milliseconds)
            } catch {
                // poll(2) may fail before the time is over.
                let isEarly = error.errno == ETIMEDOUT && Host.monotonicNanoseconds() < deadline
                guard isEarly || Self.passing.contains(error.errno), failures < Self.tries else {
                    throw error
                }
            }
            failures += 1
            Host.pause(milliseconds: Timing.pauseMilliseconds)
        }
    }

    private static let misunderstood = HostProblem(
        description: "the other process does not speak as this one understands it")
}

extension EngineLink.Heard {
    func read<T: Decodable>(_: T.Type) throws -> T {
        try JSONDecoder().decode(T.self, from: Data(document))
    }
}
