// The report of a view of the daemon, of what was counted, and of where the workers stand.

import Foundation
import HostPlan
import LinuxIO
import Settings

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
                var interface = interface
                interface.nodes = placement.facts.interfaces.first { $0.name == interface.name }?.nodes
                return interface
            }, devices: view.devices,
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
