// A system call that failed, said once and loudly: operation, object, errno, and the hint.

import CLinux
import Glibc

public struct SystemError: Error, CustomStringConvertible, Sendable {
    /// As the manual names it: `setsockopt(PACKET_RX_RING)`.
    public let operation: String
    /// What it was done to: an interface, a path.
    public let object: String
    public let errno: Int32
    /// One sentence that says what to do; nil when there is nothing better than the error.
    public let hint: String?

    public init(_ operation: String, _ object: String, errno: Int32, hint: String? = nil) {
        self.operation = operation
        self.object = object
        self.errno = errno
        // Whatever the call needs beside: there were no descriptors left for it.
        self.hint = Self.limit(errno) ?? hint
    }

    private static func limit(_ error: Int32) -> String? {
        switch error {
        case EMFILE: "raise the limit of open files: ulimit -n 65536, or LimitNOFILE= in the unit"
        case ENFILE: "raise the host's limit of open files: sysctl -w fs.file-max=1000000"
        default: nil
        }
    }

    public var description: String {
        let cause = String(cString: strerror(errno))
        return "\(operation) on \(object): \(cause)" + (hint.map { "; \($0)" } ?? "")
    }

    /// The host has too little of something now; the same request may succeed later.
    public var mayPass: Bool {
        [EMFILE, ENFILE, ENOMEM, ENOBUFS, EAGAIN].contains(errno)
    }

    /// Missing permission rather than a wrong request.
    public var isPermission: Bool { errno == EPERM || errno == EACCES }
}

/// Runs a call that answers -1 and sets errno; retries when a signal interrupted it.
/// - Parameters:
///   - hint: what to do about any error.
///   - grant: what to do where permission is missing.
@discardableResult
func check(
    _ operation: String, _ object: String, hint: String? = nil, grant: String? = nil,
    _ call: () -> Int32
) throws(SystemError) -> Int32 {
    while true {
        let result = call()
        if result >= 0 { return result }
        if errno != EINTR { throw failed(operation, object, hint, grant, errno) }
    }
}

/// Turns the `-errno` convention of liburing and the shims into an error.
@discardableResult
func checkNegative(
    _ operation: String, _ object: String, hint: String? = nil, grant: String? = nil,
    _ result: Int32
) throws(SystemError) -> Int32 {
    if result >= 0 { return result }
    throw failed(operation, object, hint, grant, -result)
}

private func failed(
    _ operation: String, _ object: String, _ hint: String?, _ grant: String?, _ error: Int32
) -> SystemError {
    let isPermission = error == EPERM || error == EACCES
    return SystemError(
        operation, object, errno: error,
        hint: (isPermission ? grant : nil) ?? hint ?? usualHint(error))
}

private func usualHint(_ error: Int32) -> String? {
    switch error {
    case EPERM, EACCES:
        "run as root, or grant CAP_NET_ADMIN and CAP_NET_RAW"
    case ENOMEM: "free memory, or raise the cgroup's memory.max"
    default: nil
    }
}
