// The TCP port of the admin endpoint (`admin.listen`): opened by the supervisor, for a port below 1024 needs
// a privilege; the engine answers there.

import Glibc
import LinuxIO
import Settings

enum AdminListener {
    private static let backlog: Int32 = 128

    /// Bound and listening.
    /// - Throws: what `admin.listen` cannot be, and what to write.
    static func open(_ listen: Configuration.Listen) throws -> Descriptor {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(listen.host, "\(listen.port)", &hints, &found) == 0, let first = found else {
            throw problem(
                listen, "the name \(listen.host) leads to no address: write an address of this host")
        }
        defer { freeaddrinfo(first) }
        let number = Sockets.open(first.pointee.ai_family, .stream, isNonBlocking: true)
        guard number >= 0 else { throw problem(listen, cause(errno, listen)) }
        let descriptor = Descriptor(number)
        var isReused: Int32 = 1
        setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &isReused, socklen_t(4))
        guard bind(number, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0,
            Glibc.listen(number, backlog) == 0
        else { throw problem(listen, cause(errno, listen)) }
        return descriptor
    }

    private static func problem(_ listen: Configuration.Listen, _ cause: String) -> HostProblem {
        HostProblem(description: "admin.listen \(listen.text): \(cause)")
    }

    private static func cause(_ number: Int32, _ listen: Configuration.Listen) -> String {
        let cause = String(cString: strerror(number))
        return switch number {
        case EADDRINUSE:
            """
            \(cause): choose another port, or stop what listens there (ss -ltnp 'sport = \
            :\(listen.port)')
            """
        case EADDRNOTAVAIL: "\(cause): no interface of this host has it (ip address)"
        case EACCES: "\(cause): choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
        default: "\(cause): choose another address"
        }
    }
}
