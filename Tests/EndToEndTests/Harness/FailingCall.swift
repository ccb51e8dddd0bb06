// One system call of a running daemon's control thread that fails, and a count of those that it makes.

import Foundation

/// Watches the control thread of a daemon, and the threads that it starts, by ptrace(2).
final class FailingCall {
    /// What fails, with the error that it fails with.
    struct Kind: Hashable, Sendable {
        let name: String
        let error: String
        /// The kernel does the work, and then says that it failed: close(2) never leaves a file open.
        var isDone = false
    }

    /// All that the control thread calls and that may fail.
    static let kinds = [
        Kind(name: "access", error: "EACCES"),
        Kind(name: "bind", error: "ENOMEM"),
        Kind(name: "bpf", error: "ENOMEM"),
        Kind(name: "capget", error: "EPERM"),
        Kind(name: "clock_gettime", error: "EINVAL"),
        Kind(name: "clock_nanosleep", error: "EINTR"),
        Kind(name: "clone3", error: "EAGAIN"),
        Kind(name: "close", error: "EIO", isDone: true),
        Kind(name: "connect", error: "ECONNREFUSED"),
        Kind(name: "eventfd2", error: "EMFILE"),
        Kind(name: "fcntl", error: "EINVAL"),
        Kind(name: "fstat", error: "ENOMEM"),
        Kind(name: "ftruncate", error: "ENOMEM"),
        Kind(name: "getdents64", error: "ENOMEM"),
        Kind(name: "getsockname", error: "ENOBUFS"),
        Kind(name: "getsockopt", error: "ENOMEM"),
        Kind(name: "inotify_add_watch", error: "ENOSPC"),
        Kind(name: "io_uring_enter", error: "ENOMEM"),
        Kind(name: "io_uring_register", error: "ENOMEM"),
        Kind(name: "io_uring_setup", error: "ENOMEM"),
        Kind(name: "ioctl", error: "ENOMEM"),
        Kind(name: "listen", error: "ENOBUFS"),
        Kind(name: "lseek", error: "EINVAL"),
        Kind(name: "madvise", error: "ENOMEM"),
        Kind(name: "mbind", error: "ENOMEM"),
        Kind(name: "memfd_create", error: "EMFILE"),
        Kind(name: "mmap", error: "ENOMEM"),
        Kind(name: "munmap", error: "ENOMEM", isDone: true),
        Kind(name: "newfstatat", error: "ENOMEM"),
        Kind(name: "openat", error: "EMFILE"),
        Kind(name: "poll", error: "ENOMEM"),
        Kind(name: "prctl", error: "EINVAL"),
        Kind(name: "prlimit64", error: "EPERM"),
        Kind(name: "pselect6", error: "ENOMEM"),
        Kind(name: "read", error: "EIO"),
        Kind(name: "recvfrom", error: "ENOBUFS"),
        Kind(name: "recvmsg", error: "ENOBUFS"),
        Kind(name: "sched_setaffinity", error: "EINVAL"),
        Kind(name: "sched_getaffinity", error: "EINVAL"),
        Kind(name: "sendmsg", error: "ENOBUFS"),
        Kind(name: "sendto", error: "ENOBUFS"),
        Kind(name: "set_mempolicy", error: "ENOMEM"),
        Kind(name: "setns", error: "EPERM"),
        Kind(name: "setsockopt", error: "ENOMEM"),
        Kind(name: "socket", error: "EMFILE"),
        Kind(name: "write", error: "EAGAIN"),
    ]

    /// What cannot fail, and what glibc ends a program for: locks, memory of malloc(3), a thread's own area.
    static let exempt: Set = [
        "brk", "exit", "futex", "geteuid", "getpid", "gettid", "mprotect", "restart_syscall", "rseq",
        "rt_sigprocmask", "set_robust_list", "uname", "wait4",
    ]

    /// What a call may fail with beside the error of its kind: a lack that may end.
    static let moreErrors = ["ENOMEM", "EMFILE", "ENOBUFS"]

    private let command: RunningCommand

    /// Counts the calls until `end`.
    init(counting rig: Rig, of process: pid_t) throws {
        command = try Self.start(rig, ["\(process)"])
    }

    /// Lets one call fail.
    /// - Parameters:
    ///   - error: the kind's, or one of `moreErrors`.
    ///   - occurrence: from 1.
    init(_ rig: Rig, of process: pid_t, _ kind: Kind, error: String, occurrence: Int) throws {
        command = try Self.start(
            rig,
            [
                "\(process)", kind.name, "\(occurrence)", error,
                kind.isDone ? "done" : "undone",
            ])
    }

    private static func start(_ rig: Rig, _ arguments: [String]) throws -> RunningCommand {
        let path = rig.directory + "/fail"
        if !FileManager.default.fileExists(atPath: path) { _ = try rig.compile(source, to: path) }
        let command = try rig.start(.node, [path] + arguments)
        try eventually("the tracer to be attached") {
            guard command.isRunning else { throw Failure("not attached: \(command.errors)") }
            return command.output.hasPrefix("attached\n")
        }
        return command
    }

    /// Lets the thread alone.
    /// - Returns: how often it made which call, by name, or by number where the name is not known here.
    @discardableResult
    func end() throws -> [String: Int] {
        command.signal(SIGTERM)
        let lines = try command.wait(seconds: 10).get().split(separator: "\n").dropFirst()
        return Dictionary(
            uniqueKeysWithValues: lines.map { line in
                let words = line.split(separator: " ")
                return (String(words[0]), Int(words[1]) ?? 0)
            })
    }

    private static var source: String {
        let names = (kinds.map(\.name) + exempt).sorted()
        let errors = Set(kinds.map(\.error) + moreErrors).sorted()
        return """
            #define _GNU_SOURCE
            #include <elf.h>
            #include <errno.h>
            #include <signal.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/mman.h>
            #include <sys/ptrace.h>
            #include <sys/syscall.h>
            #include <sys/uio.h>
            #include <sys/user.h>
            #include <sys/wait.h>

            struct name { const char *text; long number; };
            static const struct name calls[] = {
            \(names.map { "#ifdef SYS_\($0)\n{\"\($0)\", SYS_\($0)},\n#endif" }.joined(separator: "\n"))
            };
            static const struct name errors[] = {
            \(errors.map { "{\"\($0)\", \($0)}," }.joined(separator: "\n"))
            };
            static long counts[1024];
            static volatile sig_atomic_t is_over;

            static void end(int number) { (void)number; is_over = 1; }

            static long find(const struct name *names, size_t count, const char *text)
            {
                for (size_t index = 0; index < count; index++)
                    if (!strcmp(names[index].text, text))
                        return names[index].number;
                fprintf(stderr, "no %s here\\n", text);
                exit(2);
            }

            static void set_number(pid_t thread, int number)
            {
            #ifdef __x86_64__
                struct user_regs_struct words;
                struct iovec part = { &words, sizeof words };
                ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &part);
                words.orig_rax = number;
                ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &part);
            #else
                struct iovec part = { &number, sizeof number };
                ptrace(PTRACE_SETREGSET, thread, 0x404 /* NT_ARM_SYSTEM_CALL */, &part);
            #endif
            }

            static void set_result(pid_t thread, long result)
            {
                struct user_regs_struct words;
                struct iovec part = { &words, sizeof words };
                ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &part);
            #ifdef __x86_64__
                words.rax = result;
            #else
                words.regs[0] = result;
            #endif
                ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &part);
            }

            static void report(void)
            {
                for (long number = 0; number < 1024; number++) {
                    const char *name = NULL;
                    if (!counts[number])
                        continue;
                    for (size_t index = 0; index < sizeof calls / sizeof *calls; index++)
                        if (calls[index].number == number)
                            name = calls[index].text;
                    if (name)
                        printf("%s %ld\\n", name, counts[number]);
                    else
                        printf("%ld %ld\\n", number, counts[number]);
                }
            }

            int main(int count, char **words)
            {
                pid_t thread = count > 1 ? atoi(words[1]) : 0, failing = 0;
                long wanted = count > 2 ? find(calls, sizeof calls / sizeof *calls, words[2]) : -1;
                long occurrence = count > 3 ? atol(words[3]) : 0;
                long error = count > 4 ? find(errors, sizeof errors / sizeof *errors, words[4]) : 0;
                int is_done = count > 5 && !strcmp(words[5], "done"), has_failed = 0, status;
                struct sigaction action = { .sa_handler = end };
                sigaction(SIGTERM, &action, NULL);
                if (ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)
                    || ptrace(PTRACE_INTERRUPT, thread, 0, 0)) {
                    perror("ptrace");
                    return 1;
                }
                for (int is_first = 1; !is_over;) {
                    pid_t stopped = waitpid(-1, &status, __WALL);
                    if (stopped < 0 || !WIFSTOPPED(status)) {
                        if (stopped == thread)
                            break;
                        continue;
                    }
                    long signal = 0;
                    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
                        struct __ptrace_syscall_info info;
                        ptrace(PTRACE_GET_SYSCALL_INFO, stopped, sizeof info, &info);
                        if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr < 1024) {
                            long number = info.entry.nr;
                            /* Memory of no file is a thread's stack or malloc's. */
                            if (number != SYS_mmap || (int)info.entry.args[4] >= 0
                                || info.entry.args[3] & MAP_STACK)
                                counts[number]++;
                            else
                                number = -2;
                            if (number == wanted && counts[number] == occurrence) {
                                if (!is_done)
                                    set_number(stopped, -1);
                                failing = stopped;
                            }
                        } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && failing == stopped) {
                            set_result(stopped, -error);
                            failing = 0;
                            has_failed = 1;
                        }
                    } else if (!(status >> 16)) {
                        signal = WSTOPSIG(status);
                    }
                    if (is_first && stopped == thread) {
                        puts("attached");
                        fflush(stdout);
                        is_first = 0;
                    }
                    ptrace(has_failed ? PTRACE_CONT : PTRACE_SYSCALL, stopped, 0, signal);
                }
                report();
                return 0;
            }

            """
    }
}
