// The unix socket of the admin endpoint on disk: nobody can open it before its group and mode are set,
// and nothing but a socket is ever replaced.

import Glibc
import LinuxIO
import Settings

final class AdminSocket {
    /// Bound and listening.
    let descriptor: Descriptor
    private let path: String
    private let device: UInt64
    private let inode: UInt64

    /// Replaces a socket that a killed shuck left. To be called by the holder of the instance lock alone.
    init(_ admin: Configuration.Admin) throws {
        path = admin.socket
        try Self.check(path)
        let group = try admin.group.map(Self.number(of:))
        unlink(path)
        let number = Sockets.open(AF_UNIX, .stream)
        guard number >= 0 else { throw Self.problem(path, errno) }
        // The file that bind(2) makes takes the mode of the socket's own inode, and the umask can only
        // narrow it: no moment at which others may connect.
        fchmod(number, 0o600)
        guard UnixAddress(path: path).with({ bind(number, $0, $1) }) == 0 else {
            let failure = errno
            close(number)
            throw Self.problem(path, failure)
        }
        // The file itself: a path could have become another one's by now.
        let file = Host.openPath(path)
        let status = file.status ?? stat()
        let isOurs = status.st_mode & S_IFMT == S_IFSOCK
        let name = "/proc/self/fd/\(file.number)"
        guard isOurs, group.map({ chown(name, uid_t.max, $0) == 0 }) ?? true,
            chmod(name, mode_t(admin.mode)) == 0, listen(number, 128) == 0
        else {
            let failure = isOurs ? errno : EEXIST
            close(number)
            unlink(path)
            throw Self.problem(path, failure)
        }
        (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
        descriptor = Descriptor(number)
    }

    /// A socket that another process made and handed over: connections that wait there are this one's.
    init(adopting descriptor: Descriptor, _ admin: Configuration.Admin) {
        path = admin.socket
        self.descriptor = descriptor
        let status = Host.status(of: path) ?? stat()
        (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
    }

    /// Removes the file, if it is still the one that was made.
    func remove() {
        guard let status = Host.status(of: path), UInt64(status.st_dev) == device,
            UInt64(status.st_ino) == inode
        else { return }
        unlink(path)
    }

    /// Throws when something else than a socket is there, a symbolic link included.
    static func check(_ path: String) throws {
        guard let status = Host.status(of: path) else { return }
        let kind = status.st_mode & S_IFMT
        guard kind != S_IFSOCK else { return }
        let name =
            switch kind {
            case S_IFREG: "a regular file"
            case S_IFLNK: "a symbolic link"
            case S_IFDIR: "a directory"
            default: "no socket"
            }
        throw HostProblem(
            description: """
                admin.socket \(path) is \(name), which shuck does not replace: remove it, or choose \
                another path
                """)
    }

    /// Makes the directory of a path when it is missing: for its owner, and for `group` to pass through.
    static func makeDirectory(of path: String, group: String?) throws {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
        let directory = String(path[..<slash])
        guard mkdir(directory, 0o750) == 0, let group else { return }
        guard chown(directory, uid_t.max, try number(of: group)) == 0 else {
            throw problem(directory, errno)
        }
    }

    private static func number(of group: String) throws -> gid_t {
        if let number = gid_t(group) { return number }
        guard let entry = getgrnam(group) else {
            throw HostProblem(
                description: """
                    admin.group \(group) is no group of this host: make it (groupadd --system \
                    \(group)), or write another one
                    """)
        }
        return entry.pointee.gr_gid
    }

    private static func problem(_ path: String, _ number: Int32) -> HostProblem {
        HostProblem(
            description: """
                admin.socket \(path): \(String(cString: strerror(number))); make its directory \
                writable, or choose another path
                """)
    }
}
