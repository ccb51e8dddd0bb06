// One shuck an admin socket: a lock on a file beside it that nobody else may open.

import Glibc
import LinuxIO
import Settings

final class InstanceLock {
    let descriptor: Descriptor

    /// Makes the socket's directory when it is missing. The lock goes with the process.
    init(_ admin: Configuration.Admin) throws {
        let path = admin.socket
        try AdminSocket.makeDirectory(of: path, group: admin.group)
        try AdminSocket.check(path)
        let lock = path + ".lock"
        while true {
            let (file, wasOpen) = try Self.open(lock)
            if flock(file.number, LOCK_EX | LOCK_NB) == 0 {
                // Somebody may have replaced the file between the two calls.
                guard Self.isAt(lock, file) else { continue }
                descriptor = file
                return
            }
            // A file that others could open says nothing of a shuck: any of them may hold the lock.
            guard wasOpen, case .none = UnixAddress(path: path).listener, Self.isAt(lock, file) else {
                throw Self.held(path, lock, file)
            }
            unlink(lock)
        }
    }

    /// The lock of another process, which it handed over: it is held until both have closed it.
    init(adopting descriptor: Descriptor) { self.descriptor = descriptor }

    /// - Returns: the file, for its owner alone from now on, and whether it was open to others.
    private static func open(_ lock: String) throws -> (Descriptor, wasOpen: Bool) {
        func problem(_ cause: String) -> HostProblem {
            HostProblem(
                description: "\(lock) \(cause): remove it, or set admin.socket to another path")
        }
        let number = Glibc.open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
        guard number >= 0 else {
            if errno == ELOOP { throw problem("is a symbolic link, which shuck does not follow") }
            throw SystemError(
                "open", lock, errno: errno, hint: "make its directory, or set admin.socket")
        }
        let file = Descriptor(number)
        guard let status = file.status, status.st_mode & S_IFMT == S_IFREG else {
            throw problem("is no regular file")
        }
        guard status.st_uid == geteuid() else { throw problem("belongs to user \(status.st_uid)") }
        let wasOpen = status.st_mode & 0o077 != 0
        if wasOpen { fchmod(number, 0o600) }
        return (file, wasOpen)
    }

    private static func isAt(_ path: String, _ file: Descriptor) -> Bool {
        guard let here = file.status, let there = Host.status(of: path) else { return false }
        return here.st_dev == there.st_dev && here.st_ino == there.st_ino
    }

    /// The process is the kernel's word: a number in a file may be of one that ended long ago.
    private static func held(_ path: String, _ lock: String, _ file: Descriptor) -> HostProblem {
        // Of the admin socket the kernel names the engine, which answers there.
        var listener = UnixAddress(path: HandOver.path(beside: path)).packetListener
        if case .none = listener { listener = UnixAddress(path: path).listener }
        guard case .none = listener else {
            var name = "of another pid namespace"
            var stop = "stop it"
            if case .peer(let peer) = listener, peer.processID > 0 {
                name = "process \(peer.processID)"
                stop = "stop it (kill \(peer.processID))"
            }
            return HostProblem(
                description: """
                    another shuck, \(name), serves \(path): \(stop), or give this one its own \
                    admin.socket, interfaces and devices
                    """)
        }
        let holder = lockHolder(file).map { "process \($0)" } ?? "a process that is not seen from here"
        return HostProblem(
            description: """
                \(lock) is locked by \(holder), which serves no \(path) yet: wait until it does or has \
                ended, or set admin.socket to another path
                """)
    }

    /// From /proc/locks: `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`.
    private static func lockHolder(_ file: Descriptor) -> Int? {
        guard let status = file.status else { return nil }
        for line in (Host.read("/proc/locks") ?? "").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 5, words[1] == "FLOCK", words[5].hasSuffix(":\(status.st_ino)"),
                let holder = Int(words[4]), holder > 0
            else { continue }
            return holder
        }
        return nil
    }
}
