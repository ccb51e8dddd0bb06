// A file descriptor that has an owner, and the options of sockets.

import Glibc

/// A descriptor that is closed when its owner goes.
public final class Descriptor: Sendable {
    public let number: Int32
    public init(_ number: Int32) { self.number = number }
    deinit { close(number) }

    /// fstat(2); nil where it fails.
    public var status: stat? {
        var status = stat()
        return fstat(number, &status) == 0 ? status : nil
    }
}

extension Descriptor {
    /// Sets a socket option from a plain value.
    func setOption<T: BitwiseCopyable>(
        _ level: Int32, _ name: Int32, _ value: T, _ operation: String, _ object: String
    ) throws(SystemError) {
        var value = value
        try check(operation, object) {
            setsockopt(number, level, name, &value, socklen_t(MemoryLayout<T>.size))
        }
    }

    /// A socket option; nil where the kernel does not tell.
    /// - Parameter value: of the option's type; the kernel overwrites it.
    func option<T: BitwiseCopyable>(_ level: Int32, _ name: Int32, _ value: T) -> T? {
        var (value, length) = (value, socklen_t(MemoryLayout<T>.size))
        return getsockopt(number, level, name, &value, &length) == 0 ? value : nil
    }
}
