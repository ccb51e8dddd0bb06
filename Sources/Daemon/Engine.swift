// The engine: workers, the mirror of the kernel's routes, and the admin endpoint. It opens nothing on the
// host: what it runs on is provided by the supervisor (Supervisor.swift), and of that it asks for a reload
// alone. It lives in a process of its own (EngineProgram.swift).

import Forwarding
import HostPlan
import LinuxIO
import Logging
import Routing
import Settings

/// On one control thread. It waits for no worker longer than `Timing` says.
final class Engine {
    let log = Logger(label: "shuck")
    let cpus: [Int]
    let nodes: WorkerNodes
    let netlink: NetlinkSocket
    let notices: NetlinkSocket
    var routes: RouteFollower
    let admin: AdminState
    let gate = Gate()
    private var server: AdminServer?
    var snapshot: Snapshot
    /// What publications replaced and a worker may still run on, the oldest first.
    var replaced: [Replaced] = []
    /// What it was provided with, the oldest first, and the first generation of workers that runs on it.
    var provided: [(sequence: UInt64, generation: UInt64)] = []
    /// The oldest generation that a worker ran on when that was last looked at.
    var settledGeneration: UInt64 = 0
    /// Counters that were replaced have been added to what is counted; nobody was told yet.
    var hasFolded = false
    /// The mirror's tries have left nodes that a worker may still read.
    var isUnreclaimed = false
    /// Until then workers are looked at often, to let go of what they no longer run on.
    var settleUntil: UInt64 = 0
    /// Following the kernel failed: when it is tried again, and how often it failed in a row.
    var refollow: Backoff.Retry?
    /// A worker refused a generation: likewise.
    var republish: Backoff.Retry?
    private var tickDue: UInt64 = 0
    private var told = ToldFindings()
    /// Whether it forwards or what it waits for, as the log was last told.
    private var loggedStatus = ""

    /// Prepares all that workers need, and starts none.
    init(_ provision: Provision, cpus: [Int]) throws {
        self.cpus = cpus
        guard let sockets = provision.netlink else {
            throw HostProblem(description: "an engine was provided without sockets of rtnetlink")
        }
        // Subscribed before the first look: nothing that changes in between is missed.
        notices = try NetlinkSocket(adopting: sockets.notices)
        netlink = try NetlinkSocket(adopting: sockets.questions)
        nodes = try WorkerNodes(cpus: cpus)
        admin = try AdminState()
        let configuration = provision.configuration
        let links = try netlink.links()
        routes = try RouteFollower(netlink, notices, links)
        let (policy, generation) = (configuration.policy, routes.generation)
        let states = Self.states(configuration, links)
        let worlds = nodes.make { _ in
            ForwardingTables(policy: PolicyTables(policy), routes: generation, interfaces: states)
        }
        try configuration.refuseClaimGaps(worlds[0])
        let (ringRefusal, isRestricted) = Worker.ringRefusal()
        snapshot = Snapshot(
            state: DaemonState(
                supervisor: provision.report, configuration: configuration, links: links,
                routes: routes.status, ringRefusal: ringRefusal),
            worlds: worlds, plumbing: provision.plumbing)
        if !isRestricted {
            snapshot.state.sandboxRefusals = [
                "the kernel does not restrict io_uring, by which an engine passes by its list of system calls"
            ]
        }
    }

    /// Starts the workers, on what may not have been there when they were prepared for.
    func start(_ provision: Provision, _ sequence: UInt64) throws {
        snapshot.plumbing = provision.plumbing
        snapshot.state.supervisor = provision.report
        if let count = provision.count { goOn(from: count) }
        adopt(provision.left)
        AdminServer.prepare()
        try startWorkers(provision.memories)
        note(refusals: Sandbox.filterSystemCalls().map { [$0] } ?? [])
        gate.open()
        provided.append((sequence, snapshot.generation))
        findClaimGaps()
        share()
    }

    /// Frames that workers of another process had taken from their queues.
    private func adopt(_ left: [NamedMemory]) {
        for (worker, memory) in left.enumerated() {
            let copies = FrameCopies(in: memory)
            for interface in snapshot.plumbing.interfaces where worker < interface.rings.count {
                interface.rings[worker].adopt(copies, batch: Limits.batch)
            }
        }
    }

    /// Shows the admin threads the new state.
    func share() {
        snapshot.routes = routes.status
        let snapshot = snapshot
        admin.snapshot.withLock { $0 = snapshot }
    }

    /// Notes what of the sandbox the host refuses.
    func note(refusals: [String]) {
        guard !refusals.isEmpty else { return }
        snapshot.state.sandboxRefusals += refusals
    }

    /// Answers on the admin socket from now on.
    func serve(_ admin: Configuration.Admin, on socket: Descriptor, port: Descriptor?) throws {
        server = try AdminServer(admin, state: self.admin, socket: socket, port: port)
    }

    func stopServing() {
        server?.stop()
        server = nil
    }

    // MARK: the loop

    var hasStarted: Bool { !provided.isEmpty }

    /// How long to wait for the next event, in milliseconds.
    var patience: Int32 {
        let now = Host.monotonicNanoseconds()
        var due = tickDue
        for other in [refollow?.dueNanoseconds, republish?.dueNanoseconds] { due = min(due, other ?? due) }
        let waits = due > now ? Int32(clamping: (due - now) / 1_000_000 + 1) : 0
        let isSettling = (!replaced.isEmpty || isUnreclaimed) && now < settleUntil
        return min(waits, isSettling ? Timing.settleMilliseconds : waits, routes.patience ?? waits)
    }

    /// One turn of the control thread's loop.
    /// - Parameters:
    ///   - isTold: the kernel has told of something.
    ///   - isAsked: so has the admin endpoint.
    /// - Returns: what is for the supervisor to do: reloads.
    func turn(isTold: Bool, isAsked: Bool) -> [AdminState.Request] {
        snapshot.pulse.beat()
        letGo()
        if Host.monotonicNanoseconds() >= tickDue { tick() }
        if isTold || routes.patience == 0 { followKernel() }
        retry()
        guard isAsked else { return [] }
        admin.wakeup.clear()
        return admin.takeRequests().filter { request in
            guard case .why(let inquiry, let promise) = request else { return true }
            promise.succeed(why(inquiry))
            return false
        }
    }

    private func why(_ inquiry: RouteAnswer.Inquiry) -> RouteAnswer? {
        var answer = RouteAnswer(inquiry, routes.mirror, snapshot.world, snapshot.links)
        answer?.age = routes.age
        return answer
    }

    /// What nobody tells of: workers that stand still, or that refused something.
    private func tick() {
        tickDue = Host.monotonicNanoseconds() + Timing.tickNanoseconds
        for worker in snapshot.workers { worker.mailbox.askForLife() }
        noteRefusals()
        announce()
    }

    /// What failed before and is due.
    private func retry() {
        let now = Host.monotonicNanoseconds()
        if let refollow, refollow.dueNanoseconds <= now { follow(KernelNotices(), again: true) }
        if let republish, republish.dueNanoseconds <= now { noteRefusals() }
    }

    // MARK: what is said

    /// Why it does not forward as asked, when that was last looked at; nil: it does.
    private(set) var unreadiness: String?

    /// As the supervisor is told.
    var state: EngineState {
        let refused = snapshot.configuration.devices.compactMap { device in
            snapshot.plumbing.device(device.name).map { (device.name, $0.refusals.offloads) }
        }
        return EngineState(
            settled: provided.last { $0.generation <= settledGeneration }?.sequence ?? 0,
            generation: snapshot.generation, unreadiness: unreadiness.map(Self.clip),
            stillWorker: snapshot.workers.first(where: \.isStill).map {
                "worker \($0.number) on CPU \($0.cpu)"
            }, failure: snapshot.endedWorkers().first.map(Self.clip),
            refused: Dictionary(uniqueKeysWithValues: refused.filter { !$0.1.isEmpty }))
    }

    /// So that a message holds it.
    private static func clip(_ text: String) -> String { String(text.prefix(500)) }

    /// Tells the log how it is when that has changed: each degradation when it comes and when it goes, and
    /// whether packets are forwarded.
    func announce() {
        let view = snapshot.view()
        let (came, went) = told.update(view.findings)
        for one in came { log.warning("\(one)") }
        for subject in went { log.notice("no longer degraded: \(subject)") }
        let problems = view.unreadiness
        unreadiness = problems.first
        let status = problems.first ?? "forwarding"
        guard status != loggedStatus else { return }
        loggedStatus = status
        if problems.isEmpty {
            log.notice(
                "forwarding",
                metadata: [
                    "interfaces": "\(snapshot.configuration.interfaces.joined(separator: ","))",
                    "workers": "\(cpus.map(String.init).joined(separator: ","))",
                    "mode": "\(snapshot.configuration.mode.rawValue)",
                ])
        }
    }

    var fallbacks: [String] { snapshot.view().findings.filter(\.what.isFallback).map(\.description) }

    // MARK: the end

    /// Ends the workers.
    /// - Returns: those that have not ended when the time is over.
    func end(_ ending: Assignment.Ending) -> [String] {
        snapshot.generation += 1
        for worker in snapshot.workers {
            worker.mailbox.post(assignment(worker.number, worker.counters, worker.examples, ending: ending))
        }
        var left = snapshot.workers
        Timing.wait(nanoseconds: Timing.stopNanoseconds) {
            left.removeAll { worker in
                let hasEnded = worker.mailbox.hasEnded.load(ordering: .acquiring)
                if hasEnded { worker.thread.join() }
                return hasEnded
            }
            return left.isEmpty
        }
        return left.map { "worker \($0.number) on CPU \($0.cpu)" }
    }

    /// What was counted, in the words of a hand-over.
    /// - Parameters:
    ///   - cpuNanoseconds: of the workers; a thread that has ended does not tell.
    ///   - isWhole: else without what counters hold that workers may still write.
    func count(_ cpuNanoseconds: [Int: UInt64], isWhole: Bool) -> EngineCount {
        let totals = isWhole ? snapshot.counts().totals : snapshot.retired
        var ringDrops = snapshot.retiredRingDrops
        if isWhole {
            for worker in snapshot.workers {
                ringDrops[worker.number] =
                    snapshot.earlierRingDrops(worker.number) + worker.counters.read()[.truncated]
            }
        }
        return EngineCount(
            totals: totals.map {
                EngineCount.Value(metric: $0.key.metric, labels: $0.key.labels, value: $0.value)
            },
            ringDrops: ringDrops, cpuNanoseconds: cpuNanoseconds, routeChanges: routes.changes,
            routeResyncs: Dictionary(
                uniqueKeysWithValues: routes.resyncs.map { ($0.key.rawValue, $0.value) }))
    }

    var cpuNanoseconds: [Int: UInt64] {
        Dictionary(uniqueKeysWithValues: snapshot.workers.map { ($0.number, snapshot.nanoseconds($0)) })
    }

    /// Goes on counting where another engine stopped.
    private func goOn(from count: EngineCount) {
        snapshot.retired.merge(count.sums, uniquingKeysWith: +)
        (snapshot.retiredRingDrops, snapshot.retiredNanoseconds) = (count.ringDrops, count.cpuNanoseconds)
        routes.count(changes: count.routeChanges, resyncs: count.routeResyncs)
    }
}
