// systemd's notification protocol (sd_notify(3)): one datagram a change of state.

import Foundation
import Glibc
import LinuxIO

enum ServiceNotifier {
    /// Sends `READY=1` and the like; there is nothing to do when nobody listens. Never waits.
    /// - Returns: false when it was not taken.
    @discardableResult
    static func notify(_ lines: String...) -> Bool {
        guard let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"],
            path.hasPrefix("/") || path.hasPrefix("@")
        else { return true }
        let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { return false }
        defer { close(number) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        // A leading @ means the abstract namespace.
        if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
        let offset = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)!
        // Never to be taken.
        guard bytes.count < MemoryLayout<sockaddr_un>.size - offset else { return true }
        withUnsafeMutableBytes(of: &address) {
            for (index, byte) in bytes.enumerated() { $0[offset + index] = byte }
        }
        let message = Array(lines.joined(separator: "\n").utf8)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(
                    number, message, message.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT), $0,
                    socklen_t(offset + bytes.count))
            }
        } == message.count
    }

    /// `RELOADING=1` wants the time at which it began (`Type=notify-reload`).
    static func reloading() {
        notify("RELOADING=1", "MONOTONIC_USEC=\(Host.monotonicNanoseconds() / 1000)")
    }
}
