// Part of Control (Supervisor.swift): another configuration under a running daemon, all of it or none. The
// answer says what is in force.

import Forwarding
import HostPlan
import LinuxIO
import Logging
import Settings

extension Control {
    /// Loads, checks, opens what is new, publishes, closes what is gone.
    func reload() -> ReloadOutcome {
        ServiceNotifier.reloading()
        // READY comes with the status.
        notifiedStatus = ""
        let (texts, loaded, problems) = ConfigurationFiles.loadWithTexts(path)
        for problem in problems { log.log(level: level(problem), "\(problem)") }
        let errors = problems.filter { $0.severity == .error }.map(\.description)
        let outcome =
            if let loaded, errors.isEmpty {
                apply(loaded)
            } else {
                ReloadOutcome.refused(errors)
            }
        snapshot.lastReloadSuccessful = outcome.isApplied
        snapshot.lastReloadProblems = outcome.isApplied ? [] : outcome.lines
        snapshot.lastReloadUnix = Host.unixSeconds()
        if outcome.isApplied {
            files = texts
            snapshot.configurations += 1
            snapshot.lastAppliedUnix = snapshot.lastReloadUnix
        } else {
            let reasons = outcome.lines.joined(separator: "; ")
            log.error("reload refused, the old configuration goes on: \(reasons)")
        }
        share()
        announce()
        return outcome
    }

    private func level(_ problem: Problem) -> Logger.Level {
        problem.severity == .error ? .error : .warning
    }

    private func apply(_ next: Configuration) -> ReloadOutcome {
        let old = snapshot.configuration
        let restarts = next.changesNeedingRestart(from: old)
        guard restarts.isEmpty else {
            return .refused(
                restarts.map { "\($0): changes only with a restart (systemctl restart shuck)" })
        }
        let outcome: ReloadOutcome
        do {
            outcome = try takeUp(next)
        } catch {
            if let failure = error as? PlanFailure { snapshot.plumbing.note(failure.left) }
            return .refused((error as? HostProblem)?.lines ?? ["\(error)"])
        }
        guard outcome.isApplied else { return outcome }
        LogSettings.apply(next.log)
        for line in next.differences(from: old) { log.notice("reload: \(line)") }
        log.notice("reload applied", metadata: ["generation": "\(snapshot.generation)"])
        for line in outcome.lines { log.warning("reload: \(line)") }
        return outcome
    }

    /// - Throws: when something cannot be had; then all is as it was.
    private func takeUp(_ next: Configuration) throws -> ReloadOutcome {
        let before = snapshot
        let links = try netlink.links()
        var facts = HostFacts.read(for: next, cpus: cpus, links: links)
        facts.addPermissions()
        let advice = try next.checked(on: facts)
        let (policy, worlds, states) = (next.policy, before.worlds, Self.states(next, links))
        let nextWorlds = nodes.make { place in
            ForwardingTables(policy: PolicyTables(policy), routes: worlds[place].routes, interfaces: states)
        }
        try next.refuseClaimGaps(nextWorlds[0])
        let shape = CounterBlock.Shape(nextWorlds[0].policy)
        let counters = try cpus.map { try CounterBlock(shape: shape, cpu: $0) }
        // An example names its interface by its place in the list.
        let examples =
            next.interfaces == before.configuration.interfaces
            ? before.workers.map(\.examples) : try cpus.map { try DropExamples(cpu: $0) }
        var plumbing = before.plumbing
        let done = try plumbing.reach(next, facts, .reload, beside: before.configuration)
        do throws(SystemError) {
            // With the devices that were opened.
            snapshot.links = try netlink.links()
        } catch {
            throw PlanFailure(cause: error, left: plumbing.undo(done))
        }
        reachedLinks = links
        snapshot.configuration = next
        snapshot.plumbing = plumbing
        snapshot.worlds = nextWorlds
        snapshot.warnings = Self.notes(advice)
        findClaimGaps()
        exchangeCounters(counters, examples, of: before.configuration)
        isUnsettled = true
        publish(replacing: before.plumbing)
        let outcome = awaitWorkers(nanoseconds: Timing.reloadNanoseconds)
        guard outcome.refusals.isEmpty else {
            goBack(to: before, from: done)
            return .refused(outcome.refusals)
        }
        letGo()
        logArrivals(unlike: before.plumbing)
        return ReloadOutcome(
            isApplied: true,
            lines: outcome.late.map { "\($0) has not taken it yet: it stands still" })
    }

    /// Gives each worker other counters. Those of the configuration before still count until the worker
    /// has left them.
    private func exchangeCounters(
        _ counters: [CounterBlock], _ examples: [DropExamples], of configuration: Configuration
    ) {
        for (place, new) in counters.enumerated() {
            let worker = snapshot.workers[place]
            snapshot.replacedCounters.append(
                Snapshot.ReplacedCounters(
                    generation: snapshot.generation + 1, worker: worker.number,
                    counters: worker.counters, configuration: configuration))
            snapshot.workers[place].counters = new
            snapshot.workers[place].examples = examples[place]
        }
    }

    /// A worker refused what others may have taken: all go back to what was before.
    private func goBack(to before: Snapshot, from done: [Action]) {
        let refused = snapshot
        // What was to go stays, and has lost nothing that its own counters do not hold.
        replaced.removeLast()
        snapshot.retiredRingDrops = before.retiredRingDrops
        snapshot.configuration = before.configuration
        snapshot.plumbing = before.plumbing
        snapshot.worlds = before.worlds
        snapshot.warnings = before.warnings
        snapshot.plumbing.note(refused.plumbing.undo(done))
        let counters = before.workers.map(\.counters)
        snapshot.replacedCounters.removeAll { old in counters.contains { $0 === old.counters } }
        exchangeCounters(counters, before.workers.map(\.examples), of: refused.configuration)
        publish(replacing: refused.plumbing)
        _ = awaitWorkers(nanoseconds: Timing.reloadNanoseconds)
        letGo()
    }
}
