// Addresses of unix sockets: by path, or by name in the abstract namespace of a network namespace.

import CLinux
import Glibc

public enum UnixAddress {
    /// - Parameter path: at most 107 bytes; a longer one is cut off.
    public static func with<R>(
        path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        with(Array(path.utf8.prefix(107)) + [0], body)
    }

    /// - Parameter abstract: at most 107 bytes, without the NUL before it.
    public static func with<R>(
        abstract name: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        with([0] + Array(name.utf8.prefix(107)), body)
    }

    private static func with<R>(
        _ bytes: [UInt8], _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }

    /// Who listens at an address, as the kernel tells: pid 0 is one of a pid namespace that is not seen
    /// from here.
    public struct Peer: Sendable, Equatable {
        public let processID: pid_t
        public let user: uid_t
    }

    public enum Listener: Sendable, Equatable {
        case none
        case peer(Peer)
        /// Somebody, with more connections waiting than they take.
        case unknown
    }

    public static func listener(path: String) -> Listener {
        listener { number in with(path: path) { connect(number, $0, $1) } }
    }

    public static func listener(abstract name: String) -> Listener {
        listener { number in with(abstract: name) { connect(number, $0, $1) } }
    }

    private static func listener(_ connect: (Int32) -> Int32) -> Listener {
        let number = socket(
            AF_UNIX,
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
                | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard number >= 0 else { return .unknown }
        defer { close(number) }
        if connect(number) != 0 { return errno == EAGAIN ? .unknown : .none }
        // struct ucred: pid, uid, gid.
        var credentials: (pid: pid_t, uid: uid_t, gid: gid_t) = (0, 0, 0)
        var length = socklen_t(MemoryLayout.size(ofValue: credentials))
        guard getsockopt(number, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 else {
            return .unknown
        }
        return .peer(Peer(processID: credentials.pid, user: credentials.uid))
    }
}
