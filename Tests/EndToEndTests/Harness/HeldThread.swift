// A thread of another process that is stopped for as long as this is held, as by a debugger.

import Foundation
import Testing

final class HeldThread {
    private let holder: RunningCommand

    /// - Parameter name: the thread's, as /proc/PID/task/TID/comm has it.
    init(_ rig: Rig, of process: pid_t, name: String) throws {
        let folder = "/proc/\(process)/task"
        let threads = try FileManager.default.contentsOfDirectory(atPath: folder)
        guard
            let thread = threads.first(where: { thread in
                let text = try? String(contentsOfFile: "\(folder)/\(thread)/comm", encoding: .utf8)
                return text?.trimmingCharacters(in: .newlines) == name
            })
        else { throw Failure("process \(process) has no thread \(name)") }
        let holder = try rig.start(.node, [Self.build(rig), thread])
        self.holder = holder
        try eventually("\(name) to stand still") {
            guard holder.isRunning else { throw Failure("not held: \(holder.errors)") }
            return holder.output == "held\n"
        }
    }

    /// The kernel lets a thread go on whose tracer ends.
    func release() { holder.end() }

    private static func build(_ rig: Rig) throws -> String {
        let path = rig.directory + "/hold"
        let source = """
            #define _GNU_SOURCE
            #include <stdio.h>
            #include <stdlib.h>
            #include <sys/ptrace.h>
            #include <sys/wait.h>

            int main(int count, char **arguments)
            {
                pid_t thread = count > 1 ? atoi(arguments[1]) : 0;
                int status;
                if (ptrace(PTRACE_SEIZE, thread, 0, 0) || ptrace(PTRACE_INTERRUPT, thread, 0, 0)
                    || waitpid(thread, &status, __WALL) != thread) {
                    perror("ptrace");
                    return 1;
                }
                puts("held");
                fflush(stdout);
                /* Its end is ours to see: until then its process is not reaped. */
                while (waitpid(thread, &status, __WALL) == thread && !WIFEXITED(status)
                       && !WIFSIGNALED(status))
                    ;
                return 0;
            }

            """
        return try rig.compile(source, to: path)
    }
}
