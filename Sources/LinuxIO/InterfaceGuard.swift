// A frame has one judge: while a shuck takes an interface's frames it holds an abstract unix socket, whose
// name another shuck in the same network namespace meets, whatever its mount and pid namespaces.

import CLinux
import Glibc

/// Held while frames of an interface are judged and injected.
public final class InterfaceGuard {
    public let lock: Descriptor
    /// Its name says who holds `lock`; anybody can read it in /proc/net/unix. nil where another user has it.
    private var note: Descriptor?

    /// Names that may hold one interface. Any local user can bind an abstract name, so one that is held by
    /// nobody who takes frames is passed over.
    static let names = 8
    /// Looks at a name that was lost to a shuck that starts at the same moment, until that one listens on it:
    /// so many, so many milliseconds apart. bind(2) and listen(2) follow each other in microseconds.
    private static let listenAttempts = 20
    private static let pauseMilliseconds: UInt32 = 1
    private static let backlog: Int32 = 16

    /// - Parameter holder: who this is, for another one to say: see `Host.identity`.
    public init(interface: String, index: Int32, holder: String) throws(SystemError) {
        let names = (0..<Self.names).map { "shuck/interface/\(index)/\($0)" }
        for name in names {
            if let peer = Self.holder(of: name, index) { throw Self.taken(interface, index, peer) }
        }
        var held: Descriptor?
        for name in names where held == nil {
            held = try Self.bound(name, interface)
            // Lost to another one that starts at this moment: it may need some time until it listens.
            for _ in 0..<Self.listenAttempts where held == nil {
                if let peer = Self.holder(of: name, index) {
                    throw Self.taken(interface, index, peer)
                }
                Host.pause(milliseconds: Self.pauseMilliseconds)
            }
        }
        guard let held else {
            throw SystemError(
                "guard", interface, errno: EADDRINUSE,
                hint: """
                    a local user holds all names that keep a second shuck out: ss -xlp src \
                    '@shuck/interface/\(index)/*'
                    """)
        }
        lock = held
        note = try Self.bound(Self.notePrefix(index) + holder, interface)
    }

    /// A guard that another process held and handed over. Until `takeOver` others are told of that one.
    public init(adopting lock: Descriptor) { self.lock = lock }

    /// Others are told of this process from now on.
    public func takeOver(index: Int32, holder: String) {
        // The kernel tells who called listen(2) last (net/unix/af_unix.c `unix_listen`).
        _ = listen(lock.number, Self.backlog)
        note = try? Self.bound(Self.notePrefix(index) + holder, holder)
    }

    private static func notePrefix(_ index: Int32) -> String { "shuck/interface/\(index)/held by " }

    /// nil when somebody has the name.
    private static func bound(_ name: String, _ interface: String) throws(SystemError) -> Descriptor? {
        let number = try check("socket(AF_UNIX)", interface) {
            Sockets.open(AF_UNIX, .stream)
        }
        let descriptor = Descriptor(number)
        do throws(SystemError) {
            try check("bind(AF_UNIX)", interface) {
                UnixAddress(abstract: name).with { bind(number, $0, $1) }
            }
        } catch {
            guard error.errno == EADDRINUSE else { throw error }
            return nil
        }
        // Nobody is ever accepted: that there is a listener, and whose, is all that there is to know.
        try check("listen(AF_UNIX)", interface) { listen(number, backlog) }
        return descriptor
    }

    /// Who holds a name and takes frames; nil when nobody does.
    private static func holder(of name: String, _ index: Int32) -> UnixAddress.Peer? {
        switch UnixAddress(abstract: name).listener {
        case .none: nil
        case .peer(let peer):
            peer.user == 0 || peer.user == geteuid() || takesFrames(index, user: peer.user)
                ? peer : nil
        case .unknown:
            takesFrames(index, user: nil) ? UnixAddress.Peer(processID: 0, user: 0) : nil
        }
    }

    /// Whether a packet socket for all protocols stands on the interface, which takes CAP_NET_RAW.
    private static func takesFrames(_ index: Int32, user: uid_t?) -> Bool {
        // sk RefCnt Type Proto Iface R Rmem User Inode
        let lines = (Host.read("/proc/thread-self/net/packet") ?? "").split(separator: "\n")
        return lines.dropFirst().contains { line in
            let words = line.split(separator: " ")
            return words.count > 7 && words[3] == "0003" && words[4] == "\(index)"
                && (user.map { words[7] == "\($0)" } ?? true)
        }
    }

    private static func taken(
        _ interface: String, _ index: Int32, _ peer: UnixAddress.Peer
    ) -> SystemError {
        let who =
            note(of: peer, index).map { text in
                peer.processID > 0
                    ? "process \(peer.processID)" + text.drop { $0 != "," }
                    : "\(text) (another pid namespace)"
            } ?? (peer.processID > 0 ? "process \(peer.processID)" : "a process of another pid namespace")
        return SystemError(
            "receive", interface, errno: EBUSY,
            hint: """
                another shuck takes its frames: \(who); each packet would arrive twice: stop that one, or \
                leave \(interface) out of interfaces here
                """)
    }

    /// What the holder says of itself: of the notes, the one that the same process holds.
    private static func note(of peer: UnixAddress.Peer, _ index: Int32) -> String? {
        let prefix = notePrefix(index)
        let lines = (Host.read("/proc/thread-self/net/unix") ?? "").split(separator: "\n")
        for line in lines {
            guard let place = line.firstRange(of: " @" + prefix) else { continue }
            let text = String(line[place.upperBound...])
            if case .peer(peer) = UnixAddress(abstract: prefix + text).listener { return text }
        }
        return nil
    }
}

extension Host {
    /// Who this process is, for people: process, systemd unit or container, host; at most 80 bytes.
    public static func identity() -> String {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, 255)
        let host = name.prefix { $0 != 0 && $0 != 0x2e }.map { UInt8(bitPattern: $0) }
        let place =
            unit(cgroups: read("/proc/self/cgroup") ?? "")
            ?? container(mounts: read("/proc/self/mountinfo") ?? "")
        let text =
            "process \(getpid())" + (place.map { ", \($0.prefix(40))" } ?? "")
            + ", host \(String(decoding: host.prefix(20), as: UTF8.self))"
        return String(decoding: text.utf8.prefix(80), as: UTF8.self)
    }

    /// The last part of the cgroup's path; nil for the root, which a container sees of its own.
    static func unit(cgroups: String) -> String? {
        for line in cgroups.split(separator: "\n") {
            let path = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).last ?? ""
            guard let last = path.split(separator: "/").last, last != ".." else { continue }
            return last.hasSuffix(".service") ? "unit \(last)" : "cgroup \(shortened(last))"
        }
        return nil
    }

    /// From the files that a container's runtime lays over /etc: the pod's or the container's number.
    static func container(mounts: String) -> String? {
        for line in mounts.split(separator: "\n") {
            // id parent major:minor root mountpoint …
            let words = line.split(separator: " ")
            guard words.count > 4, words[4] == "/etc/hosts" || words[4] == "/etc/hostname" else {
                continue
            }
            for part in words[3].split(separator: "/") {
                if part.utf8.count == 36, part.split(separator: "-").count == 5 { return "pod \(part)" }
                if part.utf8.count == 64, isHexadecimal(part) { return "container \(part.prefix(12))" }
            }
        }
        return nil
    }

    /// Twelve of a container's many digits, as ps of the runtime has them.
    private static func shortened(_ name: Substring) -> String {
        let parts = name.split { $0 == "-" || $0 == "." }
        guard let digits = parts.first(where: { $0.utf8.count >= 32 && isHexadecimal($0) }) else {
            return String(name)
        }
        return String(name.replacing(digits, with: digits.prefix(12)))
    }

    private static func isHexadecimal(_ text: Substring) -> Bool {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
