// What the service manager and the log are told: what is, and when it changes.

import Foundation
import Glibc
import Testing

/// A service manager's end of sd_notify(3).
private final class Notifications {
    let path: String
    private let stream: Int32

    init(_ rig: Rig) throws {
        path = rig.directory + "/notify"
        stream = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            precondition(path.utf8.count < place.count)
            place.copyBytes(from: path.utf8)
        }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(stream, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw Failure("bind \(path): \(errno)") }
    }

    deinit { close(stream) }

    /// Lines that came since the last look.
    func lines() -> [String] {
        var lines: [String] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(stream, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return lines }
            lines += String(decoding: buffer[..<count], as: UTF8.self)
                .split(separator: "\n").map(String.init)
        }
    }

    /// Waits for a line: all that came up to it.
    @discardableResult
    func wait(for line: String) throws -> [String] {
        var seen: [String] = []
        try eventually("\(line) after \(seen)") {
            seen += lines()
            return seen.contains(line)
        }
        return seen
    }
}

extension EndToEnd {
    @Suite struct ServiceTests {
        /// READY comes when it forwards; until then the start goes on, however long systemd lets one take.
        @Test func itIsReadyWhenItForwardsAndSaysWhatItWaitsFor() throws {
            try Rig.with { rig in
                let manager = try Notifications(rig)
                try rig.run(.node, "ip", "link", "delete", "eth0")
                let daemon = try Daemon(rig, wrapper: ["env", "NOTIFY_SOCKET=\(manager.path)"])
                let waiting = "STATUS=waiting: interface eth0 is absent"
                var seen = try manager.wait(for: waiting)
                #expect(!daemon.isReady)
                #expect(try daemon.reload().status == 200)
                for _ in 0..<2 { seen += try manager.wait(for: "EXTEND_TIMEOUT_USEC=10000000") }
                #expect(!seen.contains("READY=1") && !seen.contains("RELOADING=1"), "\(seen)")
                try rig.makeNodeLink()
                #expect(try manager.wait(for: "STATUS=forwarding").contains("READY=1"))
                #expect(daemon.isReady)
                // And each time again.
                _ = manager.lines()
                for state in ["down", "up"] {
                    try rig.run(.node, "ip", "link", "set", "eth0", state)
                    try manager.wait(
                        for: state == "up"
                            ? "STATUS=forwarding"
                            : "STATUS=waiting: interface eth0 is down: ip link set eth0 up")
                }
                try eventually("the same as the log's last line") {
                    daemon.process.errors.split(separator: "\n").last?.contains("forwarding") == true
                }
                #expect(try daemon.reload().status == 200)
                let reload = try manager.wait(for: "READY=1")
                #expect(reload.contains("RELOADING=1"), "\(reload)")
                _ = try daemon.stop()
                try manager.wait(for: "STOPPING=1")
            }
        }

        /// systemd restarts what does not tell of itself in time.
        @Test func theWatchdogHearsOfWorkersThatGoOn() throws {
            try Rig.with { rig in
                let manager = try Notifications(rig)
                let daemon = try Daemon(
                    rig, Setup(workers: 2),
                    wrapper: ["env", "NOTIFY_SOCKET=\(manager.path)", "WATCHDOG_USEC=2000000"])
                try daemon.waitUntilReady()
                for _ in 0..<3 { try manager.wait(for: "WATCHDOG=1") }
                let held = try HeldThread(rig, of: daemon.status().engineProcessID, name: "shuck-worker-1")
                try eventually("its mention", 10) {
                    AdminClient.ask(daemon.socket, "GET", "/healthz")?.status == 503
                }
                usleep(1_000_000)
                _ = manager.lines()
                usleep(1_500_000)
                #expect(!manager.lines().contains("WATCHDOG=1"))
                held.release()
                try manager.wait(for: "WATCHDOG=1")
                #expect(try daemon.stop().status == 0)
                // Nobody asked, or asked another process.
                for variables in [[], ["WATCHDOG_USEC=2000000", "WATCHDOG_PID=1"]] {
                    let silent = try Daemon(
                        rig, wrapper: ["env", "NOTIFY_SOCKET=\(manager.path)"] + variables)
                    try silent.waitUntilReady()
                    _ = manager.lines()
                    usleep(1_500_000)
                    #expect(!manager.lines().contains("WATCHDOG=1"))
                    #expect(try silent.stop().status == 0)
                }
            }
        }

        @Test func aDeletedDeviceThatIsMadeAgainIsSaid() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try rig.run(.node, "ip", "link", "delete", "shuck0")
                try daemon.waitForLine(containing: "device shuck0 was deleted; shuck has made it again")
            }
        }

        @Test func whatNeedsARestartIsNamed() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                try daemon.configure(Setup(workers: 2))
                let answer = try daemon.reload()
                #expect(answer.status == 409)
                #expect(answer.body.hasPrefix("workers.cpus: "), "\(answer.body)")
                #expect(answer.body.contains("systemctl restart shuck"))
                let shown = try rig.attempt(
                    .node,
                    [
                        Tools.shuck, "check", "--diff", "--config", daemon.configurationPath,
                        "--socket", daemon.socket,
                    ])
                #expect(shown.output.contains("(needs a restart)"), "\(shown)")
            }
        }
    }
}
