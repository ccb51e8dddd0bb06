// What the daemon says of itself: read by the admin endpoint, rendered as status and as metrics.

import Forwarding
import Foundation
import HostPlan
import LinuxIO
import Routing
import Settings

public enum Build {
    public static let version = "0.1.0"
}

/// One screen of facts, also `shuck status --json`. Times in seconds.
public struct StatusReport: Codable, Sendable {
    public struct Interface: Codable, Sendable {
        public var name: String
        /// receiving, down, or absent
        public var state: String
        public var mtu: Int
        public var reversePath: String
        /// What `consume` asks for, and what holds.
        public var claimAsked: String
        public var claimActive: String
        public var ringSlots: Int
        public var slotBytes: Int
        /// NUMA nodes of the hardware that it stands on; empty for a virtual one.
        public var nodes: [Int]?
    }
    public struct Device: Codable, Sendable {
        public var name: String
        /// up, down, or absent
        public var state: String
        /// Path of the namespace that it stands in; nil: the daemon's own.
        public var netns: String?
        public var mtu: Int
        public var queues: Int
        public var offloads: [String]
        /// Protocols whose segments are joined for it.
        public var joins: [String]
    }
    /// The clamp of what pods answer.
    public struct Replies: Codable, Sendable {
        /// What `mss.replies` asks for: off or nft.
        public var asked: String
        /// What holds: off, nft, or stale: nft with the rules of before a change.
        public var active: String
        /// Name of the table of family inet.
        public var table: String?
    }
    public struct WorkerReport: Codable, Sendable {
        public var worker: Int
        public var cpu: Int
        public var node: Int?
        public var state: String
        public var received: UInt64
        public var ringDropped: UInt64
        public var cpuSeconds: Double
        /// Of its rings' and buffers' pages, those on another NUMA node than its CPU; nil where
        /// the host has one node only.
        public var pagesElsewhere: Int?
    }
    public struct Packets: Codable, Sendable {
        public var received: UInt64
        public var injected: UInt64
        public var passed: UInt64
        public var held: UInt64
        public var dropped: UInt64
        public var replied: UInt64
        public var injectedBytes: UInt64
        public var writes: UInt64
        public var ringDropped: UInt64
        public var mssClamped: UInt64
    }
    public struct Drop: Codable, Sendable {
        /// Seconds since it came.
        public var age: Double
        public var interface: String
        /// Addresses, ports and protocols, outer header first.
        public var packet: String
    }
    public var version: String
    /// Whether it forwards as asked, and where it does not; what `/readyz` says.
    public var ready: Bool
    public var notReady: [String]
    public var processID: Int32
    public var uptime: Double
    public var mode: String
    public var configurationFile: String
    /// Configurations accepted since the start.
    public var generation: UInt64
    /// Changes of policy, routes, links or devices that the workers were handed.
    public var publications: UInt64?
    public var lastReloadSuccessful: Bool
    public var lastReloadProblems: [String]
    public var engine: String
    public var joining: String
    public var interfaces: [Interface]
    public var devices: [Device]
    public var mssReplies: Replies
    public var tunnels: [String]
    public var workers: [WorkerReport]
    public var routesIPv4: Int
    public var routesIPv6: Int
    public var rules: Int
    /// Seconds since the mirror was the kernel's; 0: it is.
    public var routesAge: Double
    /// Dumps after the first, by why: lost, links, nexthops or unlike.
    public var routesResyncs: [String: UInt64]
    public var packets: Packets
    public var dropsByReason: [String: UInt64]
    /// The last frame that was refused, by reason.
    public var lastDrops: [String: Drop]?
    public var injectedByMode: [String: UInt64]
    /// Where what is active falls short of what was asked for.
    public var notes: [String]
    /// What slows the workers where they stand: interrupts, NUMA nodes, frequency governors.
    public var placement: [String]?
}

/// A view of the daemon at one moment. The admin threads hold it; the control thread makes it.
struct Snapshot: @unchecked Sendable {
    // @unchecked: what it refers to is immutable, atomic, or read under the owner's lock.
    struct WorkerState {
        let number: Int
        let cpu: Int
        let thread: WorkerThread
        let mailbox: Mailbox
        let memory: NamedMemory
        var counters: CounterBlock
        var examples: DropExamples

        /// It did not look at its mailbox for so long that something must hold it.
        var isStill: Bool { mailbox.silence > Timing.stillNanoseconds }
    }

    /// Counters of an earlier policy that a worker may still write.
    struct ReplacedCounters {
        /// The first generation that does without them.
        let generation: UInt64
        let worker: Int
        let counters: CounterBlock
        let configuration: Configuration
    }

    var configurationFile: String
    var configuration: Configuration
    /// Accepted since the start.
    var configurations: UInt64 = 1
    /// Of what the workers are handed; see `Assignment.generation`.
    var generation: UInt64
    /// Equal, one on each node that has workers.
    var worlds: [World]
    var links: [Link]
    var routes: RouteStatus
    var plumbing: Plumbing
    var workers: [WorkerState]
    let pulse = Pulse()
    var replacedCounters: [ReplacedCounters] = []
    /// What earlier policies' counters came to.
    var retired: Totals
    /// Frames that closed rings lost, by worker.
    var retiredRingDrops: [Int: UInt64]
    var startedNanoseconds: UInt64
    var startedUnix: Double
    var lastReloadSuccessful = true
    var lastAppliedUnix: Double
    var lastReloadUnix: Double
    var lastReloadProblems: [String] = []
    var warnings: [String]
    /// What others changed on the host, and what it lacks.
    var host: [Finding] = []
    var isStopping = false

    var world: World { worlds[0] }

    func totals() -> Totals {
        var totals = retired
        for worker in workers {
            let values = worker.counters.read()
            totals.add(values, worker: worker.number, configuration: configuration)
            let series = Series("shuck_ring_dropped_packets_total", ["worker": "\(worker.number)"])
            totals[series, default: 0] += ringDrops(worker.number) + values[.truncated]
        }
        for old in replacedCounters {
            totals.add(old.counters.read(), worker: old.worker, configuration: old.configuration)
        }
        return totals
    }

    private func ringDrops(_ worker: Int) -> UInt64 {
        let truncated = replacedCounters.lazy.filter { $0.worker == worker }
            .reduce(retiredRingDrops[worker] ?? 0) { $0 + $1.counters.read()[.truncated] }
        return plumbing.interfaces.reduce(truncated) {
            $0 + $1.rings[worker].droppedByKernel()
        }
    }

    func gauges() -> [Series: Double] {
        var gauges: [Series: Double] = [
            Series("shuck_build_info", ["version": Build.version, "revision": "release"]): 1,
            Series("shuck_config_generation"): Double(configurations),
            Series("shuck_config_last_reload_successful"): lastReloadSuccessful ? 1 : 0,
            Series("shuck_config_last_reload_success_timestamp_seconds"): lastAppliedUnix,
            Series("shuck_config_last_reload_timestamp_seconds"): lastReloadUnix,
            Series("shuck_ready"): unreadiness().isEmpty ? 1 : 0,
            Series("shuck_routes", ["family": "ipv4"]): Double(routes.countIPv4),
            Series("shuck_routes", ["family": "ipv6"]): Double(routes.countIPv6),
            Series("shuck_rules"): Double(routes.rules),
            Series("shuck_routes_age_seconds"): routes.age,
            Series("shuck_log_lines_dropped_total"): Double(LogSink.standardError.droppedLines),
            Series("process_start_time_seconds"): startedUnix,
        ]
        for (reason, count) in routes.resyncs {
            gauges[Series("shuck_routes_resyncs_total", ["reason": reason])] = Double(count)
        }
        gauges[Series("shuck_routes_changes_total")] = Double(routes.changes)
        for interface in configuration.interfaces {
            gauges[Series("shuck_interface_up", ["interface": interface])] =
                state(ofInterface: interface) == .receiving ? 1 : 0
            gauges[
                Series(
                    "shuck_claim",
                    [
                        "interface": interface, "asked": configuration.consume.rawValue,
                        "active": activeClaim(interface),
                    ])] = 1
        }
        for device in devices() {
            gauges[Series("shuck_device_up", ["device": device.name])] =
                device.state == "up" ? 1 : 0
        }
        if plumbing.replyTable != nil {
            let mtus = Dictionary(links.map { ($0.name, $0.mtu) }, uniquingKeysWith: { $1 })
            for bound in ReplyRules.lowest(configuration, mtu: { mtus[$0] }) {
                let family = bound.isIPv4 ? "ipv4" : "ipv6"
                let labels: KeyValuePairs = ["tunnel": bound.tunnel, "family": family]
                gauges[Series("shuck_mss_replies_bytes", labels)] = Double(bound.bytes)
            }
        }
        let short = Set(findings().map(\.what))
        for what in Finding.What.allCases {
            gauges[Series("shuck_degraded", ["what": what.rawValue])] = short.contains(what) ? 1 : 0
        }
        for worker in workers {
            let label: KeyValuePairs = ["worker": "\(worker.number)"]
            gauges[Series("shuck_worker_busy_seconds_total", label)] =
                Double(worker.thread.cpuNanoseconds()) / 1e9
            gauges[Series("shuck_worker_last_progress_timestamp_seconds", label)] =
                Self.unixSeconds(ofMonotonic: worker.counters.read()[.lastProgress])
        }
        let usage = Host.processUsage()
        gauges[Series("process_resident_memory_bytes")] = Double(usage.residentBytes)
        gauges[Series("process_cpu_seconds_total")] = usage.cpuSeconds
        gauges[Series("process_open_fds")] = Double(usage.descriptors)
        return gauges
    }

    /// Reasons why this instance is not forwarding as asked; empty when it is.
    func unreadiness() -> [String] {
        (isStopping ? ["shuck is stopping"] : [])
            + findings().filter(\.isBlocking).map(\.description) + unhealthiness()
    }

    /// Everything that falls short of what was asked for.
    func findings() -> [Finding] {
        let all: [[Finding]] = [
            absentInterfaces(), absentDevices(), host, plumbing.findings(configuration),
            refusedOffloads(), lateMirror(), staleReplies(), lostClaims(), hinderedWorkers(),
            lostLogLines(), doubleInterfaces(),
        ]
        return all.flatMap { $0 }
    }

    /// Links that were stacked while shuck ran: traffic goes on, but each packet arrives twice.
    private func doubleInterfaces() -> [Finding] {
        configuration.doubleInterfaces(links).map {
            Finding(what: .interface, subject: $0.name, text: $0.text, severity: .blocking)
        }
    }

    private func lostLogLines() -> [Finding] {
        guard let failure = LogSink.standardError.failure else { return [] }
        return [
            Finding(
                what: .log, subject: "standard error",
                text: "lines of the log are lost, standard error cannot be written: \(failure)",
                severity: .degraded)
        ]
    }

    /// The time of a stamp of CLOCK_MONOTONIC in nanoseconds; 0 for none.
    private static func unixSeconds(ofMonotonic stamp: UInt64) -> Double {
        guard stamp > 0 else { return 0 }
        let age = Double(Host.monotonicNanoseconds()) - Double(stamp)
        return Host.unixSeconds() - age / 1e9
    }

    private enum InterfaceState: String { case receiving, down, absent }

    private func state(ofInterface name: String) -> InterfaceState {
        guard let link = links.first(where: { $0.name == name }), plumbing.interface(name) != nil
        else { return .absent }
        return link.isUp ? .receiving : .down
    }

    /// What keeps the kernel from answering for our frames on an interface.
    private func activeClaim(_ interface: String) -> String {
        if let claim = plumbing.claim(interface) { return claim.means.rawValue }
        let index = configuration.interfaces.firstIndex(of: interface)
        let isBySocket = index.map(plumbing.socketInterfaces.contains) ?? false
        return isBySocket && plumbing.socketClaim != nil ? Claim.Means.socket.rawValue : "none"
    }

    private func absentInterfaces() -> [Finding] {
        configuration.interfaces.compactMap { name in
            let problem: String? =
                switch state(ofInterface: name) {
                case .receiving: nil
                case .down: "interface \(name) is down: ip link set \(name) up"
                case .absent:
                    plumbing.absences[.interface(name)].map {
                        "interface \(name) is not received from: \($0.reason)"
                    } ?? "interface \(name) is absent"
                }
            return problem.map {
                Finding(what: .interface, subject: name, text: $0, severity: .blocking)
            }
        }
    }

    /// A pod that is gone is none of the others' business: its device blocks nothing.
    private func absentDevices() -> [Finding] {
        let up = Set(links.lazy.filter(\.isUp).map(\.name))
        return configuration.devices.compactMap { device in
            let name = device.name
            if let absence = plumbing.absences[.device(name)] {
                return Finding(
                    what: .device, subject: name,
                    text: "device \(name) is absent, its packets are dropped: \(absence.reason)",
                    severity: device.netns == nil ? .blocking : .degraded)
            }
            guard device.netns == nil, !up.contains(name) else { return nil }
            return Finding(
                what: .device, subject: name,
                text: "device \(name) is not up: ip link set \(name) up", severity: .blocking)
        }
    }

    /// A dump after a change of links is daily business; one that is late is not.
    private func lateMirror() -> [Finding] {
        guard let reason = routes.due, routes.age >= 1 else { return [] }
        return [
            Finding(
                what: .routes, subject: "mirror",
                text: "routes are being read again for more than a second: \(reason)",
                severity: .degraded)
        ]
    }

    private func lostClaims() -> [Finding] {
        plumbing.absences[.claims].map {
            [
                Finding(
                    what: .claim, subject: "consume",
                    text: "consume: frames of some interfaces are not claimed: \($0.reason)",
                    severity: .degraded)
            ]
        } ?? []
    }

    private func staleReplies() -> [Finding] {
        plumbing.absences[.replyTable].map {
            [
                Finding(
                    what: .replies, subject: "nft", text: "mss.replies: \($0.reason)", severity: .degraded)
            ]
        } ?? []
    }

    /// Threads that ended, or that stand still.
    func unhealthiness() -> [String] {
        (pulse.isStill ? [Self.stillControl] : []) + endedWorkers()
            + workers.compactMap { worker in
                worker.isStill && !worker.mailbox.hasEnded.load(ordering: .acquiring)
                    ? stillness(worker) : nil
            }
    }

    /// Workers whose thread ended without being told to: the daemon cannot go on.
    func endedWorkers() -> [String] {
        workers.compactMap { worker in
            worker.mailbox.failure.withLock { $0 }.map { "worker \(worker.number) ended: \($0)" }
        }
    }

    private static var stillControl: String {
        """
        the control thread stands still, so that routes, links, reloads and SIGTERM wait: see what \
        holds it (ps -L -o tid,stat,wchan:20,comm -p \(getpid())), or kill shuck
        """
    }

    private func stillness(_ worker: WorkerState) -> String {
        """
        worker \(worker.number) on CPU \(worker.cpu) stands still, and its frames wait until its \
        rings are full: see what holds it (ps -L -o tid,stat,wchan:20,comm -p \(getpid())), or \
        restart shuck
        """
    }

    /// Workers that stand still, or that do not run on what the others run on.
    private func hinderedWorkers() -> [Finding] {
        workers.compactMap { worker in
            let refusal = worker.mailbox.refusal.withLock { $0 }
            let taken = worker.mailbox.taken.load(ordering: .acquiring)
            let text: String
            if worker.isStill {
                text = stillness(worker)
            } else if let refusal, refusal.generation > taken {
                text = """
                    worker \(worker.number) goes on as it was before the last change and is asked \
                    again: \(refusal.reason)
                    """
            } else {
                return nil
            }
            // One that stands still is unhealthy already.
            return Finding(
                what: .worker, subject: "\(worker.number)", text: text,
                severity: !worker.isStill ? .blocking : .degraded)
        }
    }

    func report() -> StatusReport {
        let totals = totals()
        let facts = placementFacts()
        let elsewhere = pagesElsewhere(facts)
        let workers = workers.map { worker in
            let values = worker.counters.read()
            return StatusReport.WorkerReport(
                worker: worker.number, cpu: worker.cpu, node: facts.node(ofCPU: worker.cpu),
                state: worker.mailbox.failure.withLock { $0 }
                    ?? (worker.isStill ? "stands still" : "running"),
                received: totals.sum("shuck_received_packets_total") {
                    $0["worker"] == "\(worker.number)"
                },
                ringDropped: ringDrops(worker.number) + values[.truncated],
                cpuSeconds: Double(worker.thread.cpuNanoseconds()) / 1e9,
                pagesElsewhere: elsewhere[worker.number])
        }
        var reasons: [String: UInt64] = [:]
        var modes: [String: UInt64] = [:]
        for (series, value) in totals where value > 0 {
            if series.name == "shuck_dropped_packets_total" {
                reasons[series["reason"]!, default: 0] += value
            } else if series.name == "shuck_injected_packets_total" {
                modes[series["mode"]!, default: 0] += value
            }
        }
        let unready = unreadiness()
        return StatusReport(
            version: Build.version, ready: unready.isEmpty, notReady: unready, processID: getpid(),
            uptime: Double(Host.monotonicNanoseconds() - startedNanoseconds) / 1e9,
            mode: configuration.mode.rawValue, configurationFile: configurationFile,
            generation: configurations, publications: generation,
            lastReloadSuccessful: lastReloadSuccessful,
            lastReloadProblems: lastReloadProblems, engine: "io_uring",
            joining: joining(),
            interfaces: configuration.interfaces.map { interface($0, facts) }, devices: devices(),
            mssReplies: replies(), tunnels: configuration.tunnels.map(\.name), workers: workers,
            routesIPv4: routes.countIPv4, routesIPv6: routes.countIPv6, rules: routes.rules,
            routesAge: routes.age, routesResyncs: routes.resyncs,
            packets: packets(totals), dropsByReason: reasons, lastDrops: lastDrops(),
            injectedByMode: modes,
            notes: warnings + findings().map(\.description) + routes.notes,
            placement: placement(facts, elsewhere))
    }

    private func lastDrops() -> [String: StatusReport.Drop] {
        let now = Host.monotonicNanoseconds()
        var drops: [String: StatusReport.Drop] = [:]
        for reason in DropReason.allCases where reason != .none {
            let found = workers.compactMap { $0.examples.read(reason) }.max { $0.stamp < $1.stamp }
            guard let found else { continue }
            let names = configuration.interfaces
            drops[reason.name] = StatusReport.Drop(
                age: Double(now &- min(found.stamp, now)) / 1e9,
                interface: found.interface < names.count ? names[found.interface] : "",
                packet: PacketLine.text(found.head))
        }
        return drops
    }

    /// What `workers.coalesce` asks for, and where a device falls short of it.
    private func joining() -> String {
        guard configuration.workers.coalesce else { return "off" }
        let short = devices().filter { $0.queues > 0 && $0.joins.count < 2 }.map { device in
            "\(device.name) \(device.joins.isEmpty ? "nothing" : "\(device.joins[0]) only")"
        }
        return short.isEmpty ? "on" : "on, but \(short.joined(separator: ", "))"
    }

    /// Joining that was asked for and is not to be had, and why.
    private func refusedOffloads() -> [Finding] {
        guard configuration.workers.coalesce else { return [] }
        return configuration.devices.compactMap { device in
            guard let tun = plumbing.device(device.name) else { return nil }
            let refused = tun.offloads.intersection(tun.refusals.offloads).names
            var text: String?
            if !refused.isEmpty {
                text = """
                    \(device.name): the kernel refused joined segments \
                    (\(refused.joined(separator: ", "))): they are written singly
                    """
            } else if !tun.offloads.contains(.udp) && tun.offloads.contains(.tcp) {
                text = "\(device.name): UDP is written singly: joining it needs Linux 6.2"
            }
            return text.map {
                Finding(
                    what: .offload, subject: device.name, text: $0, severity: .degraded)
            }
        }
    }

    private func replies() -> StatusReport.Replies {
        let active = plumbing.absences[.replyTable] != nil ? "stale" : "nft"
        return StatusReport.Replies(
            asked: configuration.mss.replies.rawValue,
            active: plumbing.replyTable == nil ? "off" : active,
            table: plumbing.replyTable?.name)
    }

    private func packets(_ totals: Totals) -> StatusReport.Packets {
        StatusReport.Packets(
            received: totals.sum("shuck_received_packets_total"),
            injected: totals.sum("shuck_injected_packets_total"),
            passed: totals.sum("shuck_passed_packets_total"),
            held: totals.sum("shuck_held_packets_total"),
            dropped: totals.sum("shuck_dropped_packets_total"),
            replied: totals.sum("shuck_replied_packets_total"),
            injectedBytes: totals.sum("shuck_injected_bytes_total"),
            writes: totals.sum("shuck_injected_writes_total"),
            ringDropped: totals.sum("shuck_ring_dropped_packets_total"),
            mssClamped: totals.sum("shuck_mss_clamped_total"))
    }

    private func interface(_ name: String, _ facts: PlacementFacts) -> StatusReport.Interface {
        let link = links.first { $0.name == name }
        let open = plumbing.interface(name)
        let policy = configuration.policy.interfaces.first { $0.name == name }
        return StatusReport.Interface(
            name: name,
            state: state(ofInterface: name).rawValue,
            mtu: link?.mtu ?? 0, reversePath: "\(policy?.reversePath ?? .strict)",
            claimAsked: configuration.consume.rawValue,
            claimActive: activeClaim(name),
            ringSlots: open?.rings.first?.slotCount ?? 0,
            slotBytes: open?.rings.first?.slotSize ?? 0,
            nodes: facts.interfaces.first { $0.name == name }?.nodes)
    }

    private func joins(_ device: TunDevice?) -> [String] {
        guard configuration.workers.coalesce, let joins = device?.joins else { return [] }
        return (joins.contains(.tcp) ? ["tcp"] : []) + (joins.contains(.udp) ? ["udp"] : [])
    }

    private func devices() -> [StatusReport.Device] {
        configuration.devices.map { device in
            let open = plumbing.device(device.name)
            // The links of this namespace know nothing of a pod's; there it was set up.
            let link = device.netns == nil ? links.first { $0.name == device.name } : nil
            let elsewhere = open == nil ? "absent" : "up"
            return StatusReport.Device(
                name: device.name,
                state: device.netns != nil
                    ? elsewhere : link.map { $0.isUp ? "up" : "down" } ?? "absent",
                netns: device.netns, mtu: link?.mtu ?? device.mtu, queues: open?.queues.count ?? 0,
                offloads: open?.offloads.names ?? [], joins: joins(open))
        }
    }
}

extension Snapshot {
    /// Looked at anew each time: others move interrupts.
    private func placementFacts() -> PlacementFacts {
        PlacementFacts.read(interfaces: configuration.interfaces, workers: workers.map(\.cpu))
    }

    /// What slows the workers where they stand, each with what mends it.
    func placement() -> [String] {
        let facts = placementFacts()
        return placement(facts, pagesElsewhere(facts))
    }

    private func placement(_ facts: PlacementFacts, _ pagesElsewhere: [Int: Int]) -> [String] {
        let far = pagesElsewhere.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        return facts.warnings(workers: workers.map(\.cpu))
            + far.map { worker, pages in
                """
                worker \(worker): \(pages) pages of its rings and buffers lie on another NUMA node, for \
                its own had no room when shuck started: free memory there and restart shuck
                """
            }
    }

    /// By worker; empty where the host has one node, or does not tell.
    private func pagesElsewhere(_ facts: PlacementFacts) -> [Int: Int] {
        guard facts.nodes.count > 1 else { return [:] }
        let starts = workers.map { worker in
            plumbing.interfaces.map { $0.rings[worker.number].start }
                + [worker.memory.start, worker.counters.start]
        }
        let pages = Placement.pagesByNode(ofMappings: Set(starts.joined()))
        guard !pages.isEmpty else { return [:] }
        var elsewhere: [Int: Int] = [:]
        for (worker, starts) in zip(workers, starts) {
            let node = facts.node(ofCPU: worker.cpu)
            elsewhere[worker.number] = starts.reduce(0) { sum, start in
                sum + (pages[start] ?? [:]).filter { $0.key != node }.values.reduce(0, +)
            }
        }
        return elsewhere
    }
}
