// A simulated host from one seed: rings, devices, routes, reloads, a clock, and workers that may die.

import Forwarding
import IP
import Model
import Routing

/// Real: `Batch` with all below it, `RingTurns`, the words that outlive a process (`RingPlace`,
/// `FrameCopies`, `CounterBlock`), the route mirror. Simulated: what the kernel, the control thread and
/// `Worker` do around them, one step after the other. Between two steps of a worker's batch another worker
/// may go through batches of its own. Invariants are checked at each step.
public struct World: ~Copyable {
    /// Where in its loop a worker may die, and its process with it. The first three are within `gathered`.
    enum CrashPoint: UInt8, CaseIterable {
        case receiving, losing, gathering
        case gathered, planned, writing, performed, settled, releasing, counting, accounted, settling
    }

    /// How a device answers writes.
    enum Mood: UInt8, CaseIterable {
        case fine
        /// EAGAIN, ENOMEM, ENOBUFS, EIO, EBADFD, a short write.
        case full, noMemory, noBuffers, down, gone, short
        /// EINVAL for what is to be cut.
        case noSegments
    }

    struct Device: BitwiseCopyable {
        var mood = Mood.fine
        /// Writes until it is fine again.
        var left = 0
    }

    /// A frame of the batch in work.
    struct Place: BitwiseCopyable {
        var ring = 0
        var slot = 0
        /// nil before the verdict.
        var expected: UnsafePointer<Expected>?
        /// Writes of this batch that carried it.
        var sent = 0
        /// What the last write that was to carry it gave.
        var result: Int32 = 0
        var isReleased = false
    }

    /// What a run covered.
    public struct Summary: Sendable {
        public var frames = 0
        public var faults = 0
        public var steps = 0
        public var crashes = 0
        public var reloads = 0
        public var routeChanges = 0
        public var injected = 0
        public var joined = 0
        public var refusedJoins = 0
        public var dropped = 0
        public var held = 0
        public var whole = 0
        public var overflows = 0
        public var failedWrites = 0
        /// Frames that were written once more after a crash.
        public var twice = 0
        /// Frames larger than their slot that a dead worker had taken from the socket's queue.
        public var skipped = 0
        /// Frames that were given back and that a kill kept from being counted.
        public var uncounted = 0
        /// Batches of a worker within a batch of another.
        public var nested = 0
        /// Datagrams given up for want of memory.
        public var evicted = 0
        /// Times that the clock went back.
        public var setbacks = 0

        public init() {}
    }

    let scenario: Scenario
    var log: EventLog
    var finding: Finding?
    var summary = Summary()

    // The kernel.
    var traffic: Traffic
    let templates: UnsafeMutablePointer<Template>
    let ringCount: Int
    let devices: UnsafeMutablePointer<Device>
    let deviceCount: Int
    /// Of the host's clock.
    var clock: UInt64 = 1_000_000_000
    var schedule: RandomStream
    var faults: RandomStream
    var faultOfStep = 0
    /// Numbers of the faults so far.
    var happened: [Int] = []

    // The control thread.
    var control: RandomStream
    let policies: [Policy]
    let compiled: [PolicyTables]
    let interfaces: [InterfaceState]
    let mirror = RouteMirror()
    var routes: RandomRoutes
    /// What the slowest worker runs on, and what was published since.
    var live: [Generation] = []
    var generations = 0

    // The workers.
    let workers: UnsafeMutablePointer<WorkerState>
    let workerCount: Int
    /// The one whose turn it is.
    var worker: UnsafeMutablePointer<WorkerState>
    /// Of each worker's reassembler.
    let fragmentCells: Int

    // What is checked.
    let gathered: UnsafeMutableRawPointer
    let scratch: UnsafeMutableRawPointer
    let other: UnsafeMutableRawPointer

    static let largeBytes = 8192
    private static let fragmentTimeout: UInt64 = 30_000_000_000

    public init(_ scenario: Scenario) {
        self.scenario = scenario
        log = EventLog(isVerbose: scenario.isVerbose)
        var random = RandomStream(scenario.seed, 0)
        let policies = RandomPolicy.several(&random)
        self.policies = policies
        compiled = policies.map { PolicyTables($0) }
        interfaces = policies[0].interfaces.enumerated().map {
            InterfaceState(index: Int32($0 + 2), mtu: 1500, reversePath: $1.reversePath)
        }
        routes = RandomRoutes(&random, interfaces: interfaces.count)
        mirror.load(routes.entries, rules: RuleEntry.kernelDefaults)
        let first = Self.setting(policies[0], [], interfaces)
        traffic = Traffic(scenario.seed, first)
        let templates = UnsafeMutablePointer<Template>.allocate(capacity: traffic.templates.count)
        templates.initialize(from: traffic.templates, count: traffic.templates.count)
        self.templates = templates
        ringCount = interfaces.count
        let slots = random.pick([128, 128, 256, 512])
        deviceCount = policies[0].devices.count
        devices = .allocate(capacity: deviceCount)
        devices.initialize(repeating: Device(), count: deviceCount)
        schedule = RandomStream(scenario.seed, 2)
        faults = RandomStream(scenario.seed, 3)
        control = RandomStream(scenario.seed, 4)
        // The fewest, where a remote may have all; a quota for each; more than ever come.
        fragmentCells = random.pick([323, 323, 700, 6000])
        let beginning = Generation(
            number: 0, setup: Setup(policy: 0, policies[0], compiled[0]), routes: mirror.generation(),
            settings: [Self.setting(policies[0], [], interfaces, cells: fragmentCells)],
            interfaces: interfaces, templates: 0)
        live = [beginning]
        workerCount = random.pick([1, 2, 2, 3])
        workers = .allocate(capacity: workerCount)
        worker = workers
        for number in 0..<workerCount {
            (workers + number).initialize(
                to: WorkerState(
                    interfaces: ringCount, slots: slots, devices: deviceCount, flows: traffic.flowCount,
                    reassembler: Self.newReassembler(cells: fragmentCells), generation: beginning))
        }
        gathered = .allocate(byteCount: 70_000, alignment: 64)
        scratch = .allocate(byteCount: 70_000, alignment: 64)
        other = .allocate(byteCount: 70_000, alignment: 64)
    }

    deinit {
        for number in 0..<workerCount { workers[number].deallocate(interfaces: ringCount) }
        workers.deinitialize(count: workerCount)
        workers.deallocate()
        traffic.deallocate()
        templates.deallocate()
        devices.deallocate()
        gathered.deallocate()
        scratch.deallocate()
        other.deallocate()
    }

    static func setting(
        _ policy: Policy, _ routes: [RouteEntry], _ interfaces: [InterfaceState], cells: Int? = nil
    ) -> Setting {
        var setting = Setting(policy: policy, routes: routes, interfaces: interfaces)
        setting.fragmentTimeout = fragmentTimeout
        setting.fragmentCells = cells
        return setting
    }

    static func newReassembler(cells: Int) -> Reassembler {
        Reassembler(memory: cells * Reassembler.bytesPerCell, timeout: fragmentTimeout, seed: 1)
    }

    /// Runs until all frames are through.
    /// - Returns: what the run covered.
    public mutating func run() throws(Finding) -> Summary {
        reload(isFirst: true)
        for number in 0..<workerCount {
            worker = workers + number
            adopt()
        }
        live.removeFirst(live.count - 1)
        while finding == nil {
            beginStep()
            arrive()
            change()
            worker = workers + schedule.below(workerCount)
            turn()
            if traffic.count >= scenario.frames && areRingsEmpty { break }
        }
        for number in 0..<workerCount where finding == nil {
            worker = workers + number
            checkTotals(isLast: true)
        }
        if let finding { throw finding }
        summary.frames = traffic.count
        summary.faults = happened.count
        for number in 0..<workerCount {
            let counters = workers[number].counters
            summary.injected += counters.injected
            summary.dropped += counters.dropped
            summary.evicted += Int(counters.failures.memory)
            summary.uncounted += workers[number].uncounted
        }
        return summary
    }

    private var areRingsEmpty: Bool {
        for number in 0..<workerCount {
            for ring in 0..<ringCount {
                let ring = workers[number].rings + ring
                if ring.pointee.isReady(ring.pointee.cursor) { return false }
            }
        }
        return true
    }

    // MARK: The worker whose turn it is

    var rings: UnsafeMutablePointer<Ring> { worker.pointee.rings }
    var batch: Batch { worker.pointee.batch }
    var places: UnsafeMutablePointer<Place> { worker.pointee.places }

    // MARK: Faults

    /// Whether a fault happens now, about once in so many times.
    @inline(__always)
    mutating func strikes(_ oneIn: Int) -> Bool { faults.chance(oneIn) && isPresent() }

    /// Whether the control thread does something now.
    mutating func acts(_ oneIn: Int) -> Bool { control.chance(oneIn) && isPresent() }

    @inline(never)
    private mutating func isPresent() -> Bool {
        // Its number does not depend on what happened in other steps.
        faultOfStep &+= 1
        let number = summary.steps << 10 | faultOfStep
        guard !scenario.absentFaults.contains(number) else { return false }
        happened.append(number)
        return true
    }

    /// Random numbers of this step alone, so that what is left out of one step changes no other.
    private mutating func beginStep() {
        summary.steps &+= 1
        let seed = scenario.seed &+ UInt64(summary.steps) &* 0x9e37_79b9_7f4a_7c15
        schedule = RandomStream(seed, 2)
        faults = RandomStream(seed, 3)
        control = RandomStream(seed, 4)
        faultOfStep = 0
    }

    @inline(__always)
    mutating func note(_ kind: Event.Kind, _ first: Int, _ second: Int = 0, _ third: Int = 0) {
        log.note(kind, summary.steps, first, second, third)
    }

    @inline(never)
    mutating func fail(_ text: String) {
        guard finding == nil else { return }
        finding = Finding(
            seed: scenario.seed, step: summary.steps, frames: traffic.count, faults: happened, text: text,
            events: log.last)
    }
}

extension World.Summary {
    public mutating func add(_ other: Self) {
        frames += other.frames
        faults += other.faults
        steps += other.steps
        crashes += other.crashes
        reloads += other.reloads
        routeChanges += other.routeChanges
        injected += other.injected
        joined += other.joined
        refusedJoins += other.refusedJoins
        dropped += other.dropped
        held += other.held
        whole += other.whole
        overflows += other.overflows
        failedWrites += other.failedWrites
        twice += other.twice
        skipped += other.skipped
        uncounted += other.uncounted
        nested += other.nested
        evicted += other.evicted
        setbacks += other.setbacks
    }

    /// What a run covered, for people.
    public var rows: [String] {
        [
            "\(steps) batches, \(crashes) deaths, \(reloads) reloads, \(routeChanges) route changes",
            "\(injected) injected, \(joined) joined; \(dropped) dropped, \(held) held, \(whole) whole",
            "\(failedWrites) writes failed, \(refusedJoins) joined ones refused, \(overflows) without a slot",
            "\(twice) frames written again after a death, \(skipped) thrown away behind two deaths",
            "\(uncounted) frames not counted before a death, \(nested) batches within another's",
            "\(evicted) datagrams given up for want of memory, \(setbacks) times the clock went back",
        ]
    }
}
