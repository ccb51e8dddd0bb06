// A simulated host from one seed: rings, devices, routes, reloads, a clock, and a worker that may die.

import Forwarding
import IP
import Model
import Routing

/// Real: `Batch` with all below it, `RingTurns`, the route mirror. Simulated: what the kernel, the control
/// thread and `Worker` do around them, one step after the other. Invariants are checked at each step.
public struct World: ~Copyable {
    /// Where in its loop a worker may die.
    enum CrashPoint: UInt8, CaseIterable {
        case gathered, planned, writing, performed, settled, releasing, accounted
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
        /// What it refused to cut since the worker adopted its tables.
        var refused: Coalescer.Kinds = []
        /// Likewise, in the batch in work, whose plan could not know.
        var refusedNow: Coalescer.Kinds = []
    }

    /// A frame of the batch in work.
    struct Place: BitwiseCopyable {
        var ring = 0
        var slot = 0
        /// Its place among the copies; -1: it fits its slot.
        var copy = -1
        /// nil before the verdict.
        var expected: UnsafePointer<Expected>?
        /// Writes of this batch that carried it.
        var sent = 0
        /// What the last write that was to carry it gave.
        var result: Int32 = 0
        var isReleased = false
    }

    /// Of the worker, and in the end of what survives it.
    struct Counters: Equatable {
        var received = 0
        var injected = 0
        var passed = 0
        var dropped = 0
        var replied = 0
        var held = 0
        var truncated = 0
        var writes = 0
        var failures = Reassembler.Failures()
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

        public init() {}
    }

    let scenario: Scenario
    var log: EventLog
    var finding: Finding?
    var summary = Summary()

    // The kernel.
    var traffic: Traffic
    let templates: UnsafeMutablePointer<Template>
    let rings: UnsafeMutablePointer<Ring>
    let ringCount: Int
    let devices: UnsafeMutablePointer<Device>
    let deviceCount: Int
    var now: UInt64 = 1_000_000_000
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
    /// What the worker runs on, then what it has not adopted yet.
    var live: [Generation] = []
    var generations = 0
    /// Batches until it looks into its mailbox.
    var lateness = 0
    /// Tables that a sabotaged worker still reads.
    var kept: [Generation] = []

    // The worker.
    let batchMemory: UnsafeMutableRawPointer
    var batch: Batch
    var reassembler: Reassembler
    var turns = RingTurns()
    let large: UnsafeMutableRawPointer
    let places: UnsafeMutablePointer<Place>
    var counters = Counters()
    var countedFailures = Reassembler.Failures()
    var crashPoint: CrashPoint?
    var crashAfter = 0

    // What is checked.
    /// With the fragments that the worker should hold.
    var model: Model
    /// Answers to frames that depend on others.
    let answers: UnsafeMutablePointer<Expected>
    var answerCount = 0
    /// Last frame of each flow that came out.
    let lastOfFlow: UnsafeMutablePointer<Int>
    /// Frames taken from each ring.
    let taken: UnsafeMutablePointer<Int>
    var releasedFrames = 0
    var lostFrames = 0
    var skippedFrames = 0
    /// By ring << 32 | slot, what dead workers had taken from a ring's queue.
    var copies: [Int: [UInt8]] = [:]
    var uncounted = 0
    var fragments = 0
    /// Since the setup in force was adopted.
    var acceptedSince: (time: UInt64, packets: Int, errors: Int) = (0, 0, 0)
    let gathered: UnsafeMutableRawPointer
    let scratch: UnsafeMutableRawPointer
    let other: UnsafeMutableRawPointer

    static let largeMax = 8
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
        model = Model(first)
        let templates = UnsafeMutablePointer<Template>.allocate(capacity: traffic.templates.count)
        templates.initialize(from: traffic.templates, count: traffic.templates.count)
        self.templates = templates
        ringCount = interfaces.count
        rings = .allocate(capacity: ringCount)
        let slots = random.pick([128, 128, 256, 512])
        for ring in 0..<ringCount { (rings + ring).initialize(to: Ring(count: slots)) }
        deviceCount = policies[0].devices.count
        devices = .allocate(capacity: deviceCount)
        devices.initialize(repeating: Device(), count: deviceCount)
        schedule = RandomStream(scenario.seed, 2)
        faults = RandomStream(scenario.seed, 3)
        control = RandomStream(scenario.seed, 4)
        batchMemory = .allocate(byteCount: Batch.byteCount(capacity: Limits.batch), alignment: 128)
        batchMemory.initializeMemory(
            as: UInt8.self, repeating: 0, count: Batch.byteCount(capacity: Limits.batch))
        batch = Batch(in: batchMemory, capacity: Limits.batch)
        reassembler = Self.newReassembler()
        large = .allocate(byteCount: Self.largeMax * Self.largeBytes, alignment: 64)
        places = .allocate(capacity: Limits.batch)
        places.initialize(repeating: Place(), count: Limits.batch)
        answers = .allocate(capacity: Limits.batch)
        lastOfFlow = .allocate(capacity: traffic.flowCount)
        lastOfFlow.initialize(repeating: -1, count: traffic.flowCount)
        taken = .allocate(capacity: ringCount)
        taken.initialize(repeating: 0, count: ringCount)
        gathered = .allocate(byteCount: 70_000, alignment: 64)
        scratch = .allocate(byteCount: 70_000, alignment: 64)
        other = .allocate(byteCount: 70_000, alignment: 64)
    }

    deinit {
        freeAnswers()
        for ring in 0..<ringCount { rings[ring].deallocate() }
        traffic.deallocate()
        templates.deallocate()
        rings.deallocate()
        devices.deallocate()
        batchMemory.deallocate()
        large.deallocate()
        places.deallocate()
        answers.deallocate()
        lastOfFlow.deallocate()
        taken.deallocate()
        gathered.deallocate()
        scratch.deallocate()
        other.deallocate()
    }

    static func setting(_ policy: Policy, _ routes: [RouteEntry], _ interfaces: [InterfaceState]) -> Setting {
        var setting = Setting(policy: policy, routes: routes, interfaces: interfaces)
        setting.fragmentTimeout = fragmentTimeout
        return setting
    }

    static func newReassembler() -> Reassembler {
        Reassembler(memory: 2 << 20, timeout: fragmentTimeout, seed: 1)
    }

    func freeAnswers() { for index in 0..<answerCount { answers[index].bytes?.deallocate() } }

    /// Runs until all frames are through.
    /// - Returns: what the run covered.
    public mutating func run() throws(Finding) -> Summary {
        reload(isFirst: true)
        adopt()
        while finding == nil {
            beginStep()
            arrive()
            change()
            step()
            if traffic.count >= scenario.frames && areRingsEmpty { break }
        }
        if finding == nil { checkTotals(isLast: true) }
        if let finding { throw finding }
        summary.frames = traffic.count
        summary.faults = happened.count
        return summary
    }

    var areRingsEmpty: Bool {
        for ring in 0..<ringCount where rings[ring].isReady(rings[ring].cursor) { return false }
        return true
    }

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
    }

    /// What a run covered, for people.
    public var rows: [String] {
        [
            "\(steps) batches, \(crashes) deaths, \(reloads) reloads, \(routeChanges) route changes",
            "\(injected) injected, \(joined) joined; \(dropped) dropped, \(held) held, \(whole) whole",
            "\(failedWrites) writes failed, \(refusedJoins) joined ones refused, \(overflows) without a slot",
            "\(twice) frames written again after a death, \(skipped) thrown away behind two deaths",
        ]
    }
}
