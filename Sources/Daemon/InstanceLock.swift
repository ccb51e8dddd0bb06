// One shuck an admin socket: a lock on a file beside it that holds the process id.

import Glibc
import LinuxIO
import Settings

final class InstanceLock {
    private let descriptor: Descriptor

    /// Makes the socket's directory when it is missing. The lock goes with the process.
    init(socket path: String) throws {
        let lock = path + ".lock"
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            mkdir(String(path[..<slash]), 0o755)
        }
        let number = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard number >= 0 else {
            throw SystemError(
                "open", lock, errno: errno, mend: "make its directory, or set admin.socket")
        }
        descriptor = Descriptor(number)
        if flock(number, LOCK_EX | LOCK_NB) != 0 {
            let holder = Host.read(lock) ?? "unknown"
            throw HostProblem(
                description: """
                    another shuck, process \(holder), serves \(path): stop it \
                    (kill \(holder)), or give this one its own admin.socket and devices
                    """)
        }
        ftruncate(number, 0)
        let text = Array("\(getpid())\n".utf8)
        _ = write(number, text, text.count)
        // A socket that a killed shuck left behind; nobody else can be serving it now.
        unlink(path)
    }
}
