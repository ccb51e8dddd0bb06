// Every metric: its name, help and labels, and where its values come from. /metrics, status and the table
// in docs/counters.md come from it.

import Forwarding
import HostPlan
import Settings

/// What one worker counted under one policy.
struct Counted {
    let values: CounterBlock.Values
    let worker: String
    let configuration: Configuration

    /// Counters of a part of the block that are not 0.
    fileprivate subscript(_ range: Range<Int>) -> [(offset: Int, count: UInt64)] {
        values.values[range].enumerated().filter { $0.element > 0 }.map { ($0.offset, $0.element) }
    }
}

struct Metric: Sendable {
    enum Source: Sendable {
        /// One series per worker.
        case single(CounterBlock.Single)
        /// What workers count: sums over policies, and over workers where `worker` is no label.
        case counted(@Sendable (Counted) -> [([String], UInt64)])
        /// What is so at this moment: one series, or one for each value of the labels.
        case value(@Sendable (Scrape) -> Double)
        case each(@Sendable (Scrape) -> [([String], Double)])
    }

    let name: String
    let help: String
    let labels: [String]
    let source: Source
    /// A counter's name says so, as in all of Prometheus.
    var isCounter: Bool { name.hasSuffix("_total") }

    fileprivate init(_ name: String, _ help: String, _ labels: [String], _ source: Source) {
        (self.name, self.help, self.labels, self.source) = (name, help, labels, source)
    }

    fileprivate init(_ name: String, _ help: String, _ source: Source) {
        let isSingle = if case .single = source { true } else { false }
        self.init(name, help, isSingle ? ["worker"] : [], source)
    }
}

// MARK: - What status shows, too

extension Metric {
    static let received = Metric(
        "shuck_received_packets_total", "Frames taken from the rings.", .single(.received))
    static let passed = Metric(
        "shuck_passed_packets_total", "Frames not for us, left to the kernel.", .single(.passed))
    static let held = Metric(
        "shuck_held_packets_total", "Outer fragments kept for their datagram.", .single(.held))
    static let clamped = Metric(
        "shuck_mss_clamped_total", "SYN segments whose MSS was lowered.", .single(.clamped))
    static let writes = Metric("shuck_injected_writes_total", "Writes to devices.", .single(.writes))
    static let injected = Metric(
        "shuck_injected_packets_total", "Inner packets that a device took.",
        ["worker", "tunnel", "mode", "device"], .counted { $0.injected(from: $0.values.shape.injected) })
    static let injectedBytes = Metric(
        "shuck_injected_bytes_total", "Bytes of injected inner packets.",
        ["worker", "tunnel", "mode", "device"], .counted { $0.injected(from: $0.values.shape.injectedBytes) })
    static let dropped = Metric(
        "shuck_dropped_packets_total", "Frames for us that were refused, by reason.",
        ["worker", "tunnel", "reason"],
        .counted { counted in
            let shape = counted.values.shape
            return counted[shape.dropped..<shape.injected].map { offset, count in
                let (tunnel, reason) = offset.quotientAndRemainder(dividingBy: DropReason.allCases.count)
                // A drop that names no tunnel (cut before its addresses) has an empty label.
                let name = tunnel < shape.tunnels ? counted.configuration.tunnels[tunnel].name : ""
                return ([counted.worker, name, DropReason.name(reason)], count)
            }
        })
    static let replied = Metric(
        "shuck_replied_packets_total", "Refused frames answered with an ICMP error.", ["worker", "reason"],
        .counted { counted in
            counted[counted.values.shape.replied..<counted.values.shape.dropped].map {
                ([counted.worker, DropReason.name($0)], $1)
            }
        })
}

extension DropReason {
    fileprivate static func name(_ number: Int) -> String { DropReason(rawValue: UInt8(number))?.name ?? "" }
}

extension Counted {
    fileprivate func injected(from start: Int) -> [([String], UInt64)] {
        let shape = values.shape
        return self[start..<start + shape.tunnels * Mode.count * shape.devices].map { offset, count in
            let (row, device) = offset.quotientAndRemainder(dividingBy: shape.devices)
            let (tunnel, mode) = row.quotientAndRemainder(dividingBy: Mode.count)
            let labels = [
                worker, configuration.tunnels[tunnel].name, Mode(rawValue: UInt8(mode))?.name ?? "",
                configuration.devices[device].name,
            ]
            return (labels, count)
        }
    }

    /// Each rule, in the order that verdicts count them.
    fileprivate func destinations() -> [([String], UInt64)] {
        var counts = values.values[values.shape.destination...]
        return configuration.tunnels.flatMap { tunnel in
            tunnel.destinations.map { rule in
                let labels = [
                    tunnel.name, rule.prefix.text, rule.protocolNumber.map { "\($0)" } ?? "any",
                    rule.ports.isEmpty ? "any" : rule.portsText,
                ]
                return (labels, counts.popFirst() ?? 0)
            }
        }
    }
}

// MARK: - All, in the order of the page

extension Metric {
    static let all: [Metric] = configuration + parts + packets + routes + workers + process

    private static let configuration: [Metric] = [
        Metric(
            "shuck_build_info", "Build information; the value is always 1.", ["version", "revision"],
            .each { _ in [([Build.version, "release"], 1)] }),
        Metric(
            "shuck_config_generation", "Configurations accepted since the start.",
            .value { Double($0.state.configurations) }),
        Metric(
            "shuck_config_last_reload_successful", "1 if the last reload was applied.",
            .value { $0.state.lastReloadSuccessful ? 1 : 0 }),
        Metric(
            "shuck_config_last_reload_success_timestamp_seconds",
            "When a configuration was last applied, Unix time.", .value { $0.state.lastAppliedUnix }),
        Metric(
            "shuck_config_last_reload_timestamp_seconds",
            "When a reload was last tried, applied or not, Unix time.", .value { $0.state.lastReloadUnix }),
    ]

    private static let parts: [Metric] = [
        Metric(
            "shuck_claim",
            "What `consume` asks for and what is active on an interface; the value is always 1.",
            ["interface", "asked", "active"],
            .each { scrape in
                scrape.view.interfaces.map {
                    ([$0.name, $0.claimAsked.rawValue, $0.claimActive.rawValue], 1)
                }
            }),
        Metric(
            "shuck_degraded",
            "1 while a fallback is in use, something is absent, or what shuck set was changed.",
            ["what"],
            .each { scrape in
                let short = Set(scrape.view.findings.map(\.what))
                return Finding.What.allCases.map { ([$0.rawValue], short.contains($0) ? 1 : 0) }
            }),
        Metric(
            "shuck_device_up", "1 if the device exists and is up.", ["device"],
            .each { $0.view.devices.map { ([$0.name], $0.state == .up ? 1 : 0) } }),
        Metric(
            "shuck_interface_up", "1 if the interface exists, is up and is received from.", ["interface"],
            .each { $0.view.interfaces.map { ([$0.name], $0.state == .receiving ? 1 : 0) } }),
        Metric(
            "shuck_log_lines_dropped_total", "Log lines that standard error did not take.",
            .value { Double($0.view.logLinesDropped) }),
        Metric(
            "shuck_mss_replies_bytes", "Lowest MSS that the kernel lets pods answer with, by inner family.",
            ["tunnel", "family"],
            .each { scrape in
                guard scrape.view.replies.active != .off else { return [] }
                let links = scrape.state.links.byName
                return SynAckClamp.lowest(scrape.state.configuration, mtu: { links[$0]?.mtu }).map {
                    ([$0.tunnel, $0.isIPv4 ? "ipv4" : "ipv6"], Double($0.bytes))
                }
            }),
        Metric("shuck_ready", "1 if /readyz answers 200.", .value { $0.view.unreadiness.isEmpty ? 1 : 0 }),
    ]

    private static let packets: [Metric] = [
        Metric(
            "shuck_destination_packets_total", "Injected packets by destination rule.",
            ["tunnel", "destination", "protocol", "ports"], .counted { $0.destinations() }),
        dropped,
        Metric(
            "shuck_ecn_cells_total", "Inner and outer ECN codepoints of judged packets.", ["inner", "outer"],
            .counted { counted in
                let (names, first) = (["not-ect", "ect1", "ect0", "ce"], counted.values.shape.cells)
                return (0..<16).map { ([names[$0 >> 2], names[$0 & 3]], counted.values.values[first + $0]) }
            }),
        held, injectedBytes, injected, writes, clamped,
        Metric(
            "shuck_mss_unclamped_total", "SYN segments whose TCP options cannot be parsed.",
            .single(.unclamped)),
        passed,
        Metric(
            "shuck_reassembly_failures_total", "Outer datagrams given up before they were whole.", ["reason"],
            .counted {
                [
                    ([DropReason.fragmentOverlap.name], $0.values[.reassemblyOverlap]),
                    ([DropReason.fragmentMemoryLimit.name], $0.values[.reassemblyMemory]),
                    (["frag_reasm_timeout"], $0.values[.reassemblyTimeout]),
                ]
            }),
        received,
        Metric(
            "shuck_refused_joins_total", "Joined packets that a device refused, written one by one instead.",
            .single(.refusedJoins)),
        replied,
        Metric(
            "shuck_rewritten_answer_failures_total",
            "Answers to rewritten probes that the kernel did not send.",
            .single(.answersFailed)),
        Metric(
            "shuck_rewritten_answers_total", "Answers to rewritten probes, sent to the prober.",
            .single(.answersSent)),
        Metric(
            "shuck_engine_restarts_total",
            "How often the process that forwards ended by itself and was started again.",
            .value { Double($0.state.engineRestarts) }),
        Metric(
            "shuck_repeated_packets_total",
            "Frames of batches that a killed process had begun: they may have been injected twice.",
            .value { Double($0.state.repeated) }),
        Metric(
            "shuck_skipped_packets_total",
            "Frames of a batch in which two processes were killed: thrown away, and kept in a capture.",
            .value { Double($0.state.skipped) }),
        Metric(
            "shuck_ring_dropped_packets_total", "Frames that the kernel had no room for: never received.",
            ["worker"], .each { $0.counts.workers.map { (["\($0.number)"], Double($0.ringDropped)) } }),
        Metric(
            "shuck_capture_dropped_packets_total",
            "Packets that `shuck capture` was to show and had no room for; they were forwarded all the same.",
            ["worker"], .each { $0.counts.workers.map { (["\($0.number)"], Double($0.captureDropped)) } }),
    ]

    private static let routes: [Metric] = [
        Metric(
            "shuck_routes", "Routes in the route table.", ["family"],
            .each {
                [
                    (["ipv4"], Double($0.state.routes.countIPv4)),
                    (["ipv6"], Double($0.state.routes.countIPv6)),
                ]
            }),
        Metric(
            "shuck_routes_age_seconds",
            "Seconds since the route table last matched the kernel's; 0 when in sync.",
            .value { $0.state.routes.age }),
        Metric(
            "shuck_routes_changes_total", "Changes of single routes that were applied.",
            .value { Double($0.state.routes.changes) }),
        Metric(
            "shuck_routes_resyncs_total", "Route dumps after the first, by cause.", ["reason"],
            .each { $0.state.routes.resyncs.map { ([$0.key.rawValue], Double($0.value)) } }),
        Metric("shuck_rules", "Policy rules in the route table.", .value { Double($0.state.routes.rules) }),
    ]

    private static let workers: [Metric] = [
        Metric(
            "shuck_worker_busy_seconds_total", "CPU time of the worker's thread.", ["worker"],
            .each { $0.counts.workers.map { (["\($0.number)"], $0.cpuSeconds) } }),
        Metric(
            "shuck_worker_last_progress_timestamp_seconds",
            "When the worker last finished a batch, Unix time; 0 before its first.", ["worker"],
            .each { $0.counts.workers.map { (["\($0.number)"], $0.lastProgressUnix) } }),
    ]

    private static let process: [Metric] = [
        Metric(
            "process_resident_memory_bytes", "Resident memory, rings included.",
            .value { Double($0.usage.residentBytes) }),
        Metric("process_cpu_seconds_total", "CPU time of all threads.", .value { $0.usage.cpuSeconds }),
        Metric("process_open_fds", "Open file descriptors.", .value { Double($0.usage.descriptors) }),
        Metric(
            "process_start_time_seconds", "When the process started, Unix time.",
            .value { $0.state.startedUnix }),
    ]
}
