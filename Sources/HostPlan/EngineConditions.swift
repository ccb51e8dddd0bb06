// Conditions of what workers run on: `Condition.engine`.

import Settings

extension Condition {
    static let engine = [
        Condition(
            "io-uring",
            """
            Workers write by io_uring. Where `kernel.io_uring_disabled` or a seccomp profile refuses \
            it, each packet or coalesced run costs a system call.
            """, judge: ring),
        Condition(
            "locked-memory",
            """
            Linux before 5.11 counts the maps of BPF programs as locked memory, up to RLIMIT_MEMLOCK.
            """, judge: lockedMemory),
        Condition(
            "placement",
            """
            A worker is slowed by interrupts on its CPU, by memory or a NIC on another NUMA node, and \
            by a frequency governor that lowers the clock.
            """
        ) { examination in
            guard let placement = examination.facts.placement, placement.hasHardware else {
                return [.ok("the interfaces stand on no hardware of which the kernel tells")]
            }
            let findings = placement.findings(workers: examination.facts.cpus)
            guard findings.isEmpty else {
                return findings.map(slow)
            }
            return [.ok("CPUs, interrupts and memory of the workers are near one another")]
        },
        Condition(
            "clock",
            """
            A worker reads the clock for each batch. With a clock source outside of the CPU that is a \
            system call, and slow.
            """, judge: clock),
        Condition(
            "conntrack",
            """
            Connection tracking takes an entry for each connection. When its table is full, the kernel \
            drops packets of new connections.
            """, judge: conntrack),
    ]

    private static func slow(_ finding: Finding) -> Line {
        let effect = "Workers forward fewer packets"
        // Other remedies are words: a change of the configuration.
        let isCommand = finding.remedy.map { $0.hasPrefix("for ") || $0.hasPrefix("cpupower ") } ?? false
        let advice = isCommand ? nil : finding.remedy
        return .warning(
            finding.text, effect: effect + (advice.map { ": \($0)." } ?? "."),
            command: isCommand ? finding.remedy : nil)
    }

    private static func ring(_ examination: Examination) -> [Line] {
        let details = examination.details
        guard let refusal = details.ringRefusal else { return [.ok("io_uring works")] }
        let setting = details.sysctls["kernel/io_uring_disabled"] ?? "0"
        let effect = "Workers use plain writes: more CPU time per packet, the same verdicts."
        if setting != "0" {
            return [
                .warning(
                    "kernel.io_uring_disabled is \(setting)", effect: effect,
                    command: "sysctl -w kernel.io_uring_disabled=0")
            ]
        }
        let profile = details.isFiltered ? " A seccomp profile is in force here: let it allow io_uring." : ""
        return [.warning("io_uring is refused: \(refusal)", effect: effect + profile)]
    }

    private static func lockedMemory(_ examination: Examination) -> [Line] {
        let details = examination.details
        let numbers = details.kernel.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        let isCounted = numbers.count == 2 && (numbers[0], numbers[1]) < (5, 11)
        guard isCounted, let limit = details.lockedBytesMax, limit < 64 << 20 else {
            return [.ok("locked memory is no limit here (Linux \(details.kernel))")]
        }
        return [
            .warning(
                "Linux \(details.kernel) counts BPF maps as locked memory; RLIMIT_MEMLOCK is \(limit) bytes",
                effect: "The kernel may refuse the claim's program; then raw sockets claim frames.",
                command: "ulimit -l unlimited")
        ]
    }

    private static func clock(_ examination: Examination) -> [Line] {
        let details = examination.details
        guard let source = details.clockSource else { return [] }
        guard ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"].contains(source) else {
            return [.ok("the clock source is \(source)")]
        }
        let better = details.clockSources.first { ["tsc", "kvm-clock", "arch_sys_counter"].contains($0) }
        let folder = "/sys/devices/system/clocksource/clocksource0"
        return [
            .warning(
                "the clock source is \(source)", effect: "Each batch costs one more slow system call.",
                command: better.map { "echo \($0) >\(folder)/current_clocksource" })
        ]
    }

    private static func conntrack(_ examination: Examination) -> [Line] {
        guard let count = examination.number("net/netfilter/nf_conntrack_count"),
            let most = examination.number("net/netfilter/nf_conntrack_max"), most > 0
        else { return [.ok("connection tracking is not loaded")] }
        let fact = "connection tracking holds \(count) of at most \(most) entries"
        guard count * 10 >= most * 8 else { return [.ok(fact)] }
        let command = Examination.set("net/netfilter/nf_conntrack_max", most * 2)
        if count >= most {
            return [
                .problem(fact, effect: "The kernel drops the packets of new connections.", command: command)
            ]
        }
        return [
            .warning(
                fact, effect: "When the table is full, the kernel drops packets of new connections.",
                command: command)
        ]
    }
}
