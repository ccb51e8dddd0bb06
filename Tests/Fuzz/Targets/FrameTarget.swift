// One frame before the judge and in a batch: bounds, both the same, and every eighth input put to the model.

import Forwarding
import Glibc
import Model
import SlowJudge

public final class FrameTarget: FuzzTarget {
    static let worlds = 16

    /// One policy with all that is made of it.
    final class Place {
        let setting: Setting
        let world: ForwardingTables
        var model: Model

        init(_ setting: Setting) {
            self.setting = setting
            world = setting.makeWorld()
            model = Model(setting)
        }
    }

    /// What one judging left behind.
    private struct Side {
        let frame: UnsafeMutablePointer<Frame>
        let verdict: UnsafeMutablePointer<Verdict>
        let head: UnsafeMutableRawPointer
    }

    private let places: [Place]
    private let batch = Batch(
        in: .allocate(byteCount: Batch.byteCount(capacity: 1), alignment: 128), capacity: 1)
    private let tokens = ICMPErrorTokens(perSecond: 1_000_000_000, burst: 1 << 30)
    private let memory = GuardedMemory(capacity: 1 << 20)
    private let reassembler = Reassembler(memory: 0, timeout: 1, seed: 1)
    private let plain = Side(
        frame: .allocate(capacity: 1), verdict: .allocate(capacity: 1),
        head: GuardedMemory(capacity: Limits.headBytes).room(Limits.headBytes))
    private let planned: Side

    public init() {
        planned = Side(frame: batch.frames, verdict: batch.verdicts, head: batch.head(0))
        places = (0..<Self.worlds).map { number in
            var random = Random(UInt64(number))
            return Place(Setting.random(&random))
        }
    }

    public func run(_ input: UnsafeRawBufferPointer) throws(Violation) {
        guard let described = FrameInput(input, copiesBytes: false) else { return }
        let place = places[described.world % Self.worlds]
        let bytes = UnsafeRawBufferPointer(rebasing: input[FrameInput.preludeBytes...])
        let link = described.link.parse(bytes) ?? (bytes.count, 0, false)
        let packet = UnsafeRawBufferPointer(rebasing: bytes[link.length...])
        var frame = Frame(
            network: memory.copy(packet), head: plain.head, length: packet.count,
            wireLength: packet.count + described.cut, linkLength: link.length,
            etherType: link.etherType,
            interface: UInt16(described.interface % place.setting.interfaces.count),
            isForUs: link.isForUs, vnet: described.vnet)
        try judge(frame, plain, place, packet)
        // As if a better frame with this outer header had come before; in a block of its own size.
        batch.adopt(
            place.world.view, kinds: place.setting.policy.devices.map { _ in [.tcp, .udp] },
            errors: tokens, isShadow: false)
        let block = malloc(packet.count)!
        defer { free(block) }
        if let base = packet.baseAddress { memcpy(block, base, packet.count) }
        frame.network = UnsafeRawPointer(block)
        frame.head = planned.head
        if let tunnel = matchedTunnel(input, place) {
            var untagged = frame
            if untagged.dropPriorityTags() { batch.cache.insert(&untagged, tunnel: tunnel) }
        }
        try judge(frame, planned, place, packet)
        try compareSides()
        guard input.reduce(UInt8(0), { ($0 &* 31) &+ $1 }) & 7 == 0 else { return }
        defer { place.model.expire() }
        let expected = place.model.answer(arrival(input, place))
        let answer = Answer(
            plain.verdict.pointee, of: plain.frame.pointee, place.setting.policy)
        guard answer == expected else { throw Violation("shuck \(answer), model \(expected)") }
    }

    private func arrival(_ input: UnsafeRawBufferPointer, _ place: Place) -> Arrival {
        FrameInput(input)!.arrival(interfaces: place.setting.interfaces.count)
    }

    /// The tunnel that takes this outer header, whatever else is wrong.
    private func matchedTunnel(_ input: UnsafeRawBufferPointer, _ place: Place) -> UInt16? {
        let verdict = plain.verdict.pointee
        guard verdict.tunnel != Verdict.noIndex, verdict.mode != .native else { return nil }
        if verdict.kind != .drop || verdict.reason > .modeNotAllowed { return verdict.tunnel }
        // The header may be right all the same: a reason that comes first hides it.
        return place.model.matchedTunnel(arrival(input, place)).map { UInt16($0) }
    }

    private func judge(
        _ frame: Frame, _ side: Side, _ place: Place, _ packet: UnsafeRawBufferPointer
    ) throws(Violation) {
        side.frame.initialize(to: frame)
        // What the verdict before left there must not show.
        memset(side.verdict, 0x5a, MemoryLayout<Verdict>.size)
        let reassembler = place.setting.fragmentTimeout == nil ? nil : self.reassembler
        if side.frame == batch.frames {
            try check(batch.plan(count: 1, reassembler: reassembler, now: 0), frame)
        } else {
            Judge.judge(
                side.frame, into: side.verdict, count: 1, tables: place.world.view,
                reassembler: reassembler)
        }
        self.reassembler.expire(now: .max)
        if let base = packet.baseAddress, memcmp(frame.network, base, packet.count) != 0 {
            throw Violation("the judge wrote to the frame")
        }
        let verdict = side.verdict.pointee
        let isSound =
            switch verdict.kind {
            case .inject, .reply:
                verdict.headLength <= verdict.length && Int(verdict.headLength) <= Limits.headBytes
                    && Int(verdict.offset) + Int(verdict.length) <= packet.count
                    && verdict.reason == (verdict.kind == .inject ? .none : .packetTooBig)
            case .pass: verdict.reason == .none
            case .drop: verdict.reason != .none
            case .hold: verdict.reason == .none && place.setting.fragmentTimeout != nil
            }
        guard isSound else { throw Violation("no fate of a single frame: \(verdict)") }
    }

    /// One packet leaves where the verdict says so, with the bytes that it says.
    private func check(_ plan: Batch.Plan, _ frame: Frame) throws(Violation) {
        let verdict = planned.verdict.pointee
        guard plan.operations.count == (verdict.kind == .inject || verdict.kind == .reply ? 1 : 0)
        else { throw Violation("\(plan.operations.count) operations for \(verdict)") }
        guard verdict.kind == .inject else { return }
        let operation = batch.operations[0]
        let rest = UnsafeRawBufferPointer(
            start: planned.frame.pointee.network + Int(verdict.offset), count: Int(verdict.length))
        let packet = operation.content.dropFirst(VirtioHeader.byteCount)
        guard operation.target == .device, operation.index == verdict.device,
            packet.dropFirst(Int(verdict.headLength))
                .elementsEqual(rest.dropFirst(Int(verdict.headLength)))
        else { throw Violation("\(operation) for \(verdict)") }
    }

    private func compareSides() throws(Violation) {
        let (one, other) = (plain.verdict.pointee, planned.verdict.pointee)
        let isSame =
            one.kind == other.kind && one.reason == other.reason
            && one.mode == other.mode && one.ecnCell == other.ecnCell
            && one.clampedMSS == other.clampedMSS && one.unclampedMSS == other.unclampedMSS
            && one.tunnel == other.tunnel && one.device == other.device
            && one.destination == other.destination && one.headLength == other.headLength
            && one.offset == other.offset && one.length == other.length && one.vnet == other.vnet
            && memcmp(plain.head, planned.head, Int(one.headLength)) == 0
        guard isSame else { throw Violation("the judge \(one), a batch \(other)") }
    }

    // MARK: Inputs

    public func seed(_ number: Int) -> [UInt8]? {
        guard number < 32 else { return nil }
        var generator = PacketGenerator(
            places[number % Self.worlds].setting, Random(UInt64(number)))
        var arrival = generator.next()
        while arrival.bytes.count > 200 { arrival = generator.next() }
        return FrameInput(arrival, world: number % Self.worlds).input
    }

    public func mutate(_ input: [UInt8], _ random: inout Random) -> [UInt8]? {
        guard var described = input.withUnsafeBytes({ FrameInput($0) }) else {
            return seed(random.below(32))
        }
        if random.below(8) == 0 {
            var generator = PacketGenerator(
                places[described.world % Self.worlds].setting, Random(random.next()))
            return FrameInput(generator.next(), world: described.world).input
        }
        guard described.bytes.count > described.linkLength + 20 else { return nil }
        var packet = PacketMend(bytes: described.bytes, start: described.linkLength)
        switch random.below(8) {
        case 0: described.world = random.below(Self.worlds)
        case 1: packet.swapHeaders()
        case 2, 3: packet.changeField(&random)
        case 4: packet.insertHeader(&random)
        case 5: packet.copyWithin(&random)
        default: break
        }
        if random.below(4) != 0 { packet.mendAll() }
        described.bytes = packet.bytes
        return described.input
    }
}

extension PacketMend {
    /// Outer and inner IP header change places, as do the packets behind them.
    mutating func swapHeaders() {
        guard let inner, inner - start <= bytes.count - inner else { return }
        let outer = Array(bytes[start..<inner])
        bytes.removeSubrange(start..<inner)
        bytes.insert(contentsOf: outer, at: start + outer.count)
    }

    /// One byte near the start of some header gets a value that means something there.
    mutating func changeField(_ random: inout Random) {
        let headers = headers
        let place = headers[random.below(headers.count)] + random.below(24)
        guard place < bytes.count else { return }
        let values: [UInt8] = [0, 1, 2, 4, 6, 8, 17, 41, 43, 44, 47, 51, 58, 60, 131, 137, 255]
        switch random.below(4) {
        case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes[place] ^= 1 << UInt8(random.below(8))
        default: bytes[place] = values[random.below(values.count)]
        }
    }

    /// An extension header, or as many bytes of options, before some header.
    mutating func insertHeader(_ random: inout Random) {
        let headers = headers
        let place = headers[random.below(headers.count)]
        let numbers: [UInt8] = [0, 4, 6, 17, 41, 43, 44, 58, 60]
        let contents: [[UInt8]] = [
            [0, 4, 1, 4, 1, 1, 0], [0, 0, 0, 0, 0, 0, 7], [0, 0, 1, 0, 0, 0, 7],
            [0, 0, 8, 0, 0, 0, 7], [0, 1, 4, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0],
            [2, 4, 5, 180, 1, 1, 0],
        ]
        let header =
            [numbers[random.below(numbers.count)]]
            + contents[random.below(contents.count)]
        bytes.insert(contentsOf: header, at: place)
    }

    /// Some bytes, once more, somewhere else.
    mutating func copyWithin(_ random: inout Random) {
        let from = start + random.below(bytes.count - start)
        let count = min(1 + random.below(40), bytes.count - from)
        let part = Array(bytes[from..<from + count])
        bytes.insert(contentsOf: part, at: start + random.below(bytes.count - start))
    }
}
