// The client's end of the daemon's unix socket: one HTTP request and its answer per connection.

import ArgumentParser
import Foundation
import LinuxIO

struct AdminClient {
    static let defaultPath = "/run/shuck/shuck.sock"

    let socketPath: String

    /// Sends an HTTP/1.1 request and waits for the whole answer.
    /// - Parameter seconds: how long the daemon may take.
    func request(
        _ method: String, _ path: String, seconds: Int = 10
    ) throws -> (status: Int, body: String) {
        let connection = try ask(method, path, seconds: seconds)
        let (bytes, error) = readWhole(connection.number)
        switch error {
        case nil: return try parse(String(decoding: bytes, as: UTF8.self))
        case EAGAIN:
            throw Failure(message: "the shuck at \(socketPath) did not answer within \(seconds) s")
        case let error?: throw Failure(message: "\(socketPath): \(systemMessage(error))")
        }
    }

    /// Connects and sends a request.
    /// - Returns: the connection, from which the answer is to be read.
    func ask(_ method: String, _ path: String, seconds: Int) throws -> Descriptor {
        guard (1...107).contains(socketPath.utf8.count) else {
            throw ValidationError("--socket takes a path of 1 to 107 bytes")
        }
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw Failure(message: "socket: \(systemMessage())") }
        let connection = Descriptor(number)
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        // connect(2) waits by the limit for sending when the daemon's backlog is full.
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(number, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        guard UnixAddress(path: socketPath).with({ connect(number, $0, $1) }) == 0 else {
            throw refusal(errno)
        }
        let head = "\(method) \(path) HTTP/1.1\r\nHost: shuck\r\nConnection: close\r\n\r\n"
        if let error = writeWhole(Array(head.utf8), to: number).failure {
            throw Failure(message: "\(socketPath) takes no request: \(systemMessage(error))")
        }
        return connection
    }

    /// Why connect(2) failed.
    private func refusal(_ error: Int32) -> Failure {
        switch error {
        case ENOENT, ENOTDIR, ECONNREFUSED:
            Failure(
                code: .notHere, message: "no shuck serves \(socketPath): start it, or give --socket")
        case EACCES, EPERM:
            Failure(
                code: .notHere,
                message: "\(socketPath) may not be opened by this user: run as root, or see admin.group")
        default: Failure(message: "connect to \(socketPath): \(systemMessage(error))")
        }
    }

    /// The daemon always sends `Content-Length`: a body of another length was cut off.
    private func parse(_ text: String) throws(Failure) -> (status: Int, body: String) {
        let parts = text.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
        let lines = parts[0].split(separator: "\r\n")
        let words = lines.first?.split(separator: " ") ?? []
        let length = lines.lazy.map { $0.lowercased() }.first { $0.hasPrefix("content-length:") }
        guard parts.count == 2, words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
            length?.dropFirst(15).trimmingCharacters(in: .whitespaces) == "\(parts[1].utf8.count)"
        else { throw Failure(message: "what serves \(socketPath) does not answer as shuck does") }
        return (status, String(parts[1]))
    }

    /// Fetches a path that every running daemon of this version serves.
    func get(_ path: String) throws -> String {
        let answer = try request("GET", path)
        switch answer.status {
        case 200: return answer.body
        case 503: throw Failure(message: "the shuck at \(socketPath) is still starting")
        default:
            throw Failure(message: "the shuck at \(socketPath) has no \(path): it is another version")
        }
    }
}
