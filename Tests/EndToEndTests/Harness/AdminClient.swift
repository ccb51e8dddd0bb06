// Asks the daemon over its unix socket: one HTTP request a connection.

import Foundation
import Glibc

struct AdminAnswer {
    let status: Int
    let body: String
}

enum AdminClient {
    /// nil when nobody listens.
    static func ask(_ socketPath: String, _ method: String, _ path: String) -> AdminAnswer? {
        let stream = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(stream) }
        var patience = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(
            stream, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        guard connectTo(socketPath, stream) else { return nil }
        let request = Array("\(method) \(path) HTTP/1.1\r\nHost: shuck\r\n\r\n".utf8)
        guard send(stream, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            return nil
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = recv(stream, &chunk, chunk.count, 0)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return parse(String(decoding: bytes, as: UTF8.self))
    }

    private static func connectTo(_ path: String, _ stream: Int32) -> Bool {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            precondition(path.utf8.count < place.count)
            place.copyBytes(from: path.utf8)
        }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(stream, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
    }

    private static func parse(_ text: String) -> AdminAnswer? {
        guard let head = text.range(of: "\r\n\r\n"),
            let status = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { return nil }
        return AdminAnswer(status: status, body: String(text[head.upperBound...]))
    }
}
