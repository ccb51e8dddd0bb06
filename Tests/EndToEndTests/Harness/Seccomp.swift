// A command that runs another with some system calls refused, as containers' profiles do.

import Foundation

extension Rig {
    /// Builds a program that runs its arguments under a filter.
    /// - Parameter rules: lines of seccomp's BPF in C; what they let through is allowed.
    func helper(_ name: String, _ rules: String) throws -> String {
        let path = directory + "/" + name
        let source = """
            #include <errno.h>
            #include <linux/filter.h>
            #include <linux/seccomp.h>
            #include <stddef.h>
            #include <sys/prctl.h>
            #include <sys/syscall.h>
            #include <unistd.h>

            int main(int count, char **arguments)
            {
                struct sock_filter code[] = {
                    \(rules)
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                };
                struct sock_fprog filter = { sizeof code / sizeof *code, code };
                if (count < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                    || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
                    return 99;
                execvp(arguments[1], arguments + 1);
                return 98;
            }

            """
        return try compile(source, to: path)
    }

    /// Compiles a C program.
    /// - Returns: its path.
    func compile(_ source: String, to path: String) throws -> String {
        try source.write(toFile: path + ".c", atomically: false, encoding: .utf8)
        // Swift brings a C compiler with it; it need not be in the path.
        let compile = """
            PATH=$(dirname "$(readlink -f "$(command -v swift)")"):$PATH
            exec clang -Wall -Werror -o "$0" "$0.c"
            """
        try launch(["sh", "-c", compile, path]).wait().get()
        return path
    }
}
