// Network namespaces, by their path or without one: entered, and watched for coming and going.

import CLinux
import Glibc
import Routing
import Synchronization

/// An open network namespace. While it is held the namespace lives on, whatever becomes of its
/// path: hold it no longer than a change of it takes.
public final class NetworkNamespace {
    public let path: String
    public let identity: NamespaceIdentity
    let descriptor: Descriptor

    public init(_ path: String) throws(SystemError) {
        self.path = path
        let name = path.split(separator: "/").last ?? ""
        let hint = """
            make it (ip netns add \(name)) or correct devices[].netns; shuck takes it when it comes
            """
        // A path that is something else must not keep us waiting.
        let number = try check("open", path, hint: hint) {
            open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        }
        descriptor = Descriptor(number)
        guard clinux_namespace_kind(number) == CLINUX_CLONE_NEWNET else {
            throw SystemError(
                "ioctl(NS_GET_NSTYPE)", path, errno: EINVAL,
                hint: "it is no network namespace: \(hint)")
        }
        guard let status = descriptor.status else { throw SystemError("fstat", path, errno: errno) }
        identity = NamespaceIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    /// A new namespace without a name. It ends with its last descriptor, process and socket. Other processes
    /// of this host open it by `path`.
    public static func make() throws(SystemError) -> NetworkNamespace {
        let home = try NetworkNamespace(own)
        try checkNegative(
            "unshare", "a network namespace", grant: "run as root, or grant CAP_SYS_ADMIN",
            clinux_new_network())
        let made = Result { () throws(SystemError) in try NetworkNamespace(own) }
        try home.join()
        return NetworkNamespace(unnamed: try made.get())
    }

    private init(unnamed made: NetworkNamespace) {
        descriptor = made.descriptor
        identity = made.identity
        path = "/proc/\(getpid())/fd/\(made.descriptor.number)"
    }

    /// The calling thread's.
    private static let own = "/proc/thread-self/ns/net"

    /// Puts the calling thread inside.
    public func join() throws(SystemError) {
        try checkNegative(
            "setns", path, grant: "run as root, or grant CAP_SYS_ADMIN",
            clinux_enter_network(descriptor.number))
    }

    /// Runs `body` inside on this thread, which comes back. It must not leave its thread: no `await`.
    public func enter<R>(_ body: () throws -> R) throws -> R {
        let home = try NetworkNamespace(Self.own)
        try join()
        let result = Result { try body() }
        try home.join()
        return try result.get()
    }

    /// What stands at the path now; nil when there is no network namespace.
    public static func identity(at path: String) -> NamespaceIdentity? {
        try? NetworkNamespace(path).identity
    }

    /// Runs `body` inside, on a new thread that ends with it: this one stays where it is.
    func run<R: Sendable>(
        _ body: @escaping @Sendable () throws(SystemError) -> R
    ) throws(SystemError) -> R {
        let outcome = Outcome<R>()
        let (number, path) = (descriptor.number, path)
        let thread = try WorkerThread(name: "shuck-netns") {
            do throws(SystemError) {
                try checkNegative(
                    "setns", path, grant: "run as root, or grant CAP_SYS_ADMIN",
                    clinux_enter_network(number))
                let made = try body()
                outcome.result.withLock { $0 = .success(made) }
            } catch {
                outcome.result.withLock { $0 = .failure(error) }
            }
        }
        thread.join()
        return try outcome.result.withLock { $0! }.get()
    }

    private final class Outcome<R: Sendable>: Sendable {
        let result = Mutex<Result<R, SystemError>?>(nil)
    }
}

extension Optional<NetworkNamespace> {
    /// Runs `body` inside; nil: on this thread, where it stands.
    func run<R: Sendable>(
        _ body: @escaping @Sendable () throws(SystemError) -> R
    ) throws(SystemError) -> R {
        if let self { try self.run(body) } else { try body() }
    }
}

/// Hears when something comes into a directory, or goes.
public final class DirectoryWatch {
    private let inotify: Descriptor

    public init() throws(SystemError) {
        inotify = Descriptor(
            try check(
                "inotify_init1", "directories",
                hint: "raise the limit: sysctl -w fs.inotify.max_user_instances=1024"
            ) { inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC)) })
    }

    public var descriptor: Int32 { inotify.number }

    /// Watches a directory, if it is there; one that is watched already stays so.
    public func watch(_ directory: String) {
        _ = inotify_add_watch(
            inotify.number, directory, UInt32(IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR))
    }

    /// Forgets what has been told so far.
    public func clear() {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while read(inotify.number, &buffer, buffer.count) > 0 {}
    }
}
