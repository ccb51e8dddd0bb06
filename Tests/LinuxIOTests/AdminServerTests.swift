// The admin endpoint over real sockets: who may ask what, and what its connections may cost; and the
// files that it makes.

import Foundation
import Glibc
import NIOCore
import Testing

@testable import Daemon
@testable import LinuxIO
@testable import Settings

@Suite("Admin endpoint")
struct AdminServerTests {
    /// A directory of its own, gone with the instance.
    private final class Place {
        let path = NSTemporaryDirectory() + "shuck-admin-\(UUID().uuidString.prefix(8))"
        var socket: String { path + "/s.sock" }
        var lock: String { socket + ".lock" }

        init() { mkdir(path, 0o755) }
        deinit { try? FileManager.default.removeItem(atPath: path) }

        func mode(_ file: String) -> mode_t {
            var status = stat()
            return lstat(file, &status) == 0 ? status.st_mode & 0o7777 : 0
        }

        func admin(_ set: (inout Configuration.Admin) -> Void = { _ in }) -> Configuration.Admin {
            var admin = Configuration.Admin()
            admin.socket = socket
            set(&admin)
            return admin
        }
    }

    private func withServer(
        bounds: AdminServer.Bounds = .init(), showsStatus: Bool = false,
        _ body: (Place, UInt16, AdminState) throws -> Void
    ) throws {
        let place = Place()
        let state = try AdminState()
        let admin = place.admin {
            $0.listen = .init(host: "127.0.0.1", port: 0)
            $0.listenStatus = showsStatus
        }
        let socket = try AdminSocket(admin)
        let server = try AdminServer(
            admin, state: state, socket: socket.descriptor,
            port: try admin.listen.map { try AdminListener.open($0) }, bounds: bounds)
        defer {
            server.stop()
            socket.remove()
        }
        try body(place, UInt16(try #require(server.channels[1].localAddress?.port)), state)
    }

    private func connectTCP(_ port: UInt16) throws -> Descriptor {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0)
        return Descriptor(number)
    }

    private func connectUnix(_ path: String) throws -> Descriptor {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        try #require(UnixAddress(path: path).with { connect(number, $0, $1) } == 0)
        return Descriptor(number)
    }

    /// Sends text and reads to the end of the connection, for half a minute at most.
    private func answer(_ text: String, on connection: Descriptor) -> String {
        var limit = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(
            connection.number, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let bytes = Array(text.utf8)
        send(connection.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(connection.number, &chunk, chunk.count, 0)
            guard count > 0 else {
                return String(decoding: answer, as: UTF8.self) + (count < 0 && errno == EAGAIN ? "open" : "")
            }
            answer += chunk[..<count]
        }
    }

    private func status(_ answer: String) -> Int? {
        answer.split(separator: " ").dropFirst().first.flatMap { Int($0) }
    }

    private func request(_ method: String, _ path: String, _ more: String = "Host: x\r\n") -> String {
        "\(method) \(path) HTTP/1.1\r\n\(more)\r\n"
    }

    // MARK: who may ask what

    @Test("TCP serves metrics and health alone; the unix socket everything")
    func access() throws {
        try withServer { place, port, state in
            // 503: it is served, and there is no daemon behind it.
            for (method, path, code) in [
                ("GET", "/metrics", 503), ("GET", "/healthz", 503), ("GET", "/readyz", 503),
                ("GET", "/status", 403), ("GET", "/config", 403), ("GET", "/why?source=::1", 403),
                ("POST", "/reload", 403), ("GET", "/reload", 403), ("GET", "/", 403),
                ("GET", "//metrics", 403), ("GET", "/metrics/../config", 403),
                ("POST", "/metrics", 405), ("DELETE", "/readyz", 405), ("HEAD", "/healthz", 405),
            ] {
                let got = answer(request(method, path), on: try connectTCP(port))
                #expect(status(got) == code, "\(method) \(path): \(got)")
            }
            for path in ["/metrics", "/status", "/config"] {
                let got = answer(request("GET", path), on: try connectUnix(place.socket))
                #expect(status(got) == 503, "\(path): \(got)")
            }
            #expect(state.takeRequests().isEmpty)
        }
    }

    @Test("listenStatus serves /status on TCP, to an address or the configured name alone")
    func listenStatus() throws {
        try withServer(showsStatus: true) { _, port, _ in
            for (host, code) in [
                ("127.0.0.1:\(port)", 503), ("localhost:\(port)", 503), ("[::1]:\(port)", 503),
                ("192.0.2.2", 503), ("evil.example", 403), ("evil.example:\(port)", 403), ("", 403),
            ] {
                let connection = try connectTCP(port)
                let got = answer(request("GET", "/status", "Host: \(host)\r\n"), on: connection)
                #expect(status(got) == code, "\(host): \(got)")
            }
            let got = answer(request("POST", "/reload"), on: try connectTCP(port))
            #expect(status(got) == 403)
        }
    }

    @Test("a web page can ask nothing, on no listener")
    func webPages() throws {
        try withServer { place, port, state in
            let headers = "Host: x\r\nOrigin: http://evil.example\r\n"
            for (method, path) in [("GET", "/metrics"), ("POST", "/reload"), ("POST", "/metrics")] {
                for connection in [try connectTCP(port), try connectUnix(place.socket)] {
                    let got = answer(request(method, path, headers), on: connection)
                    #expect(status(got) == 403, "\(method) \(path): \(got)")
                }
            }
            #expect(state.takeRequests().isEmpty)
        }
    }

    // MARK: what connections may cost

    @Test("idle connections on TCP keep nobody from an answer, and are few at a time")
    func idleConnections() throws {
        try withServer { place, port, _ in
            let before = Host.processUsage().descriptors
            let idle = try (0..<400).map { _ in try connectTCP(port) }
            #expect(status(answer(request("GET", "/readyz"), on: try connectTCP(port))) == 503)
            #expect(
                status(answer(request("GET", "/readyz"), on: try connectUnix(place.socket))) == 503)
            // 400 of this side; of the server's, tests of other suites aside, 64 and some to be closed.
            try Network.eventually("the server's descriptors") {
                Host.processUsage().descriptors - before - idle.count < 150
            }
        }
    }

    @Test("a request that does not come, or does not end, ends the connection")
    func slowRequests() throws {
        try withServer(bounds: .init(request: .milliseconds(100))) { place, port, _ in
            for text in ["", "GET /me", "GET /metrics HTTP/1.1\r\nHost: x\r\n"] {
                for connection in [try connectTCP(port), try connectUnix(place.socket)] {
                    #expect(answer(text, on: connection) == "")
                }
            }
        }
    }

    @Test("a request of more than 16 KiB is refused")
    func largeRequests() throws {
        try withServer { _, port, _ in
            let long = String(repeating: "a", count: 20_000)
            for text in [
                request("GET", "/" + long), request("GET", "/metrics", "X: \(long)\r\n"),
                request("POST", "/metrics", "Host: x\r\nContent-Length: 30000000\r\n") + long,
            ] {
                let got = answer(text, on: try connectTCP(port))
                // Bytes that nobody reads may make the kernel reset the connection.
                #expect([413, nil].contains(status(got)), "\(got)")
                #expect(!got.hasSuffix("open"))
            }
        }
    }

    @Test("a request of 16 KiB is answered, and one byte more is not")
    func longestRequest() throws {
        let bounds = AdminServer.Bounds()
        try withServer(bounds: bounds) { _, port, _ in
            for (count, code) in [(bounds.bytes, 503), (bounds.bytes + 1, 413)] {
                // 503: nothing runs yet. Many fields: the parser bounds what one may take.
                var text = "GET /metrics HTTP/1.1\r\nHost: x\r\n"
                while text.utf8.count + 200 < count {
                    text += "X: " + String(repeating: "a", count: 80) + "\r\n"
                }
                text += "X: " + String(repeating: "a", count: count - text.utf8.count - 7) + "\r\n\r\n"
                #expect(text.utf8.count == count)
                let got = answer(text, on: try connectTCP(port))
                #expect(status(got) == code, "\(count): \(got.prefix(100))")
            }
        }
    }

    @Test("a reload may take longer than a request")
    func slowReload() throws {
        try withServer(bounds: .init(request: .milliseconds(50), answer: .milliseconds(50))) {
            place, _, state in
            let connection = try connectUnix(place.socket)
            let bytes = Array(request("POST", "/reload").utf8)
            send(connection.number, bytes, bytes.count, 0)
            var asked: [AdminState.Request] = []
            try Network.eventually("the reload to be asked for") {
                asked += state.takeRequests()
                return !asked.isEmpty
            }
            usleep(200_000)
            for case .reload(let promise) in asked {
                promise.succeed(ReloadOutcome(isApplied: true, lines: []))
            }
            #expect(status(answer("", on: connection)) == 200)
        }
    }

    @Test("a client that does not take its answer loses it")
    func slowReaders() throws {
        try withServer(bounds: .init(answer: .milliseconds(100))) { place, _, state in
            let connection = try connectUnix(place.socket)
            let bytes = Array(request("POST", "/reload").utf8)
            send(connection.number, bytes, bytes.count, 0)
            var asked: [AdminState.Request] = []
            try Network.eventually("the reload to be asked for") {
                asked += state.takeRequests()
                return !asked.isEmpty
            }
            let long = String(repeating: "x", count: 32 << 20)
            for case .reload(let promise) in asked {
                promise.succeed(ReloadOutcome(isApplied: true, lines: [long]))
            }
            // More than the sockets hold, and nobody reads: hung up.
            try Network.eventually("the end of the connection") {
                var polled = pollfd(fd: connection.number, events: 0, revents: 0)
                return poll(&polled, 1, 10) == 1 && polled.revents & Int16(POLLHUP) != 0
            }
            #expect(answer("", on: connection).utf8.count < long.utf8.count)
        }
    }

    @Test("a port that is taken is said in words, with what to type")
    func takenPort() throws {
        try withServer { _, port, _ in
            do {
                _ = try AdminListener.open(.init(host: "127.0.0.1", port: port))
                Issue.record("two listen on one port")
            } catch {
                #expect(
                    "\(error)"
                        == "admin.listen 127.0.0.1:\(port): Address already in use: choose another port, "
                        + "or stop what listens there (ss -ltnp 'sport = :\(port)')")
            }
        }
    }

    // MARK: files

    @Test("the socket has the mode and group asked for, whatever the umask, and its directory 0750")
    func modes() throws {
        let place = Place()
        let new = place.path + "/run"
        for mask: mode_t in [0, 0o022, 0o777] {
            let before = umask(mask)
            defer { umask(before) }
            for (mode, group) in [(UInt32(0o600), nil), (0o660, "4711")] {
                let admin = place.admin {
                    $0.socket = new + "/s.sock"
                    $0.mode = mode
                    $0.group = group
                }
                if mask != 0o777 {
                    let lock = try InstanceLock(admin)
                    #expect(place.mode(admin.socket + ".lock") == 0o600 & ~mask)
                    #expect(place.mode(new) == 0o750 & ~mask)
                    withExtendedLifetime(lock) {}
                }
                let socket = try AdminSocket(admin)
                defer {
                    socket.remove()
                    unlink(admin.socket + ".lock")
                }
                #expect(place.mode(admin.socket) == mode_t(mode))
                var status = stat()
                #expect(lstat(admin.socket, &status) == 0)
                #expect(status.st_gid == group.flatMap { gid_t($0) } ?? getegid())
            }
        }
    }

    @Test("nothing but a socket is replaced, and no symbolic link is followed")
    func whatIsThere() throws {
        func refusal(_ body: (Place) throws -> Void) -> String {
            let place = Place()
            do {
                try body(place)
                _ = try InstanceLock(place.admin())
                return "none"
            } catch {
                return "\(error)".replacing(place.path, with: "")
            }
        }
        let file = { (path: String) in close(open(path, O_WRONLY | O_CREAT, 0o600)) }
        #expect(refusal { _ = file($0.socket) }.hasPrefix("admin.socket /s.sock is a regular file,"))
        #expect(
            refusal { symlink("/dev/null", $0.socket) }.hasPrefix(
                "admin.socket /s.sock is a symbolic link,"))
        #expect(refusal { mkdir($0.socket, 0o755) }.hasPrefix("admin.socket /s.sock is a directory,"))
        #expect(
            refusal {
                _ = file($0.path + "/victim")
                symlink($0.path + "/victim", $0.lock)
            }.hasPrefix("/s.sock.lock is a symbolic link, which shuck does not follow: remove it"))
        #expect(refusal { mkfifo($0.lock, 0o600) }.hasPrefix("/s.sock.lock is no regular file"))
        if geteuid() == 0 {
            #expect(
                refusal {
                    _ = file($0.lock)
                    chown($0.lock, 4711, 4711)
                }.hasPrefix("/s.sock.lock belongs to user 4711"))
        }
    }

    @Test("a lock that others could open keeps nobody out; one of a shuck's does, and is named")
    func locks() throws {
        let place = Place()
        // As an earlier version left it, and held by whoever could read it.
        let loose = Descriptor(open(place.lock, O_RDWR | O_CREAT, 0o644))
        try #require(flock(loose.number, LOCK_EX | LOCK_NB) == 0)
        let lock = try InstanceLock(place.admin())
        #expect(place.mode(place.lock) == 0o600)
        let name = "process \(getpid())"
        #expect {
            _ = try InstanceLock(place.admin())
        } throws: {
            "\($0)".contains("is locked by \(name), which serves no \(place.socket) yet")
        }
        let socket = try AdminSocket(place.admin())
        let server = try AdminServer(place.admin(), state: AdminState(), socket: socket.descriptor)
        #expect {
            _ = try InstanceLock(place.admin())
        } throws: {
            "\($0)".contains("another shuck, \(name), serves \(place.socket): stop it (kill \(getpid()))")
        }
        // A loose lock of one that serves is an earlier version's: it keeps a second one out.
        chmod(place.lock, 0o644)
        #expect {
            _ = try InstanceLock(place.admin())
        } throws: {
            "\($0)".contains("another shuck, \(name), serves \(place.socket): stop it (kill \(getpid()))")
        }
        server.stop()
        socket.remove()
        #expect(Glibc.access(place.socket, F_OK) != 0)
        withExtendedLifetime((lock, loose)) {}
    }
}
