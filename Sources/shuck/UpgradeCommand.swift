// shuck upgrade: what SIGUSR2 does, and waits until the binary on disk forwards.

import ArgumentParser
import Daemon
import Foundation

struct UpgradeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade",
        abstract: "Let the running daemon become the binary now on disk, without losing a packet.",
        discussion: "Exit codes: 0 it forwards, 1 the old one goes on, with why.")

    @OptionGroup var socket: SocketOption

    /// Until the other process is prepared, and until it forwards in the old one's place.
    private static let seconds = 60

    func run() throws {
        let client = socket.client
        let before = try status(client)
        if let reason = try refusal() {
            throw Failure(message: "not upgraded, the old shuck goes on: \(reason)")
        }
        let end = Date(timeIntervalSinceNow: Double(Self.seconds))
        while Date() < end {
            // Between the two processes nobody may answer for a moment.
            if let now = try? status(client), now.processID == before.processID,
                now.handOvers >= before.handOvers + 2
            {
                return try Output.print("upgraded from \(before.version) to \(now.version)")
            }
            usleep(20_000)
        }
        throw Failure(message: "prepared, but not done after \(Self.seconds) s: see the log and shuck status")
    }

    /// nil: another process is prepared, and takes over.
    private func refusal() throws -> String? {
        do {
            return try UpgradeQuestion.ask(at: socket.socket, seconds: Int32(Self.seconds))
        } catch {
            throw Failure(message: "the shuck at \(socket.socket) cannot be asked to upgrade: \(error)")
        }
    }

    /// What every version's status has.
    private struct Status: Decodable {
        var version: String
        var processID: Int32
        var handOvers: UInt64
    }

    private func status(_ client: AdminClient) throws -> Status {
        let text = try client.get("/status")
        guard let status = try? JSONDecoder().decode(Status.self, from: Data(text.utf8)) else {
            throw Failure(
                message: "the shuck at \(socket.socket) is a version that cannot upgrade itself: restart it")
        }
        return status
    }
}
