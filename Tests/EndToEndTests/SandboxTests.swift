// What code that runs in the engine can do: it opens, connects and executes nothing.

import Foundation
import Glibc
import Testing

extension EndToEnd {
    @Suite struct SandboxTests {
        private static func status(_ process: pid_t) throws -> [String: String] {
            let text = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
            let pairs = text.split(separator: "\n").compactMap { line -> (String, String)? in
                let words = line.split(separator: ":", maxSplits: 1)
                return words.count == 2
                    ? (String(words[0]), words[1].trimmingCharacters(in: .whitespaces)) : nil
            }
            return Dictionary(uniqueKeysWithValues: pairs)
        }

        @Test func allThreadsHaveNoCapabilitiesAndAFilter() throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                let engine = try daemon.status().engineProcessID
                let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(engine)/task")
                #expect(threads.count >= 4)
                for thread in threads.compactMap(pid_t.init) {
                    let status = try Self.status(thread)
                    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                        #expect(status[set] == "0000000000000000", "\(status["Name"] ?? ""): \(set)")
                    }
                    #expect(status["NoNewPrivs"] == "1" && status["Seccomp"] == "2")
                }
                #expect(try daemon.metrics().sum("shuck_degraded", "what=\"sandbox\"") == 0)
                // Another one that replaces it is no freer.
                kill(engine, SIGKILL)
                try eventually("another engine") {
                    guard daemon.isReady else { return false }
                    return try daemon.status().engineProcessID != engine
                }
                let another = try Self.status(daemon.status().engineProcessID)
                #expect(another["CapEff"] == "0000000000000000" && another["Seccomp"] == "2")
            }
        }

        /// Each call is made in the engine's control thread. What is refused answers EPERM.
        @Test func whatIsNotListedFails() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let daemon = try Daemon.ready(rig)
                let engine = try daemon.status().engineProcessID
                let call = try ForeignCall(rig, thread: engine)
                // The way itself works.
                #expect(try call("getpid") == Int(engine))
                let file = rig.directory + "/written"
                let refused: [(String, [String])] = [
                    ("socket", ["17", "3", "768"]),  // AF_PACKET, SOCK_RAW, ETH_P_ALL
                    ("socket", ["2", "1", "0"]),
                    ("socket", ["1", "2", "0"]),
                    ("openat", ["-100", file, "\(O_WRONLY | O_CREAT)", "384"]),
                    ("openat", ["-100", "/etc/passwd", "\(O_RDWR)", "0"]),
                    ("openat", ["-100", "/dev/net/tun", "\(O_RDWR)", "0"]),
                    ("unlinkat", ["-100", daemon.socket, "0"]),
                    ("execve", ["/bin/true", "0", "0"]),
                    ("clone", ["17", "0", "0", "0", "0"]),  // SIGCHLD: a process
                    ("mmap", ["0", "4096", "7", "34", "-1", "0"]),  // readable, writable and code
                    ("io_uring_setup", ["4", "0"]),
                    ("connect", ["0", "0", "0"]),
                    ("setns", ["0", "0"]),
                    ("bpf", ["0", "0", "0"]),
                    ("kill", ["\(daemon.process.processID)", "9"]),
                    ("ptrace", ["16", "\(daemon.process.processID)", "0", "0"]),
                    ("process_vm_readv", ["\(daemon.process.processID)", "0", "0", "0", "0", "0"]),
                    ("mount", ["a", "b", "c", "0", "0"]),
                    ("prctl", ["22", "1", "0", "0", "0"]),
                ]
                for (name, arguments) in refused {
                    let result = try call(name, arguments)
                    #expect(result == Int(-EPERM), "\(name) \(arguments): \(result)")
                }
                #expect(!FileManager.default.fileExists(atPath: file))
                // What it needs it can do, and it goes on.
                let opened = try call("openat", ["-100", "/proc/self/stat", "0", "0"])
                #expect(opened > 2, "\(opened)")
                #expect(try call("close", ["\(opened)"]) == 0)
                try rig.waitForAnswer(Mode.ipip.vip, "by the same engine")
                #expect(try daemon.status().engineProcessID == engine)
            }
        }

        /// A host that refuses filters is told of, and forwards.
        @Test func aHostWithoutFiltersIsNamed() throws {
            try Rig.with { rig in
                try rig.serve(.pod, "echo")
                let helper = try rig.helper(
                    "unfiltered",
                    """
                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                    """)
                let daemon = try Daemon(rig, wrapper: [helper])
                try daemon.waitUntilReady()
                try daemon.waitForLine(
                    containing: "system calls are not filtered", String(cString: strerror(ENOSYS)))
                #expect(try daemon.metrics().sum("shuck_degraded", "what=\"sandbox\"") == 1)
                try rig.waitForAnswer(Mode.ipip.vip, "without a filter")
                #expect(try daemon.stop().status == 0)
            }
        }
    }
}
