// Wakes a thread that sleeps on descriptors.

import CLinux
import Glibc

/// An eventfd.
public final class Wakeup: Sendable {
    public let descriptor: Descriptor

    public init() throws(SystemError) {
        descriptor = Descriptor(
            try check("eventfd", "wakeup") { eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) })
    }

    public func signal() {
        var one: UInt64 = 1
        _ = write(descriptor.number, &one, 8)
    }

    /// Sleeps until it is signalled, and clears it.
    public func wait() {
        while !Host.waitReadable([descriptor.number], milliseconds: -1)[0] {}
        clear()
    }

    public func clear() {
        var value: UInt64 = 0
        _ = read(descriptor.number, &value, 8)
    }
}
