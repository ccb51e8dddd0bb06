// systemd's notification protocol (sd_notify(3)): one datagram a change of state.

import Foundation
import Glibc
import LinuxIO

enum ServiceNotifier {
    /// nil: nobody listens.
    private static var address: UnixAddress? {
        guard let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"],
            path.hasPrefix("/") || path.hasPrefix("@"), path.utf8.count < 108
        else { return nil }
        return path.hasPrefix("@")
            ? UnixAddress(abstract: String(path.dropFirst())) : UnixAddress(path: path)
    }

    /// Sends a message that must not be lost: waits a moment where the queue is full, which holds ten.
    /// - Returns: false with errno when it was not taken.
    @discardableResult
    static func tell(_ message: String, descriptor: Descriptor? = nil) -> Bool {
        guard let address else { return false }
        return HandOverSocket.send(
            Array(message.utf8), descriptors: descriptor.map { [$0.number] } ?? [], to: address)
    }

    /// Waits until all that was sent before has been dealt with (`BARRIER=1`, systemd 246).
    static func waitUntilDone() {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return }
        let reading = Descriptor(ends[0])
        do {
            let writing = Descriptor(ends[1])
            guard tell("BARRIER=1", descriptor: writing) else { return }
        }
        // The last one that holds the other end closes it.
        _ = Host.waitReadable([reading.number], milliseconds: Timing.barrierMilliseconds)
    }

    /// Sends `READY=1` and the like; there is nothing to do when nobody listens. Never waits.
    /// - Returns: false when it was not taken.
    @discardableResult
    static func notify(_ lines: String...) -> Bool {
        guard let address else { return true }
        let number = Sockets.open(AF_UNIX, .datagram)
        guard number >= 0 else { return false }
        defer { close(number) }
        let message = Array(lines.joined(separator: "\n").utf8)
        let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
        return address.with { sendto(number, message, message.count, flags, $0, $1) } == message.count
    }

    /// For `WatchdogSec=`, which must be at least twice `Timing.tickNanoseconds`; nothing without it.
    static func keepAlive() {
        let environment = ProcessInfo.processInfo.environment
        guard environment["WATCHDOG_USEC"] != nil,
            environment["WATCHDOG_PID"].map({ $0 == "\(getpid())" }) ?? true
        else { return }
        notify("WATCHDOG=1")
    }

    /// The start goes on: an interface may come later than `TimeoutStartSec=`.
    static let startsYet = "EXTEND_TIMEOUT_USEC=\(Timing.startExtensionMicroseconds)"

    /// `RELOADING=1` wants the time at which it began (`Type=notify-reload`).
    static func reloading() {
        notify("RELOADING=1", "MONOTONIC_USEC=\(Host.monotonicNanoseconds() / 1000)")
    }
}
