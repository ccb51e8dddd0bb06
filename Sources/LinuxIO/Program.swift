// This program as it lies on disk now, to be run beside this process or in its place.

import Glibc

public enum Program {
    /// Where this process's program came from. Another one may lie there by now.
    public static func path() throws(SystemError) -> String {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = try check("readlink", "/proc/self/exe") {
            Int32(bytes.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) })
        }
        let path = String(decoding: bytes.prefix(Int(count)), as: UTF8.self)
        let deleted = " (deleted)"
        return path.hasSuffix(deleted) ? String(path.dropLast(deleted.count)) : path
    }

    /// The descriptor that a program started by `start` finds its connection at.
    public static let connection: Int32 = 3

    /// This very program, also when another one lies on disk by now.
    public static let itself = "/proc/self/exe"

    /// Starts a program with standard streams and one connection.
    /// - Parameter environment: names that it does not get.
    /// - Returns: its process id; the process is to be reaped.
    public static func start(
        _ path: String, _ arguments: [String], connection: Descriptor, without environment: [String]
    ) throws(SystemError) -> pid_t {
        closeOnExec()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, connection.number, Self.connection)
        let variables = Self.environment.filter { variable in
            !environment.contains { variable.hasPrefix($0 + "=") }
        }
        var child = pid_t()
        let result = withStrings(["shuck"] + arguments) { arguments in
            withStrings(variables) { posix_spawn(&child, path, &actions, nil, arguments, $0) }
        }
        guard result == 0 else { throw SystemError("posix_spawn", path, errno: result) }
        return child
    }

    /// Takes in processes that this one started, or that were left to it, and that have ended.
    /// - Returns: how each ended.
    public static func reap() -> [pid_t: String] {
        var ends: [pid_t: String] = [:]
        var status: Int32 = 0
        while true {
            let child = waitpid(-1, &status, WNOHANG)
            guard child > 0 else { return ends }
            ends[child] = end(status)
        }
    }

    /// - Returns: how this child ended; nil: it has not, or nobody knows.
    public static func reap(_ child: pid_t) -> String? {
        var status: Int32 = 0
        return waitpid(child, &status, WNOHANG) == child ? end(status) : nil
    }

    /// The words for what wait(2) says of a process.
    static func end(_ status: Int32) -> String {
        let signal = status & 0x7f
        return signal == 0
            ? "ended with \(status >> 8 & 0xff)"
            : "was ended by signal \(signal) (\(String(cString: strsignal(signal))))"
    }

    /// Runs a program in this process's place. Returns only with an error; the connection is closed then.
    public static func become(
        _ path: String, _ arguments: [String], connection: Descriptor? = nil
    ) -> SystemError {
        closeOnExec()
        if let connection { _ = fcntl(connection.number, F_SETFD, 0) }
        withStrings([path] + arguments) { arguments in
            withStrings(environment) { _ = execve(path, arguments, $0) }
        }
        return SystemError("execve", path, errno: errno)
    }

    static var environment: [String] {
        var variables: [String] = []
        var next = environ
        while let variable = next.pointee {
            variables.append(String(cString: variable))
            next += 1
        }
        return variables
    }

    static func withStrings<R>(
        _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> R
    ) -> R {
        var pointers = strings.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        return pointers.withUnsafeMutableBufferPointer { body($0.baseAddress!) }
    }

    /// Libraries open descriptors that would live on in the next program: the socket that owns an nft table.
    private static func closeOnExec() {
        for number in Host.entries("/proc/self/fd").compactMap(Int32.init) where number > 2 {
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        }
    }
}
