// System calls that another process is made to do, by ptrace(2): what code that runs in it could do.

import Foundation

/// One thread of another process.
struct ForeignCall {
    private let path: String
    private let rig: Rig
    private let thread: pid_t

    /// - Parameter thread: one that makes a system call now and then, such as that of a loop with a tick.
    init(_ rig: Rig, thread: pid_t) throws {
        path = rig.directory + "/foreign"
        (self.rig, self.thread) = (rig, thread)
        if !FileManager.default.fileExists(atPath: path) { _ = try rig.compile(Self.source, to: path) }
    }

    /// - Parameters:
    ///   - name: of the system call, as `SYS_name` has it.
    ///   - arguments: numbers; or a text, of which the call gets the address.
    /// - Returns: what the call returned: a negative error of errno.h, else what it gave.
    func callAsFunction(_ name: String, _ arguments: [String] = []) throws -> Int {
        let text = try rig.attempt(.node, [path, "\(thread)", name] + arguments).get()
        guard let value = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw Failure("\(name): \(text)")
        }
        return value
    }

    private static let source = """
        #define _GNU_SOURCE
        #include <elf.h>
        #include <errno.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/ptrace.h>
        #include <sys/syscall.h>
        #include <sys/uio.h>
        #include <sys/user.h>
        #include <sys/wait.h>

        static const struct { const char *text; long number; } calls[] = {
            {"socket", SYS_socket}, {"openat", SYS_openat}, {"execve", SYS_execve}, {"mmap", SYS_mmap},
            {"mprotect", SYS_mprotect}, {"clone", SYS_clone}, {"io_uring_setup", SYS_io_uring_setup},
            {"ptrace", SYS_ptrace}, {"connect", SYS_connect}, {"setns", SYS_setns}, {"bpf", SYS_bpf},
            {"getpid", SYS_getpid}, {"kill", SYS_kill}, {"unlinkat", SYS_unlinkat}, {"prctl", SYS_prctl},
            {"close", SYS_close}, {"process_vm_readv", SYS_process_vm_readv}, {"mount", SYS_mount},
        };

        static void die(const char *what) { perror(what); exit(1); }

        #ifdef __x86_64__
        #define RESULT(words) (words).rax
        #define POINTER(words) (words).rsp
        static void set(struct user_regs_struct *words, long number, const long *values)
        {
            words->orig_rax = number;
            words->rdi = values[0]; words->rsi = values[1]; words->rdx = values[2];
            words->r10 = values[3]; words->r8 = values[4]; words->r9 = values[5];
        }
        #else
        #define RESULT(words) (words).regs[0]
        #define POINTER(words) (words).sp
        static void set(struct user_regs_struct *words, long number, const long *values)
        {
            (void)number;
            for (int i = 0; i < 6; i++) words->regs[i] = values[i];
        }
        #endif

        static void stop_at_call(pid_t thread)
        {
            int status;
            do {
                if (ptrace(PTRACE_SYSCALL, thread, 0, 0) || waitpid(thread, &status, __WALL) != thread)
                    die("wait");
            } while (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80));
        }

        static int is_entry(pid_t thread)
        {
            struct __ptrace_syscall_info info;
            ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
            return info.op == PTRACE_SYSCALL_INFO_ENTRY;
        }

        int main(int count, char **arguments)
        {
            pid_t thread = atoi(arguments[1]);
            long number = -1, values[6] = {0};
            int status;
            for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
                if (!strcmp(calls[i].text, arguments[2])) number = calls[i].number;
            if (number < 0) return 2;
            if (ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACESYSGOOD)
                || ptrace(PTRACE_INTERRUPT, thread, 0, 0) || waitpid(thread, &status, __WALL) != thread)
                die("ptrace");
            do stop_at_call(thread); while (!is_entry(thread));
            struct user_regs_struct before, words;
            struct iovec part = {&before, sizeof before};
            ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &part);
            words = before;
            unsigned long place = POINTER(before) - 4096;
            for (int i = 3; i < count && i < 9; i++) {
                char *end;
                values[i - 3] = strtol(arguments[i], &end, 0);
                if (!*end) continue;
                struct iovec here = {arguments[i], strlen(arguments[i]) + 1};
                struct iovec there = {(void *)place, here.iov_len};
                if (process_vm_writev(thread, &here, 1, &there, 1, 0) < 0) die("write");
                values[i - 3] = place;
                place += 256;
            }
            set(&words, number, values);
            part.iov_base = &words;
            ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &part);
        #ifndef __x86_64__
            int call = number;
            struct iovec one = {&call, sizeof call};
            ptrace(PTRACE_SETREGSET, thread, 0x404 /* NT_ARM_SYSTEM_CALL */, &one);
        #endif
            do stop_at_call(thread); while (is_entry(thread));
            part.iov_base = &words;
            part.iov_len = sizeof words;
            ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &part);
            long result = RESULT(words);
            /* The call that it was about to make was interrupted, as by a signal: its loop asks again. */
            RESULT(before) = -EINTR;
            part.iov_base = &before;
            ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &part);
            ptrace(PTRACE_DETACH, thread, 0, 0);
            printf("%ld\\n", result);
            return 0;
        }

        """
}
