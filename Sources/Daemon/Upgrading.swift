// Part of Control (Supervisor.swift): the running daemon becomes the binary now on disk. Another process of
// that binary takes over, this one executes the same binary in its own place, and takes over from it: packets
// are forwarded all the time, and the process id stays.

import LinuxIO

/// Whoever asked for an upgrade hears once what becomes of it.
struct UpgradeRequest {
    /// nil: nobody waits, as after a signal.
    let socket: HandOverSocket?

    /// The other process is prepared.
    func succeed() { try? socket?.say(.prepared) }
    func fail(_ reason: String) { try? socket?.say(.refuse(reason)) }
}

extension Control {
    /// Starts the binary on disk, which then asks for what is here.
    /// - Parameter socket: of whoever waits; nil: nobody does.
    func upgrade(for socket: HandOverSocket?) {
        let request = UpgradeRequest(socket: socket)
        guard successor == nil else {
            return request.fail("another process is about to take over")
        }
        do {
            let program = try Program.path()
            let (here, there) = try HandOverSocket.pair()
            // systemd listens to the main process alone, which stays this one.
            _ = try Program.start(
                program, arguments(connection: Program.connection) + ["--stand-in"],
                connection: there.descriptor,
                without: ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"])
            log.notice("upgrade: \(program) was started to take over")
            successor = Successor(socket: here, upgrade: request)
        } catch {
            log.error("upgrade: \(error)")
            request.fail("\(error)")
        }
    }

    private func arguments(connection: Int32) -> [String] {
        ["run", "--config", path] + (isStrict ? ["--strict"] : [])
            + ["--hand-over-descriptor", "\(connection)"]
    }

    /// Executes the binary on disk in this process's place, once the other process forwards.
    /// - Returns: only if that fails: the other process goes on.
    func becomeBinaryOnDisk(_ connection: HandOverSocket) {
        // Their tables end here, not in the next program.
        plumbing = Plumbing()
        superseded = []
        LogSink.standardError.finish(seconds: Timing.logSeconds)
        do {
            let path = try Program.path()
            throw Program.become(
                path, arguments(connection: connection.descriptor.number),
                connection: connection.descriptor)
        } catch {
            log.critical("upgrade: \(error); the process that took over goes on as it is")
        }
    }
}
