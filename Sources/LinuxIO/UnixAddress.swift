// Addresses of unix sockets: by path, or by name in the abstract namespace of a network namespace.

import CLinux
import Glibc

public struct UnixAddress {
    private let bytes: [UInt8]

    /// - Parameter path: at most 107 bytes; a longer one is cut off.
    public init(path: String) { bytes = Array(path.utf8.prefix(107)) + [0] }

    /// - Parameter name: at most 107 bytes, without the NUL before it.
    public init(abstract name: String) { bytes = [0] + Array(name.utf8.prefix(107)) }

    /// Calls `body` with the address as system calls take it.
    public func with<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return Sockets.withAddress(address, byteCount: MemoryLayout<sa_family_t>.size + bytes.count, body)
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

    /// Who listens there now.
    public var listener: Listener { listener(of: .stream) }

    /// Who listens there now on a socket that keeps the borders of messages.
    public var packetListener: Listener { listener(of: .packets) }

    private func listener(of kind: Sockets.Kind) -> Listener {
        let number = Sockets.open(AF_UNIX, kind, isNonBlocking: true)
        guard number >= 0 else { return .unknown }
        let descriptor = Descriptor(number)
        if with({ connect(number, $0, $1) }) != 0 { return errno == EAGAIN ? .unknown : .none }
        // struct ucred: pid, uid, gid.
        let unknown: (pid: pid_t, uid: uid_t, gid: gid_t) = (0, 0, 0)
        return descriptor.option(SOL_SOCKET, SO_PEERCRED, unknown)
            .map { .peer(Peer(processID: $0.pid, user: $0.uid)) } ?? .unknown
    }
}
