// The other end of the daemon's unix socket: one request, one answer, and the connection is over.

import ArgumentParser
import Foundation

struct AdminClient {
    static let defaultPath = "/run/shuck/shuck.sock"

    let socketPath: String

    struct Answer {
        var status: Int
        var body: String
    }

    /// Sends an HTTP/1.1 request and waits for the whole answer.
    /// - Parameter seconds: how long the daemon may take.
    func request(_ method: String, _ path: String, seconds: Int = 10) throws -> Answer {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw Failure(message: "socket: \(systemMessage())") }
        defer { close(number) }
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(
                number, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        try connect(number)
        let head = "\(method) \(path) HTTP/1.1\r\nHost: shuck\r\nConnection: close\r\n\r\n"
        try send(Array(head.utf8), on: number)
        return try parse(try receive(from: number, seconds: seconds))
    }

    private func connect(_ number: Int32) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let isPath = withUnsafeMutableBytes(of: &address.sun_path) { room in
            guard (1..<room.count).contains(socketPath.utf8.count) else { return false }
            room.copyBytes(from: socketPath.utf8)
            return true
        }
        guard isPath else {
            throw ValidationError("--socket takes a path of 1 to 107 bytes")
        }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Foundation.connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result == 0 { return }
        switch errno {
        case ENOENT, ENOTDIR, ECONNREFUSED:
            throw Failure(
                code: .notHere,
                message: "no shuck serves \(socketPath): start it, or give --socket")
        case EACCES, EPERM:
            throw Failure(
                code: .notHere,
                message: "\(socketPath) may not be opened by this user: run as root, or see admin.group")
        default: throw Failure(message: "connect to \(socketPath): \(systemMessage())")
        }
    }

    private func send(_ bytes: [UInt8], on number: Int32) throws(Failure) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Foundation.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                throw Failure(message: "\(socketPath) takes no request: \(systemMessage())")
            }
            sent += count
        }
    }

    private func receive(from number: Int32, seconds: Int) throws(Failure) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(number, &chunk, chunk.count, 0)
            if count > 0 {
                bytes += chunk[..<count]
            } else if count == 0 {
                return bytes
            } else if errno == EAGAIN {
                throw Failure(
                    message: "the shuck at \(socketPath) did not answer within \(seconds) s")
            } else if errno != EINTR {
                throw Failure(message: "\(socketPath): \(systemMessage())")
            }
        }
    }

    /// The daemon always says `Content-Length`: an answer that was cut off is not taken for one.
    private func parse(_ bytes: [UInt8]) throws(Failure) -> Answer {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n") else { throw notAnAnswer }
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        let length = lines.lazy.compactMap { line -> Int? in
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "content-length" else { return nil }
            return Int(parts[1].trimmingCharacters(in: .whitespaces))
        }.first
        let body = String(text[end.upperBound...])
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
            length == body.utf8.count
        else { throw notAnAnswer }
        return Answer(status: status, body: body)
    }

    private var notAnAnswer: Failure {
        Failure(message: "what serves \(socketPath) does not answer as shuck does")
    }
}

extension AdminClient {
    /// Fetches what has to be there once the daemon runs.
    func get(_ path: String) throws -> String {
        let answer = try request("GET", path)
        switch answer.status {
        case 200: return answer.body
        case 503: throw Failure(message: "the shuck at \(socketPath) is still starting")
        default:
            throw Failure(
                message: "the shuck at \(socketPath) has no \(path): it is another version")
        }
    }
}
