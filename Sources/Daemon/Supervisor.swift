// The daemon's life on the control thread: start, follow the kernel, reload, drain, remove.

import Forwarding
import Foundation
import LinuxIO
import Logging
import Routing
import Settings

public enum Supervisor {
    /// Runs the daemon in the foreground until SIGTERM or SIGINT.
    /// To be called on the main thread before any other exists: it blocks signals.
    /// - Returns: an exit code: 0 stopped as told, 1 bad configuration or a failed worker,
    ///   3 not permitted or not supported here.
    public static func run(configurationPath path: String) -> Int32 {
        Host.raiseDescriptorLimit()
        // A reader of standard error that is gone costs a line, not the process.
        signal(SIGPIPE, SIG_IGN)
        defer { LogSink.standardError.finish(seconds: 0.5) }
        do {
            let signals = try SignalQueue([SIGTERM, SIGINT, SIGHUP])
            let (configuration, problems) = ConfigurationFiles.load(path)
            for problem in problems { LogSink.standardError.write("\(problem)") }
            guard let configuration else { return 1 }
            LogSettings.apply(configuration.log)
            LoggingSystem.bootstrap { _ in LineLogHandler() }
            let control = try Control(configuration, path: path)
            return control.loop(signals)
        } catch {
            LogSink.standardError.write("shuck: \(error)")
            return 3
        }
    }
}

/// The control thread's state. Everything that opens, closes or publishes happens here.
private final class Control {
    private let path: String
    private let log = Logger(label: "shuck")
    private let lock: InstanceLock
    private let cpus: [Int]
    private let nodes: WorkerNodes
    private let netlink: NetlinkSocket
    private let notices: NetlinkSocket
    private var routes: RouteFollower
    /// Tells of namespaces that come.
    private let watch: DirectoryWatch
    /// Until then a namespace that was announced is looked for often: its name comes first.
    private var expectedUntil: UInt64 = 0
    private let admin: AdminState
    private var server: AdminServer?
    private var snapshot: Snapshot
    private var isServing = false
    private var told = ToldDegradations()
    /// When to look for degradations again: some come with no notice, from a worker.
    private var announceDue: UInt64 = 0

    init(_ configuration: Configuration, path: String) throws {
        self.path = path
        let warnings = try Preflight.check(configuration)
        for warning in warnings { log.warning("\(warning)") }
        lock = try InstanceLock(socket: configuration.admin.socket)
        cpus = try configuration.workerCPUs()
        nodes = try WorkerNodes(cpus: cpus)
        // Subscribed before the first dump: nothing that changes in between is missed.
        notices = try NetlinkSocket.notices()
        netlink = try NetlinkSocket()
        watch = try DirectoryWatch()
        for directory in configuration.namespaceDirectories { watch.watch(directory) }
        admin = try AdminState()
        var plumbing = try Plumbing().reconciled(
            with: configuration, links: netlink.links(), cpus: cpus)
        let links = try netlink.links()
        try plumbing.clampReplies(configuration, links: links, unlike: Plumbing())
        routes = try RouteFollower(netlink, notices, links)
        let (policy, generation) = (configuration.policy, routes.generation)
        let states = Self.states(configuration, links)
        let worlds = nodes.make { _ in
            World(policy: PolicyTables(policy), routes: generation, interfaces: states)
        }
        snapshot = Snapshot(
            configurationFile: path, configuration: configuration, generation: 1, worlds: worlds,
            links: links, routes: RouteStatus(routes), plumbing: plumbing, workers: [],
            retired: [:], retiredRingDrops: [:],
            startedNanoseconds: Host.monotonicNanoseconds(), startedUnix: Host.unixSeconds(),
            lastAppliedUnix: Host.unixSeconds(), lastReloadUnix: Host.unixSeconds(),
            warnings: warnings)
        try startWorkers()
        try snapshot.plumbing.startReceiving(configuration, unlike: Plumbing())
        logArrivals(unlike: Plumbing())
        for warning in snapshot.placement() { log.warning("\(warning)") }
        share()
        server = try AdminServer(configuration.admin, state: admin)
        announce()
    }

    private static func states(
        _ configuration: Configuration, _ links: [Link]
    ) -> [InterfaceState] {
        configuration.policy.interfaces.map { interface in
            let link = links.first { $0.name == interface.name }
            return InterfaceState(
                index: link?.index ?? 0, mtu: Int32(clamping: link?.mtu ?? 0),
                reversePath: interface.reversePath,
                vrf: link.flatMap { slave in links.first { $0.index == slave.master } }?.vrfTable
                    ?? 0)
        }
    }

    // MARK: workers

    private func startWorkers() throws {
        for (number, cpu) in cpus.enumerated() {
            let mailbox = try Mailbox()
            let shape = CounterShape(snapshot.world.policy)
            let memory = try Worker.makeMemory(worker: number, cpu: cpu)
            let counters = try CounterBlock(shape: shape, cpu: cpu)
            let examples = try DropExamples(cpu: cpu)
            mailbox.post(assignment(number, counters, examples))
            let thread = try WorkerThread(name: "shuck-worker-\(number)") {
                Self.work(cpu: cpu, mailbox: mailbox, memory: memory)
            }
            snapshot.workers.append(
                Snapshot.WorkerState(
                    number: number, cpu: cpu, thread: thread, mailbox: mailbox, memory: memory,
                    counters: counters, examples: examples))
        }
        try awaitWorkers()
    }

    /// A worker's thread, from its first line to its last.
    private static func work(cpu: Int, mailbox: Mailbox, memory: NamedMemory) {
        do {
            do throws(SystemError) {
                try Placement.pinSelf(to: cpu)
            } catch {
                // A cpuset that shrank: it runs elsewhere rather than not at all.
                Logger(label: "shuck").warning("\(error)")
            }
            try Placement.withMemory(onNodeOf: cpu) { () throws(SystemError) in
                try Worker(mailbox: mailbox, memory: memory).run()
            }
        } catch {
            mailbox.failure.withLock { $0 = "\(error)" }
            Logger(label: "shuck").critical("worker on CPU \(cpu): \(error)")
        }
    }

    private func assignment(
        _ worker: Int, _ counters: CounterBlock, _ examples: DropExamples, isLast: Bool = false
    ) -> Assignment {
        let configuration = snapshot.configuration
        let ports = configuration.interfaces.enumerated().compactMap { index, name in
            snapshot.plumbing.interfaces[name].map {
                Assignment.Port(interface: UInt16(index), ring: $0.rings[worker])
            }
        }
        return Assignment(
            generation: snapshot.generation, world: snapshot.worlds[nodes.places[worker]],
            fragments: configuration.outer.fragments, ports: ports,
            devices: configuration.devices.map {
                (snapshot.plumbing.devices[$0.name], worker)
            },
            coalesce: configuration.workers.coalesce,
            replies: snapshot.plumbing.replies, answers: snapshot.plumbing.answers,
            counters: counters, examples: examples,
            busyPollNanoseconds: configuration.workers.busyPoll.nanoseconds,
            isShadow: configuration.mode == .shadow, isLast: isLast)
    }

    /// Waits until every worker runs on the newest generation, so that the old one can go.
    private func awaitWorkers() throws {
        let deadline = Host.monotonicNanoseconds() + 10_000_000_000
        for worker in snapshot.workers {
            while worker.mailbox.taken.load(ordering: .acquiring) < snapshot.generation {
                if let failure = worker.mailbox.failure.withLock({ $0 }) {
                    throw HostProblem(description: failure)
                }
                if let refusal = worker.mailbox.refusal(of: snapshot.generation) {
                    throw HostProblem(description: "worker \(worker.number): \(refusal)")
                }
                guard Host.monotonicNanoseconds() < deadline else {
                    throw HostProblem(
                        description: "worker \(worker.number) on CPU \(worker.cpu) is stuck")
                }
                usleep(200)
            }
        }
    }

    /// Publishes the snapshot's world and plumbing; `keep` holds what the old one used.
    private func publish(newCounters: Bool = false, newExamples: Bool = false) throws {
        snapshot.generation += 1
        let old = snapshot.workers
        if newCounters {
            let shape = CounterShape(snapshot.world.policy)
            snapshot.workers = try old.map { worker in
                var next = worker
                next.counters = try CounterBlock(shape: shape, cpu: worker.cpu)
                if newExamples { next.examples = try DropExamples(cpu: worker.cpu) }
                return next
            }
        }
        for worker in snapshot.workers {
            worker.mailbox.post(assignment(worker.number, worker.counters, worker.examples))
        }
        try awaitWorkers()
    }

    /// Shows the admin threads the new state.
    private func share() {
        snapshot.routes = RouteStatus(routes)
        let snapshot = snapshot
        admin.snapshot.withLock { $0 = snapshot }
    }

    // MARK: the loop

    func loop(_ signals: SignalQueue) -> Int32 {
        while true {
            let ready = Host.waitReadable(
                [
                    signals.descriptor.number, notices.descriptor,
                    admin.wakeup.descriptor.number, watch.descriptor,
                ], failing: snapshot.plumbing.queuesElsewhere, milliseconds: patience)
            if let failure = snapshot.unhealthiness().first {
                log.critical("\(failure); stopping")
                stop()
                return 1
            }
            if Host.monotonicNanoseconds() >= announceDue { announce() }
            if ready[1] || routes.patience == 0 { followKernel() }
            followNamespaces(isTold: ready[3])
            if ready[2] {
                admin.wakeup.clear()
                for request in admin.takeReloads() { request.succeed(reload()) }
                for (inquiry, promise) in admin.takeInquiries() { promise.succeed(why(inquiry)) }
            }
            guard ready[0] else { continue }
            switch signals.next() {
            case SIGHUP: _ = reload()
            default:
                stop()
                return 0
            }
        }
    }

    private func why(_ inquiry: RouteInquiry) -> RouteAnswer? {
        var answer = RouteAnswer(inquiry, routes.mirror, snapshot.world, snapshot.links)
        answer?.age = RouteStatus(routes).age
        return answer
    }

    /// How long to wait for the next event, in milliseconds. Workers are looked at each second.
    private var patience: Int32 {
        let isExpecting = !snapshot.plumbing.absences.isEmpty
            && Host.monotonicNanoseconds() < expectedUntil
        return min(isExpecting ? 10 : 1000, routes.patience ?? 1000)
    }

    /// Takes links anew after any change, and of routes what changed.
    private func followKernel() {
        // What changes together is told in many notices: one publication for all.
        usleep(2_000)
        let told = notices.takeNotices()
        guard !told.isEmpty || routes.due != nil else { return }
        follow(told, reopening: false)
    }

    /// Opens devices anew whose pod's namespace went or came.
    /// - Parameter isTold: a directory of namespaces has changed. A namespace is mounted on its
    ///   name some moments after that is made, and of the mount nobody tells.
    private func followNamespaces(isTold: Bool) {
        if isTold {
            watch.clear()
            expectedUntil = Host.monotonicNanoseconds() + 1_000_000_000
        }
        // A directory may come late, too.
        for directory in snapshot.configuration.namespaceDirectories { watch.watch(directory) }
        if snapshot.plumbing.hasStaleDevice(snapshot.configuration) {
            follow(KernelNotices(), reopening: true)
        }
    }

    private func follow(_ told: KernelNotices, reopening: Bool) {
        do {
            if !reopening && !told.concernsLinks {
                // Routes alone: what receives and injects stays as it is.
                if told.routes.contains(where: { !$0.isNew }) {
                    snapshot.plumbing.answers?.restoreRoutes()
                }
                if try routes.follow(told, netlink, notices, links: snapshot.links) {
                    try publish(routes.generation)
                }
                return share()
            }
            let links = try netlink.links()
            let old = snapshot.plumbing
            var plumbing = old
            if reopening
                || Self.changesPlumbing(from: snapshot.links, to: links, snapshot.configuration)
            {
                plumbing = try old.reconciled(
                    with: snapshot.configuration, links: links, cpus: cpus, isFollowing: true)
                try plumbing.startReceiving(snapshot.configuration, unlike: old)
            }
            retireRings(old, plumbing)
            plumbing.answers?.restoreRoutes()
            snapshot.links = try netlink.links()
            followLinks(&plumbing, unlike: old)
            snapshot.plumbing = plumbing
            _ = try routes.follow(told, netlink, notices, links: snapshot.links)
            try publish(routes.generation)
            logArrivals(unlike: old)
            share()
            announce()
        } catch {
            log.error("the host's links or routes changed and could not be followed: \(error)")
            // A device that is gone tells so again at once.
            if reopening { usleep(100_000) }
        }
    }

    /// Another generation of routes under the same policy. Returns when every worker has it.
    private func publish(_ generation: RouteTable) throws {
        snapshot.routes = RouteStatus(routes)
        let states = Self.states(snapshot.configuration, snapshot.links)
        let before = snapshot.worlds
        // Routes change too often to be copied to each node; what workers find in them they keep.
        snapshot.worlds = nodes.make { place in
            World(policy: before[place].policy, routes: generation, interfaces: states)
        }
        try publish()
        routes.reclaim()
    }

    /// Says which devices stand in a namespace since; those that went are degradations.
    private func logArrivals(unlike old: Plumbing) {
        let now = snapshot.plumbing
        for device in snapshot.configuration.devices {
            let name = device.name
            if let path = device.netns, let open = now.devices[name], open !== old.devices[name] {
                log.notice("device \(name) stands in \(path)")
            }
        }
    }

    /// Gives the answers' clamp the links' new MTU; should that fail, the rest is followed.
    private func followLinks(_ plumbing: inout Plumbing, unlike old: Plumbing) {
        do {
            try plumbing.clampReplies(
                snapshot.configuration, links: snapshot.links, unlike: old)
        } catch {
            plumbing.replyTable = old.replyTable
            plumbing.replyChains = old.replyChains
            plumbing.replyFailure = "\(error)"
        }
    }

    /// Whether a configured interface or a device came, went, or was made again.
    private static func changesPlumbing(
        from old: [Link], to new: [Link], _ configuration: Configuration
    ) -> Bool {
        let names = configuration.interfaces
            + configuration.devices.filter { $0.netns == nil }.map(\.name)
        return names.contains { name in
            old.first { $0.name == name }?.index != new.first { $0.name == name }?.index
        }
    }

    /// Keeps what closing rings have lost, so that the counter never goes back.
    private func retireRings(_ old: Plumbing, _ new: Plumbing) {
        for (name, interface) in old.interfaces where new.interfaces[name] !== interface {
            for (worker, ring) in interface.rings.enumerated() {
                snapshot.retiredRingDrops[worker, default: 0] += ring.droppedByKernel()
            }
        }
    }

    // MARK: reload

    /// Loads, checks, opens what is new, publishes, closes what is gone.
    /// - Returns: the problems for which the old configuration goes on; none when it was applied.
    private func reload() -> [String] {
        ServiceNotifier.reloading()
        defer { ServiceNotifier.notify("READY=1") }
        let (loaded, problems) = ConfigurationFiles.load(path)
        for problem in problems { log.log(level: level(problem), "\(problem)") }
        var refusals = problems.filter { $0.severity == .error }.map(\.description)
        if let loaded, refusals.isEmpty { refusals = apply(loaded) }
        snapshot.lastReloadSuccessful = refusals.isEmpty
        snapshot.lastReloadProblems = refusals
        snapshot.lastReloadUnix = Host.unixSeconds()
        if refusals.isEmpty {
            snapshot.configurations += 1
            snapshot.lastAppliedUnix = snapshot.lastReloadUnix
        } else {
            log.error("reload refused, the old configuration goes on: \(refusals.joined(separator: "; "))")
        }
        share()
        announce()
        return refusals
    }

    private func level(_ problem: Problem) -> Logger.Level {
        problem.severity == .error ? .error : .warning
    }

    private func apply(_ next: Configuration) -> [String] {
        let old = snapshot.configuration
        let differences = next.differences(from: old)
        if next.workers.cpus != old.workers.cpus {
            return ["workers.cpus cannot change while shuck runs: restart it"]
        }
        if next.admin != old.admin { return ["admin cannot change while shuck runs: restart it"] }
        do {
            let warnings = try Preflight.check(next)
            var plumbing = try snapshot.plumbing.reconciled(
                with: next, links: try netlink.links(), cpus: cpus)
            try plumbing.startReceiving(next, unlike: snapshot.plumbing, before: old)
            let (policy, links) = (next.policy, try netlink.links())
            let (worlds, states) = (snapshot.worlds, Self.states(next, links))
            let nextWorlds = nodes.make { place in
                World(
                    policy: PolicyTables(policy), routes: worlds[place].routes, interfaces: states)
            }
            try plumbing.clampReplies(next, links: links, unlike: snapshot.plumbing)
            let before = snapshot.plumbing
            switchOver(next, plumbing, nextWorlds, links)
            try publishSwitched(from: old)
            snapshot.plumbing.settle(next)
            logArrivals(unlike: before)
            snapshot.warnings = warnings
        } catch {
            return ["\(error)"]
        }
        LogSettings.apply(next.log)
        for line in differences { log.notice("reload: \(line)") }
        log.notice("reload applied", metadata: ["generation": "\(snapshot.generation)"])
        return []
    }

    private func switchOver(
        _ next: Configuration, _ plumbing: Plumbing, _ worlds: [World], _ links: [Link]
    ) {
        retireRings(snapshot.plumbing, plumbing)
        snapshot.configuration = next
        snapshot.plumbing = plumbing
        snapshot.worlds = worlds
        snapshot.links = links
    }

    /// Publishes with new counters and adds up the old ones once no worker writes them.
    private func publishSwitched(from old: Configuration) throws {
        let workers = snapshot.workers
        // An example names its interface by its place in the list.
        let newExamples = old.interfaces != snapshot.configuration.interfaces
        try publish(newCounters: true, newExamples: newExamples)
        for worker in workers {
            snapshot.retired.add(
                worker.counters.read(), worker: worker.number, configuration: old)
            let truncated = worker.counters.read()[.truncated]
            snapshot.retiredRingDrops[worker.number, default: 0] += truncated
        }
    }

    // MARK: start and stop

    /// Says READY once, when every interface is there; and each degradation when it comes and goes.
    private func announce() {
        announceDue = Host.monotonicNanoseconds() + 1_000_000_000
        let (came, went) = told.update(snapshot.degradations())
        for one in came { log.warning("\(one.text)") }
        for subject in went { log.notice("no longer degraded: \(subject)") }
        let problems = snapshot.unreadiness()
        if problems.isEmpty && !isServing {
            isServing = true
            log.notice(
                "forwarding",
                metadata: [
                    "interfaces": "\(snapshot.configuration.interfaces.joined(separator: ","))",
                    "workers": "\(cpus.map(String.init).joined(separator: ","))",
                    "mode": "\(snapshot.configuration.mode.rawValue)",
                ])
            ServiceNotifier.notify("READY=1", "STATUS=forwarding")
        } else if let problem = problems.first, !came.isEmpty {
            ServiceNotifier.notify("STATUS=waiting: \(problem)")
        }
    }

    /// No new frames, all that came before injected, then everything that was made goes.
    private func stop() {
        ServiceNotifier.notify("STOPPING=1")
        snapshot.isStopping = true
        share()
        do { try snapshot.plumbing.stopReceiving() } catch { log.error("\(error)") }
        snapshot.generation += 1
        for worker in snapshot.workers {
            worker.mailbox.post(assignment(worker.number, worker.counters, worker.examples, isLast: true))
        }
        for worker in snapshot.workers
        where worker.mailbox.failure.withLock({ $0 }) == nil { worker.thread.join() }
        let packets = snapshot.report().packets
        log.notice(
            "stopped",
            metadata: [
                "received": "\(packets.received)", "injected": "\(packets.injected)",
                "dropped": "\(packets.dropped)", "passed": "\(packets.passed)",
            ])
        server?.stop()
        admin.snapshot.withLock { $0 = nil }
        snapshot.plumbing = Plumbing()
    }
}
