// The daemon's life: the supervisor opens and closes, follows the host, and provides an engine with what
// this runs on; start, wait for what happens, say how it is, stop.

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
        // Whoever started it may have it ignored: then nobody tells how a child ended.
        signal(SIGCHLD, SIG_DFL)
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
            // systemd knows of no other start of this process.
            control.hasForwarded = true
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
            let place = HandOver.path(beside: configuration.admin.socket)
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

/// The supervisor's state. Everything that opens, closes or changes the host happens here.
final class Control {
    let path: String
    let isStrict: Bool
    /// The texts of the configuration in force.
    var files: [HandOver.File]
    var configuration: Configuration
    let log = Logger(label: "shuck")
    let lock: InstanceLock
    let cpus: [Int]
    let netlink: NetlinkSocket
    let notices: NetlinkSocket
    /// Tells of namespaces that come.
    let watch: DirectoryWatch
    /// Until then a namespace that was announced is looked for often: its name comes first.
    var expectedUntil: UInt64 = 0
    var adminSocket: AdminSocket?
    /// Of `admin.listen`.
    var adminPort: Descriptor?
    var handOverListener: HandOverListener?
    /// nil: the service manager has none, or this process stands in.
    var store: DescriptorStore?
    /// What was put there last.
    var stored: (plumbing: Plumbing, counters: [CounterBlock], earlier: [EngineCount.Value])?
    /// Names of what processes before this one have put there.
    var storedBefore: [String] = []
    /// The process that wants to take over, while there is one.
    var successor: Successor?
    var plumbing: Plumbing
    var memories: [WorkerMemory] = []
    /// Copies of frames that workers of another process have left, until an engine has them.
    var left: [NamedMemory] = []
    var report: SupervisorReport
    var engine: EngineProcess
    /// The engine has ended: when another one is started.
    var restart: Backoff.Retry?
    /// Engines that did not live long, in a row, and the last that was waited for.
    var shortLives = 0
    /// How it ended has been taken down.
    var isEndNoted = false
    var ringWatch = RingWatch()
    var failedEngines: Backoff.Retry?
    /// It was told to start workers.
    var isEngineStarted = false
    /// What an engine that has ended had counted.
    var engineLeft: EngineCount?
    var startedEngineNanoseconds = Host.monotonicNanoseconds()
    /// Those that the plumbing was last made for: an interface that came since then is to be taken up.
    var reachedLinks: [Link] = []
    /// What the plumbing of now replaced and a worker may still run on, the oldest first.
    var superseded: [Superseded] = []
    /// The last reload kept things wide that may be narrowed once every worker has taken it.
    var isUnsettled = false
    /// Following the host failed: when it is tried again, and how often it failed in a row.
    var refollow: Backoff.Retry?
    private var tickDue: UInt64 = 0
    var host = HostWatch()
    /// It has, at least once, so that it counts as started.
    var hasForwarded = false
    /// Whether it forwards or what it waits for, as systemd was last told.
    var notifiedStatus = ""

    /// Held until no worker runs on it. Claims above all, for until then both hold.
    struct Superseded {
        /// The provision that replaced it.
        let sequence: UInt64
        let plumbing: Plumbing
        /// Counters that it replaced too, and their configuration.
        var counters: [CounterBlock] = []
        let configuration: Configuration
    }

    var provision: Provision {
        var report = report
        report.replyTable = plumbing.replyTable?.name
        return Provision(
            cpus: cpus, files: files, configuration: configuration, plumbing: plumbing, memories: memories,
            left: left, adminSocket: adminSocket?.descriptor, adminPort: adminPort, report: report)
    }

    /// Makes all that workers need, and starts none.
    /// - Parameter offer: of the process that this one takes over from; nil: all is opened anew.
    init(
        _ configuration: Configuration, _ files: [HandOver.File], path: String, isStrict: Bool,
        from offer: Predecessor.Offer? = nil
    ) throws {
        (self.path, self.isStrict, self.files, self.configuration) = (path, isStrict, files, configuration)
        // Subscribed before the first look: nothing that changes in between is missed.
        notices = try NetlinkSocket.notices(of: .links)
        netlink = try NetlinkSocket()
        cpus = try configuration.workerCPUs()
        var facts = HostFacts.read(for: configuration, cpus: cpus, links: try netlink.links())
        facts.addPermissions()
        facts.addPlacement(of: configuration)
        let advice = try configuration.checked(on: facts)
        for one in advice { log.warning("\(one)") }
        lock =
            if let offer { InstanceLock(adopting: offer.lock) } else { try InstanceLock(configuration.admin) }
        watch = try DirectoryWatch()
        for directory in configuration.namespaceDirectories { watch.watch(directory) }
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
        reachedLinks = try netlink.links()
        self.plumbing = plumbing
        report = SupervisorReport(configurationFile: path, warnings: Self.notes(advice))
        engine = try EngineProcess()
        try engine.prepare(provision)
    }

    /// Starts the workers; frames come in and the kernel is silent.
    /// - Parameters:
    ///   - inherited: the admin socket of the process that handed over; nil: it is made.
    ///   - listener: likewise.
    ///   - count: where the engine of another process stopped counting.
    func begin(
        adminSocket inherited: Descriptor? = nil, listener: Descriptor? = nil, from count: EngineCount? = nil
    ) throws {
        // A port that is taken ends the start before anything is claimed.
        adminPort = try configuration.admin.listen.map { try AdminListener.open($0) }
        try startEngine(from: count)
        let facts = HostFacts.read(for: configuration, cpus: cpus, links: reachedLinks)
        _ = try plumbing.reach(configuration, facts, .start)
        let admin = configuration.admin
        adminSocket = try inherited.map { AdminSocket(adopting: $0, admin) } ?? AdminSocket(admin)
        let place = HandOver.path(beside: admin.socket)
        do {
            handOverListener =
                try listener.map { HandOverListener(adopting: $0, path: place) }
                ?? HandOverListener(path: place)
            // Whoever finds it ready can ask for all.
            try engine.serve(provision)
            if isStrict { try refuseFallbacks() }
        } catch {
            if inherited == nil { adminSocket?.remove() }
            if listener == nil { handOverListener?.remove() }
            throw error
        }
        logArrivals(unlike: Plumbing())
        store = DescriptorStore(replacing: storedBefore)
        report.host = host.look(configuration, plumbing, log)
        tell()
    }

    /// Starts workers that go on counting from there.
    func startEngine(from count: EngineCount?) throws {
        memories = try makeMemories(configuration)
        var provision = provision
        provision.count = count
        isEngineStarted = true
        try engine.start(provision)
        startedEngineNanoseconds = Host.monotonicNanoseconds()
        left = []
    }

    func refuseFallbacks() throws {
        guard !engine.fallbacks.isEmpty else { return }
        throw HostProblem(
            description: "--strict starts on no fallback: \(engine.fallbacks.joined(separator: "; "))")
    }

    /// One for each worker.
    func makeMemories(_ configuration: Configuration) throws -> [WorkerMemory] {
        let counters = try makeCounters(configuration)
        return try zip(cpus, counters).map {
            WorkerMemory(counters: $1, copies: try Worker.makeCopies(cpu: $0))
        }
    }

    func makeCounters(_ configuration: Configuration) throws -> [CounterBlock] {
        let shape = CounterBlock.Shape(configuration.policy)
        return try cpus.map { try CounterBlock(shape: shape, cpu: $0) }
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

    /// Tells the engine what it only reports, and keeps what is held.
    func tell() {
        engine.note(provision)
        keepStored()
    }

    // MARK: the loop

    func loop(_ signals: SignalQueue) -> Int32 {
        while true {
            let elsewhere = plumbing.queuesElsewhere
            // poll(2) passes over -1.
            let ready = Host.waitReadable(
                [
                    signals.descriptor.number, notices.descriptor, watch.descriptor,
                    handOverListener?.descriptor.number ?? -1, successor?.socket.descriptor.number ?? -1,
                    engine.descriptor,
                ], failing: elsewhere, milliseconds: patience)
            engine.hear()
            if let failure = engine.state.failure {
                log.critical("\(failure); stopping")
                stop()
                return 1
            }
            if engine.hasEnded { restartEngine() }
            if engine.isMissingParts { provideAgain() }
            letGo()
            let isTick = Host.monotonicNanoseconds() >= tickDue
            if isTick { tick() }
            if ready[1] { followHost() }
            if let refollow, refollow.dueNanoseconds <= Host.monotonicNanoseconds() {
                follow(reopening: true)
            }
            let hasEnded = ready.suffix(elsewhere.count).contains(true)
            followNamespaces(isTold: ready[2], looks: isTick || hasEnded)
            watchHost()
            for number in engine.takeReloads() {
                let outcome = reload()
                engine.reloaded(number, outcome)
            }
            if ready[3] { acceptSuccessor() }
            if ready[4], let end = serveSuccessor() { return end }
            notify()
            guard ready[0] else { continue }
            switch signals.next() {
            case SIGHUP: _ = reload()
            case SIGUSR2: upgrade(for: nil)
            default: return leaveToStore() ?? (stop() ? 0 : 1)
            }
        }
    }

    /// How long to wait for the next event, in milliseconds.
    private var patience: Int32 {
        let now = Host.monotonicNanoseconds()
        var due = min(tickDue, host.dueNanoseconds)
        for other in [
            plumbing.nextAttemptNanoseconds, refollow?.dueNanoseconds, restart?.dueNanoseconds,
        ] {
            due = min(due, other ?? due)
        }
        let waits = due > now ? Int32(clamping: (due - now) / 1_000_000 + 1) : 0
        let isExpecting = !plumbing.absences.isEmpty && now < expectedUntil
        return min(waits, isExpecting ? Timing.namespaceMilliseconds : waits)
    }

    private func tick() {
        tickDue = Host.monotonicNanoseconds() + Timing.tickNanoseconds
        plumbing.removeSurplus()
        if let end = Program.reap()[engine.processID] { engine.seenEnd = end }
        engine.noteTick()
        engine.showLife()
        tellOfLog()
        watchRings()
        // systemd ends and restarts a daemon whose workers do not go on.
        if engine.isGoingOn { ServiceNotifier.keepAlive() }
        for (device, offloads) in engine.state.refused { plumbing.device(device)?.refusals.note(offloads) }
        if !hasForwarded { ServiceNotifier.notify(ServiceNotifier.startsYet) }
    }

    private func tellOfLog() {
        let log = LogSink.standardError
        let (failure, dropped) = (log.failure.map { "\($0)" }, log.droppedLines)
        guard failure != report.logFailure || dropped != report.logLinesDropped else { return }
        (report.logFailure, report.logLinesDropped) = (failure, dropped)
        engine.note(provision)
    }

    /// Lets go of what no worker runs on any more.
    func letGo() {
        guard !superseded.isEmpty || isUnsettled else { return }
        let settled = engine.state.settled
        for old in superseded.prefix(while: { $0.sequence <= settled }) {
            let later = superseded.filter { $0.sequence > old.sequence }.map(\.plumbing)
            plumbing.removeSurplus(of: old.plumbing, beside: later)
        }
        superseded.removeAll { $0.sequence <= settled }
        if isUnsettled && superseded.isEmpty {
            isUnsettled = !plumbing.narrow(configuration, links: (try? netlink.links()) ?? reachedLinks)
        }
    }

    // MARK: what is said

    /// Tells systemd how it is when that has changed. READY comes when it first forwards.
    func notify() {
        let unreadiness = engine.hasEnded ? "the engine ended" : engine.state.unreadiness
        if unreadiness == nil { hasForwarded = true }
        let status = unreadiness.map { "waiting: \($0)" } ?? "forwarding"
        let state = hasForwarded ? "READY=1" : ServiceNotifier.startsYet
        // What systemd could not be told is told with the next event.
        if status != notifiedStatus, ServiceNotifier.notify(state, "STATUS=\(status)") {
            notifiedStatus = status
        }
    }

    /// Says which devices and interfaces came or were made again; those that went are degradations.
    func logArrivals(unlike old: Plumbing) {
        for device in configuration.devices {
            let name = device.name
            guard let open = plumbing.device(name), open !== old.device(name) else { continue }
            if let path = device.netns {
                log.notice("device \(name) stands in \(path)")
            } else if old.device(name) != nil {
                log.notice("device \(name) was deleted; shuck has made it again")
            } else if old.absences[.device(name)] != nil {
                log.notice("device \(name) is there")
            }
        }
        for name in configuration.interfaces {
            guard let open = plumbing.interface(name), let before = old.interface(name), open !== before
            else { continue }
            log.notice("interface \(name) was made again; shuck receives from the new one")
        }
    }

    // MARK: the end

    /// No new frames, all that came before injected, then everything that was made goes.
    /// - Returns: false when a worker did not end in time.
    @discardableResult
    func stop() -> Bool {
        ServiceNotifier.notify("STOPPING=1")
        report.isStopping = true
        engine.note(provision)
        do { try plumbing.stopReceiving() } catch { log.error("\(error)") }
        let (count, left) = engine.hasEnded ? (countOfEnded(), []) : endWorkers(.drained)
        for worker in left {
            log.error(
                "\(worker) stands still and did not end: frames that wait in its rings are lost")
        }
        let packets = StatusReport.Packets(DaemonCounts(totals: count.sums))
        log.notice(
            "stopped",
            metadata: [
                "received": "\(packets.received)", "injected": "\(packets.injected)",
                "dropped": "\(packets.dropped)", "passed": "\(packets.passed)",
            ])
        adminSocket?.remove()
        handOverListener?.remove()
        // What was held is no more as it is described there.
        store?.clear()
        // It holds what is to be removed.
        engine.finish()
        superseded = []
        let last = plumbing
        plumbing = Plumbing()
        plumbing.removeSurplus(of: last)
        return left.isEmpty
    }
}
