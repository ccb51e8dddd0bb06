// Part of Engine (Engine.swift): it is provided with something else to run on while workers run.

import Forwarding
import HostPlan
import LinuxIO
import Settings

extension Engine {
    /// Takes another configuration: all of it or none.
    /// - Throws: when something cannot be had; then all is as it was.
    func take(_ next: Provision, _ sequence: UInt64) throws -> ReloadOutcome {
        let before = snapshot
        let links = try netlink.links()
        let configuration = next.configuration
        let (policy, worlds) = (configuration.policy, before.worlds)
        let states = Self.states(configuration, links)
        let nextWorlds = nodes.make { place in
            ForwardingTables(policy: PolicyTables(policy), routes: worlds[place].routes, interfaces: states)
        }
        try configuration.refuseClaimGaps(nextWorlds[0])
        // An example names its interface by its place in the list.
        let examples =
            configuration.interfaces == before.configuration.interfaces
            ? before.workers.map(\.examples) : try cpus.map { try DropExamples(cpu: $0) }
        (snapshot.links, snapshot.worlds) = (links, nextWorlds)
        snapshot.state.configuration = configuration
        snapshot.state.supervisor = next.report
        snapshot.plumbing = next.plumbing
        findClaimGaps()
        exchangeCounters(next.memories.map(\.counters), examples, of: before.configuration)
        publish(replacing: before.plumbing)
        let outcome = awaitWorkers(nanoseconds: Timing.reloadNanoseconds)
        guard outcome.refusals.isEmpty else {
            goBack(to: before)
            return .refused(outcome.refusals)
        }
        provided.append((sequence, snapshot.generation))
        letGo()
        return ReloadOutcome(
            isApplied: true,
            lines: outcome.late.map { "\($0) has not taken it yet: it stands still" })
    }

    /// Takes what was opened or went, under the same configuration. Waits for nobody.
    func follow(_ next: Provision, _ sequence: UInt64) {
        let old = snapshot.plumbing
        do throws(SystemError) {
            snapshot.links = try netlink.links()
        } catch {
            log.error("the host's links changed and could not be followed: \(error)")
            refollow = Backoff.Retry(after: refollow, now: Host.monotonicNanoseconds())
        }
        snapshot.state.supervisor = next.report
        snapshot.plumbing = next.plumbing
        publish(routes.generation, replacing: old)
        provided.append((sequence, snapshot.generation))
        share()
        announce()
    }

    /// Takes what is only reported: workers go on with what they have.
    func note(_ next: Provision, _ sequence: UInt64) {
        snapshot.state.supervisor = next.report
        snapshot.plumbing = next.plumbing
        provided.append((sequence, snapshot.generation))
        findClaimGaps()
        share()
        announce()
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
    private func goBack(to before: Snapshot) {
        let refused = snapshot
        // What was to go stays, and has lost nothing that its own counters do not hold.
        replaced.removeLast()
        snapshot.retiredRingDrops = before.retiredRingDrops
        snapshot.state.configuration = before.state.configuration
        snapshot.state.supervisor = before.state.supervisor
        snapshot.plumbing = before.plumbing
        snapshot.worlds = before.worlds
        snapshot.claimGaps = before.claimGaps
        let counters = before.workers.map(\.counters)
        snapshot.replacedCounters.removeAll { old in counters.contains { $0 === old.counters } }
        exchangeCounters(counters, before.workers.map(\.examples), of: refused.configuration)
        publish(replacing: refused.plumbing)
        _ = awaitWorkers(nanoseconds: Timing.reloadNanoseconds)
        letGo()
    }
}
