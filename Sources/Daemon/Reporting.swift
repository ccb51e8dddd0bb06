// The report of a view of the daemon, of what was counted, and of where the workers stand.

import Foundation
import HostPlan

extension StatusReport {
    init(
        _ view: DaemonView, _ counts: DaemonCounts, _ placement: PlacementFacts, lastDrops: [String: Drop]
    ) {
        let (state, totals) = (view.state, counts.totals)
        let received = totals.sums(.received, by: "worker")
        self.init(
            version: Build.version, ready: view.unreadiness.isEmpty, notReady: view.unreadiness,
            processID: state.processID, engineProcessID: getpid(), uptime: view.uptime,
            mode: state.configuration.mode, configurationFile: state.configurationFile,
            generation: state.configurations, publications: state.generation,
            handOvers: state.handOvers, engineRestarts: state.engineRestarts,
            lastEngineEnd: state.lastEngineEnd,
            lastReloadSuccessful: state.lastReloadSuccessful, lastReloadProblems: state.lastReloadProblems,
            engine: state.ringRefusal == nil ? "io_uring" : "plain writes", joining: view.joining,
            interfaces: view.interfaces.map { interface in
                var interface = interface
                interface.nodes = placement.interfaces.first { $0.name == interface.name }?.nodes
                return interface
            }, devices: view.devices,
            mssReplies: view.replies, tunnels: state.configuration.tunnels.map(\.name),
            workers: zip(view.workers, counts.workers).map { worker, counted in
                WorkerReport(
                    worker: worker.number, cpu: worker.cpu, node: placement.node(ofCPU: worker.cpu),
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
            placement: placement.findings(workers: view.workers.map(\.cpu)).map(\.description))
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
