// systemd's store of descriptors (sd_notify(3), FDSTORE=1): what a killed or restarted shuck held is handed
// to the next one, so that frames wait in the rings meanwhile.

import Foundation
import Glibc
import LinuxIO
import Logging

/// What the store holds is listed in its newest document.
struct StoredState: Codable {
    var handOver: HandOver
    /// Without what `counters` hold.
    var rest: HandOver.Rest
    /// Of the descriptors, in the order of a hand-over; then of each worker's counters; then of its
    /// copies of frames.
    var names: [String]
    var workers: Int
}

/// Puts descriptors there, each under a name of its own. The control thread's alone.
final class DescriptorStore {
    private struct Entry {
        let name: String
        // Held, so that no other one gets its identity.
        let descriptor: Descriptor
    }
    private var entries: [ObjectIdentifier: Entry] = [:]
    private var document: Entry?
    private var next: Int
    private var isFailing = false

    /// nil where there is no store: no service manager says so by FDSTORE, as systemd does from 254 on, and
    /// the unit for older ones.
    /// - Parameter old: names of what the processes before have put there.
    init?(replacing old: [String]) {
        let environment = ProcessInfo.processInfo.environment
        guard environment["FDSTORE"].flatMap(Int.init) ?? 0 > 0, environment["NOTIFY_SOCKET"] != nil else {
            return nil
        }
        next = (old.compactMap { Int($0.drop { !$0.isNumber }) }.max() ?? 0) + 1
        Self.remove(old)
    }

    static func remove(_ names: [String]) {
        for name in names { ServiceNotifier.tell("FDSTOREREMOVE=1\nFDNAME=\(name)") }
    }

    /// Takes everything out.
    func clear() {
        Self.remove(entries.values.map(\.name) + (document.map { [$0.name] } ?? []))
        (entries, document) = ([:], nil)
    }

    /// Puts there what is not yet, then a document, then takes away what is there no more.
    /// - Parameter state: of the names.
    func put(_ descriptors: [Descriptor], _ state: ([String]) -> StoredState) {
        do {
            var wanted: [ObjectIdentifier: Entry] = [:]
            for descriptor in descriptors {
                let id = ObjectIdentifier(descriptor)
                wanted[id] = try entries[id] ?? store(descriptor, "shuck")
            }
            let names = descriptors.compactMap { wanted[ObjectIdentifier($0)]?.name }
            let text = try [UInt8](JSONEncoder().encode(state(names)))
            let new = try store(HandOverSocket.document(text), "document")
            let gone = entries.filter { wanted[$0.key] == nil }.values.map(\.name)
            Self.remove(gone + (document.map { [$0.name] } ?? []))
            (entries, document, isFailing) = (wanted, new, false)
        } catch {
            if !isFailing {
                Logger(label: "shuck").error("the service manager's store takes nothing: \(error)")
            }
            isFailing = true
        }
    }

    private func store(_ descriptor: Descriptor, _ kind: String) throws -> Entry {
        let name = "\(kind)-\(next)"
        next += 1
        // Without FDPOLL=0 a device that goes would take its descriptor out of the store, untold.
        let message = "FDSTORE=1\nFDNAME=\(name)\nFDPOLL=0"
        guard ServiceNotifier.tell(message, descriptor: descriptor) else {
            throw SystemError("sendmsg", "NOTIFY_SOCKET", errno: errno)
        }
        return Entry(name: name, descriptor: descriptor)
    }
}

/// What the service manager hands to a process that it starts.
struct ReceivedDescriptors {
    /// sd_listen_fds(3).
    private static let first: Int32 = 3
    let named: [String: Descriptor]
    var names: [String] { Array(named.keys) }

    /// nil: there are none. To be called once, before others open descriptors.
    static func take() -> ReceivedDescriptors? {
        let environment = ProcessInfo.processInfo.environment
        guard environment["LISTEN_PID"] == "\(getpid())",
            let count = environment["LISTEN_FDS"].flatMap(Int32.init), count > 0
        else { return nil }
        let names = (environment["LISTEN_FDNAMES"] ?? "").split(separator: ":").map(String.init)
        var named: [String: Descriptor] = [:]
        for (name, number) in zip(names, first..<first + count) {
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
            named[name] = Descriptor(number)
        }
        // What it starts is not meant.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { unsetenv(name) }
        return ReceivedDescriptors(named: named)
    }

    /// What the newest document says; nil: there is none.
    func state() throws -> StoredState? {
        let newest = named.keys.filter { $0.hasPrefix("document-") }
            .max { (Int($0.dropFirst(9)) ?? 0) < (Int($1.dropFirst(9)) ?? 0) }
        guard let newest else { return nil }
        return try HandOverSocket.read(StoredState.self, from: named[newest])
    }
}
