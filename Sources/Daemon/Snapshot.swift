// The engine's state as it publishes it, with handles of what else is read when somebody asks:
// counters, rings, workers. The admin threads hold it; DaemonView.swift has what they read of it as values.

import Forwarding
import HostPlan
import LinuxIO
import Settings

@dynamicMemberLookup
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

    var state: DaemonState
    /// Equal, one on each node that has workers.
    var worlds: [ForwardingTables]
    var plumbing: Plumbing
    var workers: [WorkerState] = []
    let pulse = Pulse()
    /// The supervisor's, as far as the engine hears it.
    let supervisorPulse = Pulse()
    var replacedCounters: [ReplacedCounters] = []
    /// What earlier policies' counters came to.
    var retired: Totals = [:]
    /// Frames that closed rings lost, by worker.
    var retiredRingDrops: [Int: UInt64] = [:]
    /// CPU time of the workers of processes before this one.
    var retiredNanoseconds: [Int: UInt64] = [:]
    /// What raw sockets cannot claim, by the routes of now.
    var claimGaps: [Finding] = []

    subscript<T>(dynamicMember member: WritableKeyPath<DaemonState, T>) -> T {
        get { state[keyPath: member] }
        set { state[keyPath: member] = newValue }
    }

    var world: ForwardingTables { worlds[0] }
}

// MARK: - What is read

extension Snapshot {
    /// Waits for the end of each worker's batch, so that sums agree.
    func counts() -> DaemonCounts {
        var counts = DaemonCounts(totals: retired)
        for old in replacedCounters {
            counts.totals.add(old.counters.read(), worker: old.worker, configuration: old.configuration)
        }
        for worker in workers {
            let values = worker.counters.read()
            counts.totals.add(values, worker: worker.number, configuration: state.configuration)
            counts.workers.append(
                DaemonCounts.Worker(
                    number: worker.number, ringDropped: ringDrops(worker.number) + values[.truncated],
                    captureDropped: worker.mailbox.tap.dropped,
                    cpuSeconds: Double(nanoseconds(worker)) / 1e9,
                    lastProgressUnix: Self.unixSeconds(ofMonotonic: values[.lastProgress])))
        }
        return counts
    }

    func scrape() -> Scrape { Scrape(view: view(), counts: counts(), usage: Host.processUsage()) }

    func report() -> StatusReport {
        StatusReport(view(), counts(), placement(), lastDrops: lastDrops())
    }

    func view() -> DaemonView {
        let (links, configuration) = (state.links.byName, state.configuration)
        let table = state.supervisor.replyTable
        let isStale = plumbing.absences[.replyTable] != nil
        return DaemonView(
            state: state,
            interfaces: configuration.policy.interfaces.enumerated().map { number, policy in
                StatusReport.Interface(
                    policy, link: links[policy.name],
                    ring: plumbing.interface(policy.name)?.rings.first.map { ($0.slotCount, $0.slotSize) },
                    claimAsked: configuration.consume, claimActive: activeClaim(policy.name, number))
            },
            devices: configuration.devices.map { settings in
                let open = plumbing.device(settings.name)
                let joins = configuration.workers.coalesce ? open?.joins ?? [] : []
                return StatusReport.Device(
                    settings, link: links[settings.name], queues: open?.queues.count ?? 0,
                    offloads: open?.offloads.names ?? [],
                    joins: (joins.contains(.tcp) ? ["tcp"] : []) + (joins.contains(.udp) ? ["udp"] : []))
            },
            workers: workers.map(worker), endedWorkers: endedWorkers(),
            replies: StatusReport.Replies(
                asked: configuration.mss.replies, active: table == nil ? .off : isStale ? .stale : .nft,
                table: table),
            absences: plumbing.absences.mapValues(\.reason),
            otherFindings: plumbing.findings(configuration) + claimGaps,
            uptime: Double(Host.monotonicNanoseconds() - state.startedNanoseconds) / 1e9,
            isControlStill: pulse.isStill, isSupervisorStill: supervisorPulse.isStill,
            logFailure: LogSink.standardError.failure.map { "\($0)" } ?? state.logFailure,
            logLinesDropped: LogSink.standardError.droppedLines + state.logLinesDropped)
    }

    private func activeClaim(_ interface: String, _ number: Int) -> StatusReport.Interface.Claim {
        if let means = plumbing.claim(interface)?.means { return .init(rawValue: means.rawValue) ?? .none }
        return plumbing.socketInterfaces.contains(number) && plumbing.socketClaim != nil ? .socket : .none
    }

    private func worker(_ worker: WorkerState) -> DaemonView.Worker {
        let mailbox = worker.mailbox
        let refusal = mailbox.refusal.withLock { $0 }
        let isRefusing = refusal.map { $0.generation > mailbox.taken.load(ordering: .acquiring) } ?? false
        return DaemonView.Worker(
            number: worker.number, cpu: worker.cpu, failure: mailbox.failure.withLock { $0 },
            hasEnded: mailbox.hasEnded.load(ordering: .acquiring), isStill: worker.isStill,
            refusal: isRefusing ? refusal?.reason : nil)
    }

    func nanoseconds(_ worker: WorkerState) -> UInt64 {
        (retiredNanoseconds[worker.number] ?? 0) + worker.thread.cpuNanoseconds()
    }

    /// What rings that are held have no count of: of rings that closed, and frames whose copy did not come.
    func earlierRingDrops(_ worker: Int) -> UInt64 {
        replacedCounters.lazy.filter { $0.worker == worker }
            .reduce(retiredRingDrops[worker] ?? 0) { $0 + $1.counters.read()[.truncated] }
    }

    func ringDrops(_ worker: Int) -> UInt64 {
        plumbing.interfaces.reduce(earlierRingDrops(worker)) { $0 + $1.rings[worker].droppedByKernel() }
    }

    /// The time of a stamp of CLOCK_MONOTONIC in nanoseconds; 0 for none.
    private static func unixSeconds(ofMonotonic stamp: UInt64) -> Double {
        guard stamp > 0 else { return 0 }
        let age = Double(Host.monotonicNanoseconds()) - Double(stamp)
        return Host.unixSeconds() - age / 1e9
    }

    /// Workers whose thread ended without being told to: the daemon cannot go on.
    func endedWorkers() -> [String] {
        workers.compactMap { worker in
            worker.mailbox.failure.withLock { $0 }.map { "worker \(worker.number) ended: \($0)" }
        }
    }

    private func lastDrops() -> [String: StatusReport.Drop] {
        let now = Host.monotonicNanoseconds()
        var drops: [String: StatusReport.Drop] = [:]
        for reason in DropReason.allCases where reason != .none {
            let found = workers.compactMap { $0.examples.read(reason) }.max { $0.stamp < $1.stamp }
            guard let found else { continue }
            let names = state.configuration.interfaces
            drops[reason.name] = StatusReport.Drop(
                age: Double(now &- min(found.stamp, now)) / 1e9,
                interface: found.interface < names.count ? names[found.interface] : "",
                packet: PacketLine.text(found.head),
                head: found.head.prefix(PacketLine.headerBytes(found.head)).map {
                    ($0 < 16 ? "0" : "") + String($0, radix: 16)
                }.joined())
        }
        return drops
    }

    /// Where workers stand: looked at again for each report, since others move interrupts.
    func placement() -> PlacementFacts {
        var facts = PlacementFacts.read(
            interfaces: state.configuration.interfaces, workers: workers.map(\.cpu),
            links: state.links.byName)
        facts.pagesElsewhere = pagesElsewhere(facts)
        return facts
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
