// ChildProcess, a program that this process started and waits for.

import Glibc

/// Is killed with the instance. It begins without blocked or ignored signals, whatever the starting thread
/// has: a program that cannot be interrupted cannot be ended.
public final class ChildProcess {
    public let processID: pid_t
    private var ending: Int32?

    /// - Parameters:
    ///   - words: the program, found in PATH unless it has a slash, and its arguments.
    ///   - output: paths of files that take standard output and standard error; both may be one.
    ///   - environment: nil: this process's.
    ///   - hasOwnGroup: whether Ctrl-C at a terminal, which this process gets, is kept from it.
    public init(
        _ words: [String], input: String = "/dev/null", output: (standard: String, error: String),
        environment: [String]? = nil, hasOwnGroup: Bool = false
    ) throws(SystemError) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, input, O_RDONLY, 0)
        for (number, path) in [(STDOUT_FILENO, output.standard), (STDERR_FILENO, output.error)] {
            posix_spawn_file_actions_addopen(
                &actions, number, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0o600)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        let group = hasOwnGroup ? POSIX_SPAWN_SETPGROUP : 0
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | group))
        var child = pid_t()
        let result = Program.withStrings(words) { words in
            Program.withStrings(environment ?? Program.environment) {
                posix_spawnp(&child, words[0]!, &actions, &attributes, words, $0)
            }
        }
        guard result == 0 else { throw SystemError("posix_spawn", words.first ?? "", errno: result) }
        processID = child
    }

    deinit { end() }

    /// The exit code, or 128 and the number of the signal that ended it; nil: it runs.
    public func status() -> Int32? {
        if let ending { return ending }
        var word: Int32 = 0
        guard waitpid(processID, &word, WNOHANG) == processID else { return nil }
        // WIFEXITED and WEXITSTATUS of wait(2), which are macros.
        ending = word & 0x7f == 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
        return ending
    }

    public var isRunning: Bool { status() == nil }

    /// Sends a signal, if it still runs.
    public func signal(_ number: Int32) {
        if isRunning { kill(processID, number) }
    }

    /// Kills it, if it still runs.
    public func end() {
        signal(SIGKILL)
        while isRunning { Host.pause(milliseconds: 1) }
    }
}
