// Part of Engine (Engine.swift): how workers come to run on what it was provided with, and when that which
// this replaced goes. It waits for workers at a start and at a reload alone, for a bounded time.

import Forwarding
import HostPlan
import LinuxIO
import Logging
import Routing
import Settings

/// What a publication replaced: held until no worker runs on it. Claims above all, for until then both
/// hold.
struct Replaced {
    /// The first generation that does without it.
    let generation: UInt64
    let plumbing: Plumbing
    /// Rings that are to close, and what of their losses was counted at the change.
    let rings: [(worker: Int, ring: PacketRing, counted: UInt64)]
}

extension Engine {
    // MARK: workers

    /// - Parameter memories: one of each.
    func startWorkers(_ memories: [WorkerMemory]) throws {
        for (number, cpu) in cpus.enumerated() {
            let mailbox = try Mailbox()
            let memory = try Worker.makeMemory(worker: number, cpu: cpu)
            let (counters, copies) = (memories[number].counters, memories[number].copies)
            let examples = try DropExamples(cpu: cpu)
            mailbox.post(assignment(number, counters, examples))
            let (usesRing, gate) = (snapshot.ringRefusal == nil, gate)
            let thread = try WorkerThread(name: "shuck-worker-\(number)") {
                Self.work(
                    cpu: cpu, mailbox: mailbox, memory: memory, copies: copies, usesRing: usesRing,
                    gate: gate)
            }
            snapshot.workers.append(
                Snapshot.WorkerState(
                    number: number, cpu: cpu, thread: thread, mailbox: mailbox, memory: memory,
                    counters: counters, examples: examples))
        }
        let outcome = awaitWorkers(nanoseconds: Timing.startNanoseconds)
        if let failure = snapshot.endedWorkers().first ?? outcome.refusals.first {
            throw HostProblem(description: failure)
        }
        if let late = outcome.late.first {
            throw HostProblem(description: "\(late) does not start: it stands still")
        }
    }

    /// A worker's thread, from its first line to its last.
    private static func work(
        cpu: Int, mailbox: Mailbox, memory: NamedMemory, copies: NamedMemory, usesRing: Bool, gate: Gate
    ) {
        do {
            do throws(SystemError) {
                try Placement.pinSelf(to: cpu)
            } catch {
                // A cpuset that shrank: it runs elsewhere rather than not at all.
                Logger(label: "shuck").warning("\(error)")
            }
            try Placement.withMemory(onNodeOf: cpu) { () throws(SystemError) in
                let worker = try Worker(
                    mailbox: mailbox, memory: memory, copies: copies, usesRing: usesRing)
                // No frame is looked at before the sandbox is closed.
                gate.wait { Host.pause(milliseconds: Timing.pauseMilliseconds) }
                try worker.run()
            }
        } catch {
            mailbox.failure.withLock { $0 = "\(error)" }
            Logger(label: "shuck").critical("worker on CPU \(cpu): \(error)")
        }
        mailbox.hasEnded.store(true, ordering: .releasing)
    }

    func assignment(
        _ worker: Int, _ counters: CounterBlock, _ examples: DropExamples, ending: Assignment.Ending = .none
    ) -> Assignment {
        Assignment(
            snapshot.configuration, snapshot.plumbing, worker: worker, generation: snapshot.generation,
            world: snapshot.worlds[nodes.places[worker]], counters: counters, examples: examples,
            ending: ending)
    }

    // MARK: publishing

    /// Hands the workers what the snapshot holds now.
    /// - Parameter old: plumbing that they ran on before, where that is another.
    func publish(replacing old: Plumbing? = nil) {
        snapshot.generation += 1
        settleUntil = Host.monotonicNanoseconds() + Timing.stillNanoseconds
        if let old {
            replaced.append(
                Replaced(
                    generation: snapshot.generation, plumbing: old,
                    rings: retireRings(old, snapshot.plumbing)))
        }
        for worker in snapshot.workers {
            worker.mailbox.post(assignment(worker.number, worker.counters, worker.examples))
        }
    }

    /// Another generation of routes under the same policy.
    func publish(_ generation: RouteTable, replacing old: Plumbing? = nil) {
        let states = Self.states(snapshot.configuration, snapshot.links)
        let before = snapshot.worlds
        // Routes change too often to be copied to each node; what workers find in them they keep.
        snapshot.worlds = nodes.make { place in
            ForwardingTables(policy: before[place].policy, routes: generation, interfaces: states)
        }
        findClaimGaps()
        isUnreclaimed = true
        publish(replacing: old)
    }

    func findClaimGaps() {
        snapshot.claimGaps = snapshot.world.claimGaps(socketInterfaces: snapshot.plumbing.socketInterfaces)
    }

    /// Keeps what closing rings have lost, so that the counter never goes back.
    private func retireRings(
        _ old: Plumbing, _ new: Plumbing
    ) -> [(worker: Int, ring: PacketRing, counted: UInt64)] {
        var closing: [(worker: Int, ring: PacketRing, counted: UInt64)] = []
        for interface in old.interfaces
        where new.interface(interface.specification.interface) !== interface {
            for (worker, ring) in interface.rings.enumerated() {
                let lost = ring.droppedByKernel()
                snapshot.retiredRingDrops[worker, default: 0] += lost
                hasFolded = true
                closing.append((worker, ring, lost))
            }
        }
        return closing
    }

    /// What workers all run on, at least.
    var oldestGeneration: UInt64 {
        snapshot.workers.map { $0.mailbox.taken.load(ordering: .acquiring) }.min() ?? snapshot.generation
    }

    /// Closes and counts what no worker runs on any more.
    func letGo() {
        let oldest = oldestGeneration
        settledGeneration = oldest
        if let newest = provided.lastIndex(where: { $0.generation <= oldest }) {
            provided.removeFirst(newest)
        }
        guard !replaced.isEmpty || isUnreclaimed || !snapshot.replacedCounters.isEmpty else { return }
        var isChanged = false
        for old in replaced.prefix(while: { $0.generation <= oldest }) {
            for (worker, ring, counted) in old.rings {
                snapshot.retiredRingDrops[worker, default: 0] += ring.droppedByKernel() - counted
            }
            isChanged = true
        }
        replaced.removeAll { $0.generation <= oldest }
        let free = snapshot.replacedCounters.filter { $0.generation <= oldest }
        for old in free {
            let values = old.counters.read()
            snapshot.retired.add(values, worker: old.worker, configuration: old.configuration)
            snapshot.retiredRingDrops[old.worker, default: 0] += values[.truncated]
            isChanged = true
        }
        snapshot.replacedCounters.removeAll { $0.generation <= oldest }
        if !free.isEmpty { hasFolded = true }
        if oldest == snapshot.generation {
            if isUnreclaimed { routes.reclaim() }
            isUnreclaimed = false
        }
        if isChanged { share() }
    }

    // MARK: what workers make of it

    /// Waits until every worker runs on the newest generation or has refused it, no longer than that.
    /// One that stands still already is not waited for.
    func awaitWorkers(nanoseconds: UInt64) -> (late: [String], refusals: [String]) {
        var left = snapshot.workers
        var still: [Snapshot.WorkerState] = []
        var refusals: [String] = []
        Timing.wait(nanoseconds: nanoseconds) {
            left.removeAll { worker in
                if let reason = worker.mailbox.refusal(of: snapshot.generation) {
                    refusals.append("worker \(worker.number): \(reason)")
                    return true
                }
                if let failure = worker.mailbox.failure.withLock({ $0 }) {
                    refusals.append("worker \(worker.number) ended: \(failure)")
                    return true
                }
                if worker.isStill { still.append(worker) }
                return worker.isStill
                    || worker.mailbox.taken.load(ordering: .acquiring) == snapshot.generation
                    || worker.mailbox.hasEnded.load(ordering: .acquiring)
            }
            return left.isEmpty
        }
        return ((still + left).map { "worker \($0.number) on CPU \($0.cpu)" }, refusals)
    }

    /// Asks those who refused the newest generation again, for what they lacked may be there now.
    func noteRefusals() {
        if snapshot.workers.allSatisfy({
            $0.mailbox.taken.load(ordering: .acquiring) == snapshot.generation
        }) {
            republish = nil
            return
        }
        let isRefused = snapshot.workers.contains {
            $0.mailbox.refusal(of: snapshot.generation) != nil
        }
        let now = Host.monotonicNanoseconds()
        guard republish.map({ $0.dueNanoseconds <= now }) ?? isRefused else { return }
        let retry = Backoff.Retry(after: republish, now: now)
        republish = retry
        if isRefused && retry.failures > 1 { publish() }
    }
}
