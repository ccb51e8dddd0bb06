// The question of `shuck upgrade` to the running daemon.

import LinuxIO

/// Asks the running daemon to become the binary now on disk.
public enum UpgradeQuestion {
    /// - Parameter socket: the path of its admin socket.
    /// - Returns: nil: another process is prepared and takes over; else why not.
    /// - Throws: when nobody answers in time.
    public static func ask(at socket: String, seconds: Int32) throws -> String? {
        let place = HandOver.path(beside: socket)
        guard let connection = try HandOverSocket.connect(to: place) else {
            throw HostProblem(description: "no shuck runs that could upgrade itself at \(place)")
        }
        try connection.say(.upgrade)
        switch try connection.hear(milliseconds: seconds * 1000)?.message {
        case .prepared: return nil
        case .refuse(let reason): return reason
        default: throw HostProblem(description: "the running shuck has closed the connection")
        }
    }
}
