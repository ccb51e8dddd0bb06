// What a daemon holds of its host, as text: devices, routes, rules, claims and descriptors. Two daemons of
// one configuration must hold the same.

import Foundation

struct HeldState: Equatable {
    let lines: [String]

    /// - Parameters:
    ///   - namespaces: of pods, by name.
    ///   - prefix: of the names of the daemon's devices.
    init(_ rig: Rig, _ daemon: Daemon, namespaces: [String], prefix: String) throws {
        var lines: [String] = []
        for name in [rig.name + "-" + Place.node.rawValue] + namespaces {
            let place = name.replacingOccurrences(of: rig.name, with: "")
            let text = try rig.launch(["sh", "-c", Self.script, "sh", name, prefix]).wait().get()
            lines += Self.normal(text).map { "\(place): \($0)" }
        }
        let engine = try daemon.status().engineProcessID
        for (name, process) in [("supervisor", daemon.process.processID), ("engine", engine)] {
            lines += try Self.descriptors(process).map { "\(name): descriptor \($0)" }
            let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")
            lines.append("\(name): threads \(threads.count)")
        }
        self.lines = lines.sorted()
    }

    /// What is here and not there, and the other way round.
    func difference(from other: HeldState) -> [String] {
        lines.difference(from: other.lines).map { change in
            switch change {
            case .insert(_, let line, _): "+ \(line)"
            case .remove(_, let line, _): "- \(line)"
            }
        }
    }

    private static let script = """
        exec 2>/dev/null
        ip netns exec "$1" sh -c '
            for device in $(ls /sys/class/net | grep "^$1"); do
                ip -o link show "$device" | sed -E "s/^[0-9]+: //; s/ qlen [0-9]+//"
                ip -o address show dev "$device" scope host | sed -E "s/^[0-9]+: //"
                echo "$device rp_filter $(cat /proc/sys/net/ipv4/conf/$device/rp_filter)"
                ip -6 route show dev "$device" | grep -v "^fe80" | sed "s/^/route of $device: /"
            done
            ip rule; ip -6 rule; nft list ruleset
            for device in $(ls /sys/class/net); do
                tc filter show dev "$device" ingress | grep -o "shuck-claim" | sed "s/^/filter at $device: /"
            done' sh "$2"
        """

    /// Without what differs between two processes, and from moment to moment.
    private static func normal(_ text: String) -> [String] {
        text.split(separator: "\n").map { line in
            line.replacing(/shuck-[0-9]+(-[0-9])?/, with: "shuck-N")
                .replacing(/packets [0-9]+ bytes [0-9]+/, with: "")
                .replacing(/progname [^ ]+/, with: "").trimmingCharacters(in: .whitespaces)
        }
    }

    /// Each open file, told apart by what it is and not by its number.
    private static func descriptors(_ processID: pid_t) throws -> [String] {
        let root = "/proc/\(processID)"
        var sockets: [Substring: String] = [:]
        for (file, inode, name) in [("packet", 8, 4), ("raw", 9, 1), ("raw6", 9, 1)] {
            let text = (try? String(contentsOfFile: "\(root)/net/\(file)", encoding: .utf8)) ?? ""
            for line in text.split(separator: "\n").dropFirst() {
                let words = line.split(separator: " ")
                guard words.count > max(inode, name) else { continue }
                sockets[words[inode]] = "\(file) \(words[name])"
            }
        }
        return try FileManager.default.contentsOfDirectory(atPath: "\(root)/fd").compactMap { number in
            guard
                let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(root)/fd/\(number)")
            else { return nil }
            if path.hasPrefix("socket:["), let socket = sockets[path.dropFirst(8).dropLast()] {
                return socket
            }
            if path.hasPrefix("socket:[") { return "socket" }
            let more = (try? String(contentsOfFile: "\(root)/fdinfo/\(number)", encoding: .utf8)) ?? ""
            let kinds = ["iff:", "link_type:", "ifindex:", "map_type:", "prog_type:"]
            let kind = more.split(separator: "\n").filter { line in kinds.contains { line.hasPrefix($0) } }
            // A file of a mount namespace that ended has lost the beginning of its path.
            let name = path.replacing(/command[0-9]+/, with: "").replacing("/dev/net/", with: "/net/")
            return ([name] + kind.map(String.init)).joined(separator: " ")
        }
    }
}
