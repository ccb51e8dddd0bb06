// SignalQueue, which turns signals into something to read.

import CLinux
import Glibc

/// Signals as a readable descriptor. Blocks them: make it before any other thread exists.
public final class SignalQueue: Sendable {
    public let descriptor: Descriptor

    public init(_ signals: [Int32]) throws(SystemError) {
        descriptor = Descriptor(
            try checkNegative(
                "signalfd", "signals", clinux_signalfd(signals, Int32(signals.count))))
    }

    /// Waits for one signal: its number.
    public func next() -> Int32 {
        var information = signalfd_siginfo()
        while read(descriptor.number, &information, MemoryLayout<signalfd_siginfo>.size) < 0 {}
        return Int32(information.ssi_signo)
    }
}
