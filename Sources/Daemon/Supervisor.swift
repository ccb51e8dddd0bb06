// The daemon's life on the control thread: start, wait for what happens, say how it is, stop.

import Forwarding
import Foundation
import HostPlan
import LinuxIO
import Logging
import Routing
import Settings

public enum Supervisor {
    public enum Origin {
        /// The host: all is opened anew.
        case start
        /// The running shuck of the same admin socket, where there is one.
        case running
        /// The one at the other end of a connection that this process was started with.
        /// - Parameter standsIn: that one will take over again, by the same connection.
        case connection(Int32, standsIn: Bool)
    }

    /// Runs the daemon in the foreground until SIGTERM or SIGINT.
    /// To be called on the main thread before any other exists: it blocks signals.
    /// - Parameters:
    ///   - isStrict: ends rather than start on a fallback.
    ///   - origin: where what it forwards with comes from.
    /// - Returns: an exit code: 0 stopped as told or handed over, 1 bad configuration or a failed worker,
    ///   3 not permitted or not supported here.
    public static func run(
        configurationPath path: String, isStrict: Bool, from origin: Origin = .start
    ) -> Int32 {
        Timing.checkRelations()
        Host.raiseDescriptorLimit()
        // A reader of standard error that is gone costs a line, not the process.
        signal(SIGPIPE, SIG_IGN)
        defer { LogSink.standardError.finish(seconds: Timing.logSeconds) }
        LoggingSystem.bootstrap { _ in LineLogHandler() }
        do {
            let signals = try SignalQueue([SIGTERM, SIGINT, SIGHUP, SIGUSR2])
            guard let control = try forwarding(path, isStrict, from: origin) else { return 1 }
            return control.loop(signals)
        } catch {
            for line in (error as? HostProblem)?.lines ?? ["\(error)"] {
                Logger(label: "shuck").critical("\(line)")
            }
            return 3
        }
    }

    /// - Returns: nil for a bad configuration, of which it tells.
    private static func forwarding(
        _ path: String, _ isStrict: Bool, from origin: Origin
    ) throws -> Control? {
        if case .connection(let number, let standsIn) = origin {
            let socket = HandOverSocket(adopting: Descriptor(number))
            let control = try Control.takeOver(from: socket, path, isStrict)
            if standsIn { control.successor = Successor(socket: socket) }
            return control
        }
        if let control = Control.resume(path, isStrict) { return control }
        let (files, configuration, problems) = ConfigurationFiles.loadWithTexts(path)
        guard let configuration else {
            // As `check` has them, for what the log is to look like is not known.
            for problem in problems { LogSink.standardError.write("\(problem)") }
            return nil
        }
        LogSettings.apply(configuration.log)
        for problem in problems { Logger(label: "shuck").warning("\(problem)") }
        if case .running = origin {
            let place = Control.handOverPath(configuration.admin.socket)
            if let socket = try HandOverSocket.connect(to: place) {
                let control = try Control.takeOver(from: socket, path, isStrict)
                control.reloadIfChanged()
                return control
            }
            Logger(label: "shuck").notice("no shuck runs that could hand over at \(place): it starts anew")
        }
        let control = try Control(configuration, files, path: path, isStrict: isStrict)
        try control.begin()
        return control
    }
}

/// The control thread's state. Everything that opens, closes or publishes happens here; it waits for no
/// worker longer than `Timing` says.
final class Control {
    let path: String
    let isStrict: Bool
    /// The texts of the configuration in force.
    var files: [HandOver.File]
    let log = Logger(label: "shuck")
    let lock: InstanceLock
    let cpus: [Int]
    let nodes: WorkerNodes
    let netlink: NetlinkSocket
    let notices: NetlinkSocket
    var routes: RouteFollower
    /// Tells of namespaces that come.
    let watch: DirectoryWatch
    /// Until then a namespace that was announced is looked for often: its name comes first.
    var expectedUntil: UInt64 = 0
    let admin: AdminState
    var server: AdminServer?
    var handOverListener: HandOverListener?
    /// nil: the service manager has none, or this process stands in.
    var store: DescriptorStore?
    /// What was put there last.
    var stored: (plumbing: Plumbing, counters: [CounterBlock], retired: Totals)?
    /// Names of what processes before this one have put there.
    var storedBefore: [String] = []
    /// The process that wants to take over, while there is one.
    var successor: Successor?
    var snapshot: Snapshot
    /// Those that the plumbing was last made for. `snapshot.links` are read behind that, with the devices
    /// that it opened: an interface that came in between would be in them, and never be taken up.
    var reachedLinks: [Link] = []
    /// What publications replaced and a worker may still run on, the oldest first.
    var replaced: [Replaced] = []
    /// The mirror's tries have left nodes that a worker may still read.
    var isUnreclaimed = false
    /// The last reload kept things wide that may be narrowed once every worker has taken it.
    var isUnsettled = false
    /// Until then workers are looked at often, to let go of what they no longer run on.
    var settleUntil: UInt64 = 0
    /// Following the kernel failed: when it is tried again, and how often it failed in a row.
    var refollow: Backoff.Retry?
    /// A worker refused a generation: likewise.
    var republish: Backoff.Retry?
    private var tickDue: UInt64 = 0
    private var told = ToldFindings()
    var host = HostWatch()
    /// Whether it forwards or what it waits for, as the log and as systemd were last told.
    private var loggedStatus = ""
    var notifiedStatus = ""

    /// Makes all that workers need, and starts none.
    /// - Parameter offer: of the process that this one takes over from; nil: all is opened anew.
    init(
        _ configuration: Configuration, _ files: [HandOver.File], path: String, isStrict: Bool,
        from offer: Predecessor.Offer? = nil
    ) throws {
        self.path = path
        self.isStrict = isStrict
        self.files = files
        // Subscribed before the first look: nothing that changes in between is missed.
        notices = try NetlinkSocket.notices()
        netlink = try NetlinkSocket()
        cpus = try configuration.workerCPUs()
        var facts = HostFacts.read(for: configuration, cpus: cpus, links: try netlink.links())
        facts.addPermissions()
        facts.addPlacement(of: configuration)
        let advice = try configuration.checked(on: facts)
        for one in advice { log.warning("\(one)") }
        lock =
            if let offer { InstanceLock(adopting: offer.lock) } else { try InstanceLock(configuration.admin) }
        nodes = try WorkerNodes(cpus: cpus)
        watch = try DirectoryWatch()
        for directory in configuration.namespaceDirectories { watch.watch(directory) }
        admin = try AdminState()
        if offer == nil { try Self.awaitPredecessor(configuration, netlink) }
        facts.links = try netlink.links()
        var plumbing =
            try offer.map {
                try Plumbing($0.document.held, surplus: $0.document.surplus, $0.descriptors)
            } ?? Plumbing()
        plumbing.filters = try? FilterContext()
        // Frames come in when workers run.
        _ = try plumbing.reach(configuration, facts, .start, [.prepare, .share])
        try plumbing.refuseStartWithNothing()
        facts.links = try netlink.links()
        let links = facts.links
        routes = try RouteFollower(netlink, notices, links)
        let (policy, generation) = (configuration.policy, routes.generation)
        let states = Self.states(configuration, links)
        let worlds = nodes.make { _ in
            ForwardingTables(policy: PolicyTables(policy), routes: generation, interfaces: states)
        }
        snapshot = Snapshot(
            state: DaemonState(
                configurationFile: path, configuration: configuration, links: links,
                routes: routes.status, warnings: Self.notes(advice),
                ringRefusal: Worker.ringRefusal()),
            worlds: worlds, plumbing: plumbing)
        try configuration.refuseClaimGaps(snapshot.world)
        reachedLinks = facts.links
    }

    /// Starts the workers; frames come in and the kernel is silent.
    /// - Parameters:
    ///   - adminSocket: of the process that handed over; nil: it is made.
    ///   - listener: likewise.
    func begin(adminSocket: Descriptor? = nil, listener: Descriptor? = nil) throws {
        try startWorkers()
        let configuration = snapshot.configuration
        let facts = HostFacts.read(for: configuration, cpus: cpus, links: snapshot.links)
        _ = try snapshot.plumbing.reach(configuration, facts, .start)
        findClaimGaps()
        if isStrict { try refuseFallbacks() }
        logArrivals(unlike: Plumbing())
        share()
        server = try AdminServer(configuration.admin, state: admin, inherited: adminSocket)
        let place = Self.handOverPath(configuration.admin.socket)
        handOverListener =
            try listener.map { HandOverListener(adopting: $0, path: place) }
            ?? HandOverListener(path: place)
        store = DescriptorStore(replacing: storedBefore)
        snapshot.host = host.look(configuration, snapshot.plumbing, log)
        share()
        announce()
    }

    /// Waits a moment for devices of our names that a killed shuck has left; those of others stay.
    private static func awaitPredecessor(
        _ configuration: Configuration, _ netlink: NetlinkSocket
    ) throws {
        let names = Set(configuration.devices.lazy.filter { $0.netns == nil }.map(\.name))
        // ARPHRD_NONE: a TUN device.
        try Timing.wait(nanoseconds: Timing.predecessorNanoseconds) {
            try !netlink.links().contains { $0.hardwareType == 65534 && names.contains($0.name) }
        }
    }

    /// What status says beside what falls short; it looks at the workers' places itself.
    static func notes(_ advice: [Finding]) -> [String] {
        advice.filter { $0.what != .worker }.map(\.description)
    }

    func refuseFallbacks() throws {
        let fallbacks = snapshot.view().findings.filter(\.what.isFallback).map(\.description)
        guard !fallbacks.isEmpty else { return }
        throw HostProblem(
            description: "--strict starts on no fallback: \(fallbacks.joined(separator: "; "))")
    }

    static func states(_ configuration: Configuration, _ links: [Link]) -> [InterfaceState] {
        configuration.policy.interfaces.map { interface in
            let link = links.first { $0.name == interface.name }
            return InterfaceState(
                index: link?.index ?? 0, mtu: Int32(clamping: link?.mtu ?? 0),
                reversePath: interface.reversePath,
                vrf: link.flatMap { slave in links.first { $0.index == slave.master } }?.vrfTable
                    ?? 0)
        }
    }

    /// Shows the admin threads the new state.
    func share() {
        snapshot.routes = routes.status
        let snapshot = snapshot
        admin.snapshot.withLock { $0 = snapshot }
        keepStored()
    }

    // MARK: the loop

    func loop(_ signals: SignalQueue) -> Int32 {
        while true {
            let elsewhere = snapshot.plumbing.queuesElsewhere
            // poll(2) passes over -1.
            let ready = Host.waitReadable(
                [
                    signals.descriptor.number, notices.descriptor,
                    admin.wakeup.descriptor.number, watch.descriptor,
                    handOverListener?.descriptor.number ?? -1, successor?.socket.descriptor.number ?? -1,
                ], failing: elsewhere, milliseconds: patience)
            snapshot.pulse.beat()
            if let failure = snapshot.endedWorkers().first {
                log.critical("\(failure); stopping")
                stop()
                return 1
            }
            letGo()
            let isTick = Host.monotonicNanoseconds() >= tickDue
            if isTick { tick() }
            if ready[1] || routes.patience == 0 { followKernel() }
            retry()
            let hasEnded = ready.suffix(elsewhere.count).contains(true)
            followNamespaces(isTold: ready[3], looks: isTick || hasEnded)
            watchHost()
            if ready[2] {
                admin.wakeup.clear()
                for request in admin.takeRequests() {
                    switch request {
                    case .reload(let promise): promise.succeed(reload())
                    case .why(let inquiry, let promise): promise.succeed(why(inquiry))
                    case .upgrade(let promise): upgrade(UpgradeRequest(promise))
                    }
                }
            }
            if ready[4] { acceptSuccessor() }
            if ready[5], let end = serveSuccessor() { return end }
            guard ready[0] else { continue }
            switch signals.next() {
            case SIGHUP: _ = reload()
            case SIGUSR2: upgrade(UpgradeRequest(nil))
            default: return leaveToStore() ?? (stop() ? 0 : 1)
            }
        }
    }

    private func why(_ inquiry: RouteAnswer.Inquiry) -> RouteAnswer? {
        var answer = RouteAnswer(inquiry, routes.mirror, snapshot.world, snapshot.links)
        answer?.age = routes.age
        return answer
    }

    /// How long to wait for the next event, in milliseconds.
    private var patience: Int32 {
        let now = Host.monotonicNanoseconds()
        var due = min(tickDue, host.dueNanoseconds)
        for other in [
            snapshot.plumbing.nextAttemptNanoseconds, refollow?.dueNanoseconds,
            republish?.dueNanoseconds,
        ] { due = min(due, other ?? due) }
        let waits = due > now ? Int32(clamping: (due - now) / 1_000_000 + 1) : 0
        let isExpecting = !snapshot.plumbing.absences.isEmpty && now < expectedUntil
        let isSettling = (!replaced.isEmpty || isUnreclaimed) && now < settleUntil
        return min(
            waits, isExpecting ? Timing.namespaceMilliseconds : waits,
            isSettling ? Timing.settleMilliseconds : waits,
            routes.patience ?? waits)
    }

    /// What nobody tells of: workers that stand still, or that refused something.
    private func tick() {
        tickDue = Host.monotonicNanoseconds() + Timing.tickNanoseconds
        for worker in snapshot.workers { worker.mailbox.askForLife() }
        noteRefusals()
        snapshot.plumbing.removeSurplus()
        announce()
        // systemd ends and restarts a daemon whose workers do not go on.
        if !snapshot.workers.contains(where: \.isStill) { ServiceNotifier.keepAlive() }
    }

    // MARK: what is said

    /// Says how it is when that has changed: each degradation when it comes and when it goes, and whether
    /// packets are forwarded, to the log and to systemd. READY comes with the first word: a daemon
    /// that waits for an interface has started, and /readyz says that it waits.
    func announce() {
        let view = snapshot.view()
        let (came, went) = told.update(view.findings)
        for one in came { log.warning("\(one)") }
        for subject in went { log.notice("no longer degraded: \(subject)") }
        let problems = view.unreadiness
        let status = problems.first.map { "waiting: \($0)" } ?? "forwarding"
        // What systemd could not be told is told at the next tick.
        if status != notifiedStatus, ServiceNotifier.notify("READY=1", "STATUS=\(status)") {
            notifiedStatus = status
        }
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

    /// Says which devices and interfaces came or were made again; those that went are degradations.
    func logArrivals(unlike old: Plumbing) {
        let now = snapshot.plumbing
        for device in snapshot.configuration.devices {
            let name = device.name
            guard let open = now.device(name), open !== old.device(name) else { continue }
            if let path = device.netns {
                log.notice("device \(name) stands in \(path)")
            } else if old.device(name) != nil {
                log.notice("device \(name) was deleted; shuck has made it again")
            } else if old.absences[.device(name)] != nil {
                log.notice("device \(name) is there")
            }
        }
        for name in snapshot.configuration.interfaces {
            guard let open = now.interface(name), let before = old.interface(name),
                open !== before
            else { continue }
            log.notice("interface \(name) was made again; shuck receives from the new one")
        }
    }

    // MARK: the end

    /// No new frames, all that came before injected, then everything that was made goes.
    /// - Returns: false when a worker did not end in time.
    @discardableResult
    private func stop() -> Bool {
        ServiceNotifier.notify("STOPPING=1")
        snapshot.isStopping = true
        share()
        do { try snapshot.plumbing.stopReceiving() } catch { log.error("\(error)") }
        snapshot.generation += 1
        for worker in snapshot.workers {
            worker.mailbox.post(assignment(worker.number, worker.counters, worker.examples, ending: .drained))
        }
        let left = joinWorkers()
        for worker in left {
            log.error(
                """
                worker \(worker.number) on CPU \(worker.cpu) stands still and did not end: frames \
                that wait in its rings are lost
                """)
        }
        let packets = StatusReport.Packets(snapshot.counts())
        log.notice(
            "stopped",
            metadata: [
                "received": "\(packets.received)", "injected": "\(packets.injected)",
                "dropped": "\(packets.dropped)", "passed": "\(packets.passed)",
            ])
        server?.stop()
        handOverListener?.remove()
        admin.snapshot.withLock { $0 = nil }
        replaced = []
        let last = snapshot.plumbing
        snapshot.plumbing = Plumbing()
        snapshot.plumbing.removeSurplus(of: last)
        return left.isEmpty
    }

    /// - Returns: workers that have not ended when the time is over.
    func joinWorkers() -> [Snapshot.WorkerState] {
        var left = snapshot.workers
        Timing.wait(nanoseconds: Timing.stopNanoseconds) {
            left.removeAll { worker in
                let hasEnded = worker.mailbox.hasEnded.load(ordering: .acquiring)
                if hasEnded { worker.thread.join() }
                return hasEnded
            }
            return left.isEmpty
        }
        return left
    }
}
