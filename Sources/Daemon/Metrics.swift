// Prometheus series from the workers' counters, and their text form (exposition format 0.0.4).

import Forwarding
import Routing
import Settings

/// A metric's name and labels: what a value stands under.
struct Series: Hashable, Comparable {
    struct Label: Hashable {
        let name: String
        let value: String
    }

    let name: String
    let labels: [Label]

    init(_ name: String, _ labels: KeyValuePairs<String, String> = [:]) {
        self.name = name
        self.labels = labels.map { Label(name: $0.key, value: $0.value) }
    }

    subscript(label: String) -> String? { labels.first { $0.name == label }?.value }

    var text: String {
        if labels.isEmpty { return name }
        let pairs = labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }
        return name + "{" + pairs.joined(separator: ",") + "}"
    }

    private static func escaped(_ value: String) -> String {
        value.reduce(into: "") { text, character in
            switch character {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.append(character)
            }
        }
    }

    static func < (left: Series, right: Series) -> Bool {
        left.name != right.name ? left.name < right.name : left.text < right.text
    }
}

/// Sums that never go down, also when a reload brings new tunnels. Series by tunnel, device or
/// reason are there once they counted something: most combinations never do.
typealias Totals = [Series: UInt64]

extension Totals {
    /// Adds what one worker counted under one policy.
    mutating func add(_ values: CounterValues, worker: Int, configuration: Configuration) {
        let worker = "\(worker)"
        let singles: [(String, CounterBlock.Single)] = [
            ("shuck_received_packets_total", .received), ("shuck_passed_packets_total", .passed),
            ("shuck_held_packets_total", .held), ("shuck_mss_clamped_total", .clamped),
            ("shuck_mss_unclamped_total", .unclamped), ("shuck_injected_writes_total", .writes),
            ("shuck_refused_joins_total", .refusedJoins),
            ("shuck_rewritten_answers_total", .answersSent),
            ("shuck_rewritten_answer_failures_total", .answersFailed),
        ]
        for (name, single) in singles {
            self[Series(name, ["worker": worker]), default: 0] += values[single]
        }
        let failures: [(String, CounterBlock.Single)] = [
            (DropReason.fragmentOverlap.name, .reassemblyOverlap),
            (DropReason.fragmentMemoryLimit.name, .reassemblyMemory),
            ("frag_reasm_timeout", .reassemblyTimeout),
        ]
        for (reason, single) in failures {
            let series = Series("shuck_reassembly_failures_total", ["reason": reason])
            self[series, default: 0] += values[single]
        }
        addInjected(values, worker, configuration)
        addRefused(values, worker, configuration)
        for inner in 0..<4 {
            for outer in 0..<4 {
                let series = Series(
                    "shuck_ecn_cells_total",
                    ["inner": Self.codepoints[inner], "outer": Self.codepoints[outer]])
                self[series, default: 0] += values.values[values.shape.cells + inner << 2 + outer]
            }
        }
        for (index, labels) in configuration.destinationLabels.enumerated() {
            let series = Series("shuck_destination_packets_total", labels)
            self[series, default: 0] += values.values[values.shape.destination + index]
        }
    }

    private static var codepoints: [String] { ["not-ect", "ect1", "ect0", "ce"] }

    private mutating func addInjected(
        _ values: CounterValues, _ worker: String, _ configuration: Configuration
    ) {
        let shape = values.shape
        for (tunnel, name) in configuration.tunnels.map(\.name).enumerated() {
            for mode in Mode.allCases + [.native] {
                for (device, deviceName) in configuration.devices.map(\.name).enumerated() {
                    let index = shape.injectIndex(
                        tunnel: UInt16(tunnel), mode: mode, device: UInt16(device))
                    guard values.values[index] > 0 else { continue }
                    let labels: KeyValuePairs = [
                        "worker": worker, "tunnel": name, "mode": mode.name, "device": deviceName,
                    ]
                    self[Series("shuck_injected_packets_total", labels), default: 0] += values.values[index]
                    self[Series("shuck_injected_bytes_total", labels), default: 0] +=
                        values.values[index - shape.injected + shape.injectedBytes]
                }
            }
        }
    }

    private mutating func addRefused(
        _ values: CounterValues, _ worker: String, _ configuration: Configuration
    ) {
        let shape = values.shape
        // A drop that names no tunnel (cut before its addresses) has an empty label.
        let tunnels = configuration.tunnels.map(\.name) + [""]
        for reason in DropReason.allCases where reason != .none {
            for (tunnel, name) in tunnels.enumerated() {
                let number = tunnel == tunnels.count - 1 ? Verdict.noIndex : UInt16(tunnel)
                add(
                    values.values[shape.dropIndex(tunnel: number, reason: reason)],
                    "shuck_dropped_packets_total",
                    ["worker": worker, "tunnel": name, "reason": reason.name])
            }
            add(
                values.values[shape.replied + Int(reason.rawValue)], "shuck_replied_packets_total",
                ["worker": worker, "reason": reason.name])
        }
    }

    private mutating func add(
        _ value: UInt64, _ name: String, _ labels: KeyValuePairs<String, String>
    ) {
        if value > 0 { self[Series(name, labels), default: 0] += value }
    }

    func sum(_ name: String, where matches: (Series) -> Bool = { _ in true }) -> UInt64 {
        reduce(0) { $0 + ($1.key.name == name && matches($1.key) ? $1.value : 0) }
    }
}

extension Configuration {
    /// Labels of each destination rule, in the order that verdicts count them.
    var destinationLabels: [KeyValuePairs<String, String>] {
        tunnels.flatMap { tunnel in
            tunnel.destinations.map { destination in
                let ports = destination.ports.map {
                    $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
                }
                return [
                    "tunnel": tunnel.name, "destination": destination.prefix.text,
                    "protocol": destination.protocolNumber.map { "\($0)" } ?? "any",
                    "ports": ports.isEmpty ? "any" : ports.joined(separator: ","),
                ]
            }
        }
    }
}

enum MetricsPage {
    private static let help: [(name: String, type: String, help: String)] = [
        ("shuck_build_info", "gauge", "Build information; the value is always 1."),
        (
            "shuck_claim", "gauge",
            "1 for what `consume` asks for on an interface and what keeps the kernel from answering there."
        ),
        ("shuck_config_generation", "gauge", "Configurations accepted since the start."),
        ("shuck_config_last_reload_successful", "gauge", "1 if the last reload was applied."),
        (
            "shuck_config_last_reload_success_timestamp_seconds", "gauge",
            "When a configuration was last applied, Unix time."
        ),
        (
            "shuck_config_last_reload_timestamp_seconds", "gauge",
            "When a reload was last tried, applied or not, Unix time."
        ),
        (
            "shuck_degraded", "gauge",
            "1 while a fallback is in use, something is absent, or what shuck set was changed."
        ),
        ("shuck_destination_packets_total", "counter", "Injected packets by destination rule."),
        ("shuck_device_up", "gauge", "1 if the device is there and up."),
        ("shuck_dropped_packets_total", "counter", "Frames that were ours and refused."),
        ("shuck_ecn_cells_total", "counter", "Inner and outer ECN codepoints of judged packets."),
        ("shuck_held_packets_total", "counter", "Outer fragments kept for their datagram."),
        ("shuck_injected_bytes_total", "counter", "Bytes of injected inner packets."),
        ("shuck_injected_packets_total", "counter", "Inner packets that a device took."),
        ("shuck_injected_writes_total", "counter", "Writes to devices."),
        (
            "shuck_log_lines_dropped_total", "counter",
            "Lines of the log that standard error did not take."
        ),
        ("shuck_mss_clamped_total", "counter", "SYN segments whose MSS was lowered."),
        (
            "shuck_mss_replies_bytes", "gauge",
            "Lowest MSS that the kernel lets pods answer with, by tunnel and inner family."
        ),
        ("shuck_mss_unclamped_total", "counter", "SYN segments whose options do not parse."),
        ("shuck_interface_up", "gauge", "1 if the interface is there, up, and received from."),
        ("shuck_passed_packets_total", "counter", "Frames that are not ours: left to the kernel."),
        ("shuck_ready", "gauge", "1 if /readyz answers 200."),
        (
            "shuck_reassembly_failures_total", "counter",
            "Outer datagrams given up before they were whole."
        ),
        ("shuck_received_packets_total", "counter", "Frames taken from the rings."),
        (
            "shuck_refused_joins_total", "counter",
            "Joined packets that a device refused: written singly instead."
        ),
        ("shuck_replied_packets_total", "counter", "Refused frames answered with an ICMP error."),
        (
            "shuck_rewritten_answer_failures_total", "counter",
            "Answers to rewritten probes that the kernel did not send."
        ),
        (
            "shuck_rewritten_answers_total", "counter",
            "Answers to rewritten probes, sent to where the probe came from."
        ),
        (
            "shuck_ring_dropped_packets_total", "counter",
            "Frames that the kernel had no room for: never received."
        ),
        ("shuck_routes", "gauge", "Routes in the mirror."),
        (
            "shuck_routes_age_seconds", "gauge",
            "Seconds since the route table last matched the kernel's; 0 when in sync."
        ),
        ("shuck_routes_changes_total", "counter", "Changes of single routes that were followed."),
        (
            "shuck_routes_resyncs_total", "counter",
            "Dumps after the first: notices lost, links or nexthops changed, or a mirror unlike."
        ),
        ("shuck_rules", "gauge", "Policy rules in the mirror."),
        ("shuck_worker_busy_seconds_total", "counter", "CPU time of the worker's thread."),
        (
            "shuck_worker_last_progress_timestamp_seconds", "gauge",
            "When the worker last finished a batch, Unix time; 0 before its first."
        ),
        ("process_resident_memory_bytes", "gauge", "Resident memory, rings included."),
        ("process_cpu_seconds_total", "counter", "CPU time of all threads."),
        ("process_open_fds", "gauge", "Open file descriptors."),
        ("process_start_time_seconds", "gauge", "When the process started, Unix time."),
    ]

    static func text(_ snapshot: Snapshot) -> String {
        var values = snapshot.totals().mapValues { Double($0) }
        for (series, value) in snapshot.gauges() { values[series] = value }
        var page = ""
        let byName = Dictionary(grouping: values.keys, by: \.name)
        for entry in help {
            guard let series = byName[entry.name] else { continue }
            page += "# HELP \(entry.name) \(entry.help)\n# TYPE \(entry.name) \(entry.type)\n"
            for (text, value) in series.map({ ($0.text, values[$0] ?? 0) }).sorted(by: { $0.0 < $1.0 }) {
                page += "\(text) \(number(value))\n"
            }
        }
        return page
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
    }
}
