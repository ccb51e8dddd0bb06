// What the engine gives up before it looks at a packet, in two stages. A stage that the host refuses is a
// degradation in status, log and metric, and the engine goes on without it.
//
// 1. When the process begins: all capabilities, and whatever executing a program could bring (no_new_privs).
//    Everything that needs a privilege was opened by the supervisor.
// 2. When workers are made, before they look at a frame: all system calls but those of `Sandbox.calls`. It
//    can open no file for writing and no socket, execute nothing, and map no memory as code. An io_uring
//    would pass by that list, so each is restricted to what the loop does (`SubmissionRing`), and no other
//    can be made.
//
// Its user and its view of the file system stay the supervisor's.

import Glibc
import LinuxIO

enum Sandbox {
    struct Call {
        let name: String
        let rule: SystemCallFilter.Rule
        let reason: String
    }

    private static func call(
        _ name: String, _ reason: String, _ rule: SystemCallFilter.Rule = .always
    ) -> Call {
        Call(name: name, rule: rule, reason: reason)
    }

    private static let writing = UInt32(bitPattern: O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)

    /// The most frequent first.
    static let calls: [Call] = [
        call("io_uring_enter", "writes to devices, and waiting for frames"),
        call("write", "to devices where there is no io_uring; waking a thread; the log"),
        call("writev", "likewise; answers of the admin endpoint"),
        call("recvfrom", "frames that exceed their slot; the kernel's answers about routes"),
        call("read", "packets that return to a device; events; files of /proc and /sys"),
        call("sendto", "ICMP errors, answers to probes, questions about routes"),
        call("poll", "the control thread waits"),
        call("ppoll", "likewise, on other architectures"),
        call("clock_nanosleep", "a worker's pause behind a batch that was coalesced"),
        call("clock_gettime", "CPU time of the workers"),
        call("futex", "locks of the log and of the admin endpoint"),
        call("io_uring_register", "other devices' queues take the places of old ones"),
        call("getsockopt", "frames that the kernel dropped; errors of a socket"),
        call("setsockopt", "connections of the admin endpoint"),
        call("recvmsg", "the supervisor's words, and the kernel's notices of routes"),
        call("sendmsg", "words to the supervisor"),
        call("epoll_wait", "the admin endpoint waits"),
        call("epoll_pwait", "likewise, on other architectures"),
        call("epoll_ctl", "likewise"),
        call("timerfd_settime", "time-outs of the admin endpoint"),
        call("accept4", "connections of the admin endpoint"),
        call("getsockname", "likewise"),
        call("getpeername", "likewise"),
        call("shutdown", "likewise"),
        // F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_ADD_SEALS, F_DUPFD_CLOEXEC: none that names another process.
        call("fcntl", "likewise: they do not block", .argument(1, isOneOf: [1, 2, 3, 4, 1033, 1030])),
        call("listen", "likewise, on sockets that are bound already"),
        call("close", "what is provided no more"),
        call(
            "mmap", "rings and counters that are provided, memory; never as code",
            .argumentWithout(2, bits: 4)),
        call("mprotect", "memory; never as code", .argumentWithout(2, bits: 4)),
        call("munmap", "what is provided no more"),
        call("mremap", "memory that grows"),
        call("madvise", "memory is given back"),
        call("brk", "memory"),
        call("memfd_create", "examples of drops and rings of a capture, under a name in /proc/PID/maps"),
        call("ftruncate", "likewise; no file is open for writing but those"),
        call("mbind", "memory on a worker's node"),
        call("set_mempolicy", "likewise"),
        call("get_mempolicy", "likewise"),
        call(
            "openat", "files of /proc and /sys for status and metrics; never for writing",
            .argumentWithout(2, bits: writing)),
        call("newfstatat", "likewise"),
        call("fstat", "likewise"),
        call("readlink", "likewise"),
        call("readlinkat", "likewise, on other architectures"),
        call("getdents64", "likewise"),
        call("lseek", "likewise"),
        call("getrusage", "metrics of the process"),
        call("prlimit64", "its limit of descriptors, to be read", .argumentIsZero(2)),
        call("sched_getaffinity", "how many CPUs there are"),
        call("getrandom", "seeds"),
        call("sched_yield", "a lock that another thread holds"),
        call("getpid", "lines of the log"),
        call("gettid", "likewise"),
        call("geteuid", "who may capture"),
        call("gettimeofday", "time, where the kernel does not show it to processes"),
        call("rt_sigaction", "what libraries do about a crash"),
        call("rt_sigprocmask", "threads of libraries"),
        call("rt_sigreturn", "a debugger, or a stop and its end"),
        call("restart_syscall", "likewise"),
        call("sigaltstack", "threads of libraries"),
        call("clone", "likewise: threads, never processes", .argumentWith(0, bits: 0x10000)),
        call("clone3", "its flags cannot be seen: libraries use clone instead", .never(errno: ENOSYS)),
        call("set_robust_list", "threads of libraries"),
        call("rseq", "likewise"),
        call("setpriority", "likewise: of themselves", .argument(1, isOneOf: [0])),
        call("prctl", "likewise: their names, and a worker's timer slack", .argument(0, isOneOf: [15, 29])),
        call("exit", "a thread ends"),
        call("exit_group", "the process ends"),
    ]

    /// The first stage. To be called before the process has a second thread.
    /// - Returns: why not; nil: it is in force.
    static func giveUpPrivileges() -> String? {
        do throws(SystemError) {
            try Privileges.giveUp()
            return nil
        } catch {
            return "the engine keeps its capabilities: \(error)"
        }
    }

    /// The second stage, of all threads.
    /// - Returns: why not; nil: it is in force.
    static func filterSystemCalls() -> String? {
        do throws(SystemError) {
            try SystemCallFilter(calls.map { ($0.name, $0.rule) }).install()
            return nil
        } catch {
            return "the engine's system calls are not filtered: \(error)"
        }
    }
}
