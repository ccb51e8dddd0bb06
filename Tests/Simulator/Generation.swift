// What a worker runs on, and what it must answer by it: Setup, Expected, Generation.

import Forwarding
import IP
import Model
import Routing

/// What a reload makes: a policy, and buckets that all workers take from and no later reload shares.
final class Setup {
    /// Which of the world's policies.
    let policy: Int
    let tables: PolicyTables
    let shape: CounterBlock.Shape
    let isShadow: Bool
    let errors: ICMPErrorTokens
    let limits: PacketLimits?
    /// Packets per second; nil: no limit.
    let packetsPerSecond: Int?
    static let errorsPerSecond = 1000
    static let errorBurst = 50
    var packetBucket: Bucket
    var errorBucket = Bucket(perSecond: errorsPerSecond, burst: errorBurst, debt: 1)

    init(
        policy: Int, _ content: Policy, _ tables: PolicyTables, isShadow: Bool = false,
        packetsPerSecond: Int? = nil
    ) {
        self.policy = policy
        self.tables = tables
        shape = CounterBlock.Shape(content)
        self.isShadow = isShadow
        self.packetsPerSecond = packetsPerSecond
        errors = ICMPErrorTokens(perSecond: Self.errorsPerSecond, burst: Self.errorBurst)
        limits = PacketLimits(packetsPerSecond: packetsPerSecond, perRemote: nil, seed: 1)
        // 10 ms of the rate at once, or a batch.
        let rate = packetsPerSecond ?? 1
        packetBucket = Bucket(perSecond: rate, burst: max(rate / 100, Limits.batch), debt: 65_535)
    }

    /// The same with buckets of its own.
    init(_ other: Setup) {
        (policy, tables, shape, isShadow) = (other.policy, other.tables, other.shape, other.isShadow)
        packetsPerSecond = other.packetsPerSecond
        errors = ICMPErrorTokens(perSecond: Self.errorsPerSecond, burst: Self.errorBurst)
        limits = PacketLimits(packetsPerSecond: packetsPerSecond, perRemote: nil, seed: 1)
        packetBucket = other.packetBucket
    }

    deinit {
        errors.deallocate()
        limits?.deallocate()
    }
}

/// What a bucket may give, by bounds of how far its stamp is ahead of the clock, in tokens.
struct Bucket {
    private let rate: Double
    private let burst: Double
    /// What a single packet may take beyond that.
    private let debt: Double
    /// The stamp is at least so far ahead: a frame that is cut took at least one token. Negative after a
    /// pause: the clock can go back that far before a packet has to wait. A new bucket's stamp is 0.
    private var least = -Double.infinity
    /// The stamp is at most so far ahead: a frame that is cut took one token per segment.
    private var most = 0.0
    /// What a time in tokens may be short of the rate, as the nanoseconds of a token are rounded up.
    private static let rounded = 0.999

    init(perSecond: Int, burst: Int, debt: Int) {
        rate = Double(perSecond)
        self.burst = Double(burst)
        self.debt = Double(debt)
    }

    private func tokens(_ nanoseconds: UInt64) -> Double { rate * Double(nanoseconds) / 1e9 }

    /// A stamp that is further ahead stems from before the clock went back: the bucket is full, unless the
    /// clock comes closer to the stamp before the next packet. One second of it is for workers that read the
    /// clock before others.
    private var reach: Double { burst + debt + rate }

    mutating func pass(nanoseconds: UInt64) {
        least -= tokens(nanoseconds)
        most -= tokens(nanoseconds) * Self.rounded
    }

    mutating func goBack(nanoseconds: UInt64) {
        least += tokens(nanoseconds) * Self.rounded
        most += tokens(nanoseconds)
    }

    /// A packet is let through.
    /// - Parameters:
    ///   - tokens: that it takes at most.
    ///   - age: nanoseconds since the worker read the clock. A bucket that was full fills from then on.
    /// - Returns: whether there can have been one.
    mutating func give(atMost tokens: Int = 1, age: UInt64) -> Bool {
        let (oldest, newest) = (self.tokens(age), self.tokens(age) * Self.rounded)
        let mayBeOfAnotherTime = most + oldest >= reach * Self.rounded - 2
        let isGiven = mayBeOfAnotherTime || least + newest <= burst
        if least + newest > reach + 1 {
            most = -newest
        } else {
            most = min(max(most, -newest), burst - newest)
        }
        least = mayBeOfAnotherTime ? -oldest : max(least, -oldest)
        least += 1
        most += Double(tokens)
        return isGiven
    }

    /// Whether there can have been none.
    /// - Parameter age: nanoseconds since the worker read the clock.
    func mayRefuse(age: UInt64) -> Bool {
        most + tokens(age) >= burst - 2 && least + tokens(age) * Self.rounded <= reach + 1
    }
}

/// The model's answer to a template whose marks are zero.
struct Expected {
    var isKnown = false
    /// The answer to one frame, marks included.
    var isExact = false
    var kind = Verdict.Kind.pass
    var reason = DropReason.none
    var tunnel = Verdict.noIndex
    var mode = Mode.ipip
    var ecnCell = Verdict.noCell
    var device: UInt16 = 0
    var destination = Verdict.noIndex
    var vnet = VirtioHeader()
    var clampedMSS = false
    var unclampedMSS = false
    /// The packet to be injected.
    var bytes: UnsafeMutableRawPointer?
    var count = 0
    var sums = Sums()

    init() {}

    init(_ answer: Answer, _ layout: Layout) {
        isKnown = true
        kind = answer.kind
        reason = answer.reason
        tunnel = answer.tunnel.map { UInt16($0) } ?? Verdict.noIndex
        mode = answer.mode ?? .ipip
        ecnCell = answer.ecnCell ?? Verdict.noCell
        device = UInt16(answer.device ?? 0)
        destination = answer.destination.map { UInt16($0) } ?? Verdict.noIndex
        vnet = answer.vnet
        clampedMSS = answer.clampedMSS
        unclampedMSS = answer.unclampedMSS
        guard kind == .inject else { return }
        count = answer.bytes.count
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 64)
        memory.copyBytes(of: answer.bytes)
        bytes = memory
        sums = Sums(memory, layout)
    }

    /// Whether a judge that has not asked for tokens yet could say that.
    @inline(__always)
    func allows(_ verdict: Verdict, isLimited: Bool) -> Bool {
        guard verdict.tunnel == tunnel, tunnel == Verdict.noIndex || verdict.mode == mode,
            verdict.ecnCell == ecnCell
        else { return false }
        if verdict.kind != kind {
            if kind == .inject { return isLimited && verdict.kind == .drop && verdict.reason == .rateLimit }
            return kind == .reply && verdict.kind == .drop && verdict.reason == reason
        }
        if kind == .inject || kind == .reply {
            guard verdict.device == device, verdict.destination == destination else { return false }
        }
        guard kind == .inject else { return verdict.reason == reason }
        return verdict.reason == .none && verdict.vnet == vnet && verdict.clampedMSS == clampedMSS
            && verdict.unclampedMSS == unclampedMSS && Int(verdict.length) == count
    }
}

/// A policy and routes of a time, as the worker reads them and as the model knows them.
final class Generation {
    let number: Int
    let setup: Setup
    let tables: ForwardingTables
    let model: Model
    /// After each of the route changes that led here: they go into the tries one by one.
    let steps: [Model]
    /// By template; made when first asked for.
    private let answers: UnsafeMutablePointer<Expected>
    private let count: Int

    init(
        number: Int, setup: Setup, routes: RouteTable, settings: [Setting], interfaces: [InterfaceState],
        templates: Int
    ) {
        self.number = number
        self.setup = setup
        tables = ForwardingTables(policy: setup.tables, routes: routes, interfaces: interfaces)
        steps = settings.map { Model($0) }
        model = steps[steps.count - 1]
        count = templates
        answers = .allocate(capacity: templates)
        answers.initialize(repeating: Expected(), count: templates)
    }

    deinit {
        for index in 0..<count { answers[index].bytes?.deallocate() }
        answers.deallocate()
    }

    @inline(__always)
    func expected(_ index: Int, _ template: UnsafePointer<Template>) -> UnsafePointer<Expected> {
        if !answers[index].isKnown { ask(index, template) }
        return UnsafePointer(answers + index)
    }

    private func ask(_ index: Int, _ template: UnsafePointer<Template>) {
        var model = model
        answers[index] = Expected(
            model.answer(
                Arrival(
                    template,
                    UnsafeRawBufferPointer(start: template.pointee.bytes, count: template.pointee.count))),
            template.pointee.layout)
    }
}

extension Arrival {
    init(_ template: UnsafePointer<Template>, _ bytes: UnsafeRawBufferPointer) {
        self.init()
        self.bytes = Array(bytes)
        linkLength = template.pointee.linkLength
        etherType = template.pointee.etherType
        interface = template.pointee.interface
        isForUs = template.pointee.isForUs
        vnet = template.pointee.vnet
    }
}

extension PacketGenerator {
    init(_ setting: Setting, seed: UInt64) { self.init(setting, Random(seed)) }
}
