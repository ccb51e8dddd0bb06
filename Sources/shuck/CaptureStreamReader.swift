// Reads what /capture serves: an HTTP answer in chunks, and in it a pcapng file that grows.

import Daemon
import Foundation
import LinuxIO

/// A pcapng file block by block. Of the section's own byte order, which is this host's.
final class CaptureStreamReader {
    enum Ending { case interrupted, closed }

    private let connection: Descriptor
    private let interruption: Interruption
    private let socketPath: String
    /// What came and was not read as HTTP yet; what of its body was not given as blocks yet.
    private var received: [UInt8] = []
    private var content: [UInt8] = []
    /// Of `content`, what was given.
    private var given = 0
    /// Bytes of the chunk that are still to come; nil: a chunk's size line is.
    private var left: Int?
    private var isOver = false
    /// Why there is no next block.
    private(set) var ending = Ending.closed

    /// The daemon says something each second.
    private static let patience: Int32 = 10_000

    /// - Throws: when the daemon refuses.
    init(_ client: AdminClient, _ path: String, _ interruption: Interruption) throws {
        self.interruption = interruption
        socketPath = client.socketPath
        connection = try client.ask("GET", path, seconds: 10)
        let end: [UInt8] = Array("\r\n\r\n".utf8)
        while received.firstRange(of: end) == nil {
            guard try receive() else {
                throw Failure(message: "the shuck at \(socketPath) ended before it answered")
            }
        }
        let head = received.firstRange(of: end)!
        let text = String(decoding: received[..<head.lowerBound], as: UTF8.self)
        received.removeFirst(head.upperBound)
        let words = text.split(separator: "\r\n").first?.split(separator: " ") ?? []
        guard words.count >= 2, let status = Int(words[1]) else {
            throw Failure(message: "what serves \(socketPath) does not answer as shuck does")
        }
        guard status != 200 else { return }
        while try receive() {}
        let answer = String(decoding: received, as: UTF8.self).split(separator: "\n").first.map(String.init)
        throw Failure(
            code: status == 403 ? .notHere : .badAnswer,
            message: status == 404
                ? "the shuck at \(socketPath) has no /capture: it is another version"
                : answer ?? "the shuck at \(socketPath) refuses (\(status))")
    }

    /// - Returns: false: nothing more comes.
    private func receive() throws -> Bool {
        let ready = Host.waitReadable(
            [connection.number, interruption.descriptor.number], milliseconds: Self.patience)
        if interruption.isRaised {
            ending = .interrupted
            return false
        }
        guard ready[0] else {
            throw Failure(message: "the shuck at \(socketPath) has said nothing for 10 s")
        }
        var bytes = [UInt8](repeating: 0, count: 256 << 10)
        let count = read(connection.number, &bytes, bytes.count)
        if count < 0 && errno == EINTR { return true }
        guard count > 0 else { return false }
        received += bytes[..<count]
        return true
    }

    /// Moves what is there of chunks (RFC 9112 §7.1) from `received` to `content`.
    private func dechunk() {
        var start = 0
        while start < received.count, !isOver {
            if let size = left {
                let count = min(size, received.count - start)
                content += received[start..<start + count]
                start += count
                left = count == size ? nil : size - count
                continue
            }
            guard let end = received[start...].firstIndex(of: 10) else { break }
            let line = String(decoding: received[start..<end], as: UTF8.self)
                .trimmingCharacters(in: .whitespaces.union(.newlines))
            start = end + 1
            // The line behind a chunk is empty.
            if line.isEmpty { continue }
            guard let size = Int(line, radix: 16), size > 0 else {
                isOver = true
                break
            }
            left = size
        }
        received.removeFirst(start)
    }

    /// The next block, whole; nil when the daemon or the user ended it.
    func next() throws -> [UInt8]? {
        while true {
            if content.count - given >= 12 {
                let length = Int(word(content, given + 4))
                guard length >= 12, length % 4 == 0, length <= 1 << 20 else {
                    throw Failure(message: "what serves \(socketPath) does not answer as shuck does")
                }
                if content.count - given >= length {
                    given += length
                    return Array(content[given - length..<given])
                }
            }
            content.removeFirst(given)
            given = 0
            if isOver { return nil }
            if received.isEmpty || !hasChunk {
                guard try receive() else { return nil }
            }
            dechunk()
        }
    }

    private var hasChunk: Bool { left != nil || received.contains(10) }
}

/// Four bytes of a block, little-endian.
func word(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
}
