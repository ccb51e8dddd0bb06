// One screen of facts, which `shuck status` shows and /status serves: the types of the report, and the
// report of a view of the daemon.

import Forwarding
import Foundation
import LinuxIO
import Settings

public enum Build {
    public static let version = "0.1.0"
}

/// One screen of facts, also `shuck status --json`. Times in seconds.
public struct StatusReport: Codable, Sendable {
    public struct Interface: Codable, Sendable {
        public enum State: String, Codable, Sendable { case receiving, down, absent }
        /// What keeps the kernel from answering for our frames.
        public enum Claim: String, Codable, Sendable { case tcx, clsact, socket, none }

        public var name: String
        public var state: State
        public var mtu: Int
        public var reversePath: String
        /// What `consume` asks for, and what holds.
        public var claimAsked: Configuration.Consume
        public var claimActive: Claim
        public var ringSlots: Int
        public var slotBytes: Int
        /// NUMA nodes of the hardware that it stands on; empty for a virtual one.
        public var nodes: [Int]?
    }
    public struct Device: Codable, Sendable {
        public enum State: String, Codable, Sendable { case up, down, absent }

        public var name: String
        public var state: State
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
        /// `stale`: nft with the rules of before a change.
        public enum Active: String, Codable, Sendable { case off, nft, stale }

        /// What `mss.replies` asks for, and what holds.
        public var asked: Configuration.MSS.Replies
        public var active: Active
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
    public var mode: Configuration.RunMode
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

/// Where workers stand: looked at again for each report, since others move interrupts.
struct PlacementView {
    var facts: PlacementFacts
    /// Pages of a worker's rings and buffers on another NUMA node than its CPU; empty where the host has
    /// one node, or does not tell.
    var pagesElsewhere: [Int: Int]

    /// What slows the workers where they stand, each with what mends it.
    func warnings(workers cpus: [Int]) -> [String] {
        let far = pagesElsewhere.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        return facts.warnings(workers: cpus)
            + far.map { worker, pages in
                """
                worker \(worker): \(pages) pages of its rings and buffers lie on another NUMA node, for \
                its own had no room when shuck started: free memory there and restart shuck
                """
            }
    }
}

extension StatusReport {
    init(
        _ view: DaemonView, _ counts: DaemonCounts, _ placement: PlacementView, lastDrops: [String: Drop]
    ) {
        let (state, totals) = (view.state, counts.totals)
        let received = totals.sums(.received, by: "worker")
        self.init(
            version: Build.version, ready: view.unreadiness.isEmpty, notReady: view.unreadiness,
            processID: getpid(), uptime: view.uptime,
            mode: state.configuration.mode, configurationFile: state.configurationFile,
            generation: state.configurations, publications: state.generation,
            lastReloadSuccessful: state.lastReloadSuccessful, lastReloadProblems: state.lastReloadProblems,
            engine: "io_uring", joining: view.joining,
            interfaces: view.interfaces.map { interface in
                Interface(
                    name: interface.name, state: interface.state, mtu: interface.link?.mtu ?? 0,
                    reversePath: "\(interface.reversePath)", claimAsked: state.configuration.consume,
                    claimActive: interface.claim, ringSlots: interface.ring?.slots ?? 0,
                    slotBytes: interface.ring?.slotBytes ?? 0,
                    nodes: placement.facts.interfaces.first { $0.name == interface.name }?.nodes)
            },
            devices: view.devices.map { device in
                Device(
                    name: device.settings.name, state: device.state, netns: device.settings.netns,
                    mtu: device.link?.mtu ?? device.settings.mtu, queues: device.open?.queues ?? 0,
                    offloads: device.open?.offloads.names ?? [], joins: device.joins)
            },
            mssReplies: view.replies, tunnels: state.configuration.tunnels.map(\.name),
            workers: zip(view.workers, counts.workers).map { worker, counted in
                WorkerReport(
                    worker: worker.number, cpu: worker.cpu, node: placement.facts.node(ofCPU: worker.cpu),
                    state: worker.failure ?? (worker.isStill ? "stands still" : "running"),
                    received: received["\(worker.number)"] ?? 0, ringDropped: counted.ringDropped,
                    cpuSeconds: counted.cpuSeconds, pagesElsewhere: placement.pagesElsewhere[worker.number])
            },
            routesIPv4: state.routes.countIPv4, routesIPv6: state.routes.countIPv6, rules: state.routes.rules,
            routesAge: state.routes.age,
            routesResyncs: Dictionary(
                uniqueKeysWithValues: state.routes.resyncs.map { ($0.key.rawValue, $0.value) }),
            packets: Packets(counts), dropsByReason: totals.sums(.dropped, by: "reason"),
            lastDrops: lastDrops, injectedByMode: totals.sums(.injected, by: "mode"),
            notes: state.warnings + view.findings.map(\.description) + state.routes.notes,
            placement: placement.warnings(workers: view.workers.map(\.cpu)))
    }
}

extension StatusReport.Packets {
    init(_ counts: DaemonCounts) {
        let totals = counts.totals
        self.init(
            received: totals.sum(.received), injected: totals.sum(.injected), passed: totals.sum(.passed),
            held: totals.sum(.held), dropped: totals.sum(.dropped), replied: totals.sum(.replied),
            injectedBytes: totals.sum(.injectedBytes), writes: totals.sum(.writes),
            ringDropped: counts.workers.reduce(0) { $0 + $1.ringDropped }, mssClamped: totals.sum(.clamped))
    }
}
