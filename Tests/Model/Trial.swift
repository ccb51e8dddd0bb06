// Puts the same random frames to the judge alone, to a worker's batch, and to the model.

import Forwarding
import SlowJudge

/// How often each kind of answer was given, so that what a run covered can be seen.
public struct Tally: Sendable {
    public private(set) var frames = 0
    private var kinds = [Int](repeating: 0, count: Verdict.Kind.allCases.count * 256)
    private var modes = [Int](repeating: 0, count: Mode.count)
    private var clamped = 0
    private var unclamped = 0
    private var unfinished = 0
    private var segmented = 0
    private var rewritten = 0
    private var reassembled = 0

    public init() {}

    mutating func note(_ answer: Answer, headLength: UInt16, isReassembled: Bool) {
        frames += 1
        kinds[Int(answer.kind.rawValue) << 8 | Int(answer.reason.rawValue)] += 1
        guard answer.kind == .inject, let mode = answer.mode else { return }
        modes[Int(mode.rawValue)] += 1
        if answer.clampedMSS { clamped += 1 }
        if answer.unclampedMSS { unclamped += 1 }
        if isReassembled { reassembled += 1 }
        if answer.vnet.flags != 0 { unfinished += 1 }
        if answer.vnet.gsoType != 0 { segmented += 1 }
        if headLength > 0 && !answer.clampedMSS { rewritten += 1 }
    }

    public mutating func add(_ other: Tally) {
        frames += other.frames
        for index in kinds.indices { kinds[index] += other.kinds[index] }
        for index in modes.indices { modes[index] += other.modes[index] }
        clamped += other.clamped
        unclamped += other.unclamped
        unfinished += other.unfinished
        segmented += other.segmented
        rewritten += other.rewritten
        reassembled += other.reassembled
    }

    /// What has a count, the most frequent first.
    public var rows: [(name: String, count: Int)] {
        var rows: [(name: String, count: Int)] = []
        for kind in Verdict.Kind.allCases {
            for reason in DropReason.allCases {
                let count = kinds[Int(kind.rawValue) << 8 | Int(reason.rawValue)]
                rows.append((reason == .none ? "\(kind)" : "\(kind) \(reason.name)", count))
            }
        }
        for mode in Mode.allCases + [.native] {
            rows.append(("  injected: \(mode.name)", modes[Int(mode.rawValue)]))
        }
        rows += [
            ("  injected: MSS lowered", clamped), ("  injected: MSS options unreadable", unclamped),
            ("  injected: reassembled", reassembled), ("  injected: marks or TTL rewritten", rewritten),
            ("  injected: checksum unfinished", unfinished), ("  injected: GSO", segmented),
        ]
        return rows.filter { $0.count > 0 }.sorted { $0.count > $1.count }
    }
}

public struct Difference: Error, CustomStringConvertible {
    public let description: String
}

/// One random setting and the frames that are put to it.
public final class Trial {
    public static let packetsPerWorld = 4096
    private static let slackBytes = 32

    private let frames = UnsafeMutablePointer<Frame>.allocate(capacity: Limits.batch)
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: Limits.batch)
    private let heads = UnsafeMutableRawPointer.allocate(
        byteCount: Limits.batch * Limits.headBytes, alignment: 64)
    private let batchMemory = UnsafeMutableRawPointer.allocate(
        byteCount: Batch.byteCount(capacity: Limits.batch), alignment: 128)
    private let batch: Batch
    /// So large that nothing is ever evicted, which is at random.
    private let reassemblers = (0..<2).map { _ in
        Reassembler(memory: 64 << 20, timeout: 30_000_000_000, seed: 1)
    }
    private var memory: [UInt8] = []
    private var arrivals: [Arrival] = []
    public private(set) var tally = Tally()

    public init() { batch = Batch(in: batchMemory, capacity: Limits.batch) }

    deinit {
        frames.deallocate()
        verdicts.deallocate()
        heads.deallocate()
        batchMemory.deallocate()
    }

    /// Everything follows from the seed: the policy, the routes and the frames.
    public func run(world seed: UInt64) throws(Difference) {
        var random = Random(seed)
        let setting = Setting.random(&random)
        let world = setting.makeWorld()
        var model = Model(setting)
        let before = reassemblers.map(\.failures)
        var now: UInt64 = 0
        var generator = PacketGenerator(setting, Random(random.next()))
        // Of each world its own: its clock begins again.
        let tokens = ICMPErrorTokens(perSecond: 1_000_000_000, burst: 1 << 30)
        defer { tokens.deallocate() }
        batch.adopt(
            world.view, kinds: world.policy.policy.devices.map { _ in [.tcp, .udp] },
            errors: tokens, isShadow: false)
        var judged = 0
        while judged < Self.packetsPerWorld {
            let count = 1 + random.below(Limits.batch)
            arrivals.removeAll(keepingCapacity: true)
            for _ in 0..<count { arrivals.append(generator.next()) }
            now += UInt64(random.percent(98) ? 1_000_000 : random.below(40) * 1_000_000_000)
            let expected = arrivals.map { model.answer($0, now: now) }
            for (isPlanned, reassembler) in zip([false, true], reassemblers) {
                let answers = try answers(
                    world, isPlanned, setting.fragmentTimeout == nil ? nil : reassembler, now)
                for index in 0..<count where answers[index] != expected[index] {
                    throw Difference(
                        description: describe(
                            seed, setting, judged + index, arrivals[index], expected[index],
                            answers[index], isPlanned: isPlanned))
                }
            }
            for index in 0..<count {
                tally.note(
                    expected[index], headLength: verdicts[index].headLength,
                    isReassembled: frames[index].length > arrivals[index].bytes.count)
            }
            judged += count
        }
        model.expire()
        for (reassembler, before) in zip(reassemblers, before) {
            reassembler.expire(now: .max)
            let failures = reassembler.failures
            guard failures.overlap - before.overlap == model.failures.overlap,
                failures.memory - before.memory == model.failures.memory,
                failures.timeout - before.timeout == model.failures.timeout
            else {
                throw Difference(
                    description: """
                        world 0x\(String(seed, radix: 16)): failed datagrams \(failures) after \
                        \(before), model \(model.failures)
                        """)
            }
        }
    }

    /// - Parameter isPlanned: by a batch; else by the judge, without what a batch remembers.
    private func answers(
        _ world: ForwardingTables, _ isPlanned: Bool, _ reassembler: Reassembler?, _ now: UInt64
    ) throws(Difference) -> [Answer] {
        memory.removeAll(keepingCapacity: true)
        for arrival in arrivals {
            memory += arrival.bytes
            // What a read beyond the packet finds.
            for index in 0..<Self.slackBytes { memory.append(UInt8(0x45 ^ index & 7)) }
        }
        let frames = isPlanned ? batch.frames : self.frames
        var wrong: String?
        let answers = memory.withUnsafeBytes { memory in
            var offset = 0
            for (index, arrival) in arrivals.enumerated() {
                (frames + index).initialize(
                    to: Frame(
                        network: memory.baseAddress! + offset,
                        head: isPlanned ? batch.head(index) : heads + index * Limits.headBytes,
                        length: arrival.bytes.count,
                        wireLength: arrival.bytes.count + arrival.cut,
                        linkLength: arrival.linkLength, etherType: arrival.etherType,
                        interface: UInt16(arrival.interface), isForUs: arrival.isForUs,
                        vnet: arrival.vnet))
                offset += arrival.bytes.count + Self.slackBytes
            }
            guard isPlanned else {
                Judge.judge(
                    frames, into: verdicts, count: arrivals.count, tables: world.view,
                    reassembler: reassembler, now: now)
                return arrivals.indices.map {
                    Answer(verdicts[$0], of: frames[$0], world.policy.policy)
                }
            }
            let plan = batch.plan(count: arrivals.count, reassembler: reassembler, now: now)
            let contents = plan.operations.map { batch.operations[$0].content }
            let answers = arrivals.indices.map {
                Answer(batch.verdicts[$0], of: frames[$0], world.policy.policy)
            }
            wrong = difference(plan, contents, answers)
            return answers
        }
        if let wrong { throw Difference(description: "world \(world): \(wrong)") }
        return answers
    }

    /// What leaves is what the verdicts say, each packet once. Whether a joined one is cut to the same
    /// bytes is for the coalescer's own tests.
    private func difference(
        _ plan: Batch.Plan, _ contents: [[UInt8]], _ answers: [Answer]
    ) -> String? {
        var left = Set(
            answers.indices.filter { answers[$0].kind == .inject || answers[$0].kind == .reply })
        for (place, content) in zip(plan.operations, contents) {
            let operation = batch.operations[place]
            let answer = answers[Int(operation.frame)]
            var isOnce = true
            batch.forEachFrame(of: operation) { isOnce = left.remove($0) != nil && isOnce }
            let isSame =
                switch operation.target {
                case .device where operation.joined.isEmpty:
                    answer.bytes == Array(content.dropFirst(VirtioHeader.byteCount))
                        && content.withUnsafeBytes { $0.loadUnaligned(as: VirtioHeader.self) }
                            == answer.vnet
                case .device: answer.kind == .inject
                case .icmpError:
                    // Behind its checksum, which ICMPv6 has from the kernel.
                    answer.kind == .reply
                        && answer.bytes.suffix(content.count).dropFirst(4) == content.dropFirst(4)
                case .probeReturn: false
                }
            guard isOnce, isSame, content.count == Int(operation.length) else {
                return "operation \(place), \(operation) of \(text(answer))"
            }
        }
        return left.isEmpty ? nil : "nothing leaves for the frames \(left.sorted())"
    }

    private func describe(
        _ seed: UInt64, _ setting: Setting, _ index: Int, _ arrival: Arrival, _ expected: Answer,
        _ answer: Answer, isPlanned: Bool
    ) -> String {
        """
        packet \(index) of world 0x\(String(seed, radix: 16)): tools/fuzz model --world \
        0x\(String(seed, radix: 16))
        setting: \(setting)
        frame: interface \(arrival.interface) link \(arrival.linkLength) ethertype \
        0x\(String(arrival.etherType, radix: 16)) for us \(arrival.isForUs) cut \(arrival.cut) \
        \(arrival.vnet)
        bytes: \(hex(arrival.bytes))
        model: \(text(expected))
        shuck\(isPlanned ? " (by a batch)" : ""): \(text(answer))
        """
    }

    private func text(_ answer: Answer) -> String {
        """
        \(answer.kind) \(answer.reason.name) tunnel \(answer.tunnel.map(String.init) ?? "-") mode \
        \(answer.mode?.name ?? "-") device \(answer.device.map(String.init) ?? "-") destination \
        \(answer.destination.map(String.init) ?? "-") cell \
        \(answer.ecnCell.map(String.init) ?? "-") clamped \(answer.clampedMSS) unclamped \
        \(answer.unclampedMSS) \(answer.vnet)
          bytes \(hex(answer.bytes))
        """
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
