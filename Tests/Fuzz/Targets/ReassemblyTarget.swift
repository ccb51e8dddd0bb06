// A sequence of frames, fragments most of them, before one worker's reassembly and before the model.

import Forwarding
import Glibc
import Model

/// How bytes are a sequence: which policy, how much memory and how many others fill it, then for
/// each frame the time since the one before, its interface, its length and its bytes from the
/// network header on.
struct SequenceInput {
    static let preludeBytes = 2
    static let frameBytes = 4
    static let framesMax = 256

    struct Step {
        /// In sixteenths of the time after which a datagram is given up.
        var delay: UInt8
        var interface: UInt8
        var bytes: [UInt8]
    }

    var world: UInt8 = 0
    var memory: UInt8 = 0
    var steps: [Step] = []

    init() {}

    init?(_ input: UnsafeRawBufferPointer) {
        guard input.count >= Self.preludeBytes else { return nil }
        world = input[0]
        memory = input[1]
        var offset = Self.preludeBytes
        while offset + Self.frameBytes <= input.count, steps.count < Self.framesMax {
            let length = Int(input[offset + 2]) | Int(input[offset + 3]) << 8
            let start = offset + Self.frameBytes
            offset = min(start + length, input.count)
            steps.append(
                Step(
                    delay: input[start - 4], interface: input[start - 3],
                    bytes: Array(input[start..<offset])))
        }
    }

    var input: [UInt8] {
        var bytes = [world, memory]
        for step in steps {
            let length = min(step.bytes.count, 0xffff)
            bytes += [step.delay, step.interface, UInt8(length & 255), UInt8(length >> 8)]
            bytes += step.bytes.prefix(length)
        }
        return bytes
    }
}

public final class ReassemblyTarget: FuzzTarget {
    private static let timeout: UInt64 = 1600

    private let places: [FrameTarget.Place]
    /// Fragments whose datagrams never become whole, for each place: what an input of a few
    /// kilobytes cannot fill the memory with by itself.
    private let crowds: [[Arrival]]
    private let memory = GuardedMemory(capacity: 1 << 17)
    private let batch = Batch(
        in: .allocate(byteCount: Batch.byteCount(capacity: 1), alignment: 128), capacity: 1)
    private let tokens = ICMPErrorTokens(perSecond: 1_000_000_000, burst: 1 << 30)
    /// The first has so little memory that it evicts; the second never does.
    private let reassemblers = [0, 16 << 20].map {
        Reassembler(memory: $0, timeout: timeout, seed: 1)
    }

    public init() {
        places = (0..<FrameTarget.worlds).map { number in
            var random = Random(UInt64(number))
            var setting = Setting.random(&random)
            setting.fragmentTimeout = Self.timeout
            return FrameTarget.Place(setting)
        }
        crowds = places.map { place in
            var generator = PacketGenerator(place.setting, Random(1))
            var crowd: [Arrival] = []
            while crowd.count < 256 { crowd += generator.nextFragments().dropLast() }
            return crowd
        }
    }

    public func run(_ input: UnsafeRawBufferPointer) throws(Violation) {
        guard let sequence = SequenceInput(input) else { return }
        let place = places[Int(sequence.world) % FrameTarget.worlds]
        let isScarce = sequence.memory & 1 == 0
        let reassembler = reassemblers[isScarce ? 0 : 1]
        // Only what is never evicted can be foretold.
        var model = isScarce ? nil : Optional(place.model)
        let before = reassembler.failures
        batch.adopt(
            place.world.view, kinds: place.setting.policy.devices.map { _ in [.tcp, .udp] },
            errors: tokens, isShadow: false)
        var now: UInt64 = 0
        if isScarce {
            let crowd = crowds[Int(sequence.world) % FrameTarget.worlds]
            for arrival in crowd.prefix(Int(sequence.memory)) {
                _ = try judge(arrival, place, reassembler, now)
            }
        }
        for step in sequence.steps where !step.bytes.isEmpty {
            now += UInt64(step.delay) * Self.timeout / 16 / 4
            var arrival = Arrival()
            arrival.bytes = step.bytes
            arrival.etherType = step.bytes[0] >> 4 == 6 ? 0x86dd : 0x0800
            arrival.interface = Int(step.interface) % place.setting.interfaces.count
            let answer = try judge(arrival, place, reassembler, now)
            guard let expected = model?.answer(arrival, now: now) else { continue }
            guard answer == expected else { throw Violation("shuck \(answer), model \(expected)") }
        }
        reassembler.expire(now: .max)
        guard reassembler.isEmpty else { throw Violation("something is held for ever") }
        guard model != nil else { return }
        model!.expire()
        let after = reassembler.failures
        guard after.overlap - before.overlap == model!.failures.overlap,
            after.memory - before.memory == model!.failures.memory,
            after.timeout - before.timeout == model!.failures.timeout
        else { throw Violation("failed \(after) after \(before), model \(model!.failures)") }
    }

    private func judge(
        _ arrival: Arrival, _ place: FrameTarget.Place, _ reassembler: Reassembler, _ now: UInt64
    ) throws(Violation) -> Answer {
        batch.frames.initialize(
            to: Frame(
                network: arrival.bytes.withUnsafeBytes { memory.copy($0) }, head: batch.head(0),
                length: arrival.bytes.count, wireLength: arrival.bytes.count, linkLength: 14,
                etherType: arrival.etherType, interface: UInt16(arrival.interface), isForUs: true))
        _ = batch.plan(count: 1, reassembler: reassembler, now: now)
        let answer = batch.verdicts.pointee
        guard
            answer.kind != .inject
                || Int(answer.offset) + Int(answer.length) <= batch.frames.pointee.length
        else { throw Violation("injected beyond its datagram: \(answer)") }
        return Answer(answer, of: batch.frames.pointee, place.setting.policy)
    }

    // MARK: Inputs

    public func seed(_ number: Int) -> [UInt8]? {
        guard number < 8 else { return nil }
        var random = Random(UInt64(number) + 100)
        return generated(UInt8(number), packets: 1, &random).input
    }

    private func generated(_ world: UInt8, packets: Int, _ random: inout Random) -> SequenceInput {
        var sequence = SequenceInput()
        sequence.world = world
        sequence.memory = UInt8(random.below(256))
        var generator = PacketGenerator(
            places[Int(world) % FrameTarget.worlds].setting, Random(random.next()))
        var made = 0
        while made < packets {
            let arrivals = generator.nextFragments()
            guard arrivals.count > 1, arrivals.count < 80 else { continue }
            for arrival in arrivals {
                sequence.steps.append(
                    SequenceInput.Step(
                        delay: random.below(8) == 0 ? UInt8(random.below(80)) : 0,
                        interface: UInt8(arrival.interface), bytes: arrival.bytes))
            }
            made += 1
        }
        return sequence
    }

    public func mutate(_ input: [UInt8], _ random: inout Random) -> [UInt8]? {
        guard var sequence = input.withUnsafeBytes({ SequenceInput($0) }), !sequence.steps.isEmpty
        else { return seed(random.below(8)) }
        let place = random.below(sequence.steps.count)
        let other = random.below(sequence.steps.count)
        switch random.below(9) {
        case 0: sequence.steps.swapAt(place, other)
        case 1: sequence.steps.insert(sequence.steps[place], at: other)
        case 2: sequence.steps.remove(at: place)
        case 3: sequence.steps[place].delay = UInt8(truncatingIfNeeded: random.next())
        case 4: sequence.memory = UInt8(truncatingIfNeeded: random.next())
        case 5:
            sequence.steps += generated(sequence.world, packets: 1, &random).steps
        case 6: changeFragment(&sequence.steps[place].bytes, &random)
        default:
            var packet = PacketMend(bytes: sequence.steps[place].bytes, start: 0)
            guard !packet.bytes.isEmpty else { return nil }
            if random.below(2) == 0 {
                packet.changeField(&random)
            } else {
                packet.copyWithin(&random)
            }
            if random.below(4) != 0 { packet.mend(at: 0) }
            sequence.steps[place].bytes = packet.bytes
        }
        return sequence.input
    }

    /// Offset, more-fragments or payload, with a header that says so.
    private func changeFragment(_ bytes: inout [UInt8], _ random: inout Random) {
        guard let first = bytes.first, bytes.count >= 48 else { return }
        let place = first >> 4 == 4 ? 6 : 42
        switch random.below(4) {
        case 0: bytes[place + 1] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes[place] ^= UInt8(1 << random.below(8))
        case 2: bytes += [UInt8](repeating: 7, count: 8 * (1 + random.below(4)))
        default: bytes.removeLast(min(8, bytes.count - 48))
        }
        var packet = PacketMend(bytes: bytes, start: 0)
        packet.mend(at: 0)
        bytes = packet.bytes
    }
}
