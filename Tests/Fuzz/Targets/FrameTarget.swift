// One frame before the judge: bounds, both ways the same, and every eighth input put to the model.

import Forwarding
import Glibc
import Model

public final class FrameTarget: FuzzTarget {
    static let worlds = 16

    /// One policy with all that is made of it.
    final class Place {
        let setting: Setting
        let world: World
        var model: Model

        init(_ setting: Setting) {
            self.setting = setting
            world = setting.makeWorld()
            model = Model(setting)
        }
    }

    private let places: [Place]
    private let cache = OuterCache()
    private let memory = GuardedMemory(capacity: 1 << 20)
    private let head = GuardedMemory(capacity: Limits.headBytes)
    private let reassembler = Reassembler(memory: 0, timeout: 1, seed: 1)
    private let verdict = UnsafeMutablePointer<Verdict>.allocate(capacity: 1)
    private let frame = UnsafeMutablePointer<Frame>.allocate(capacity: 1)

    public init() {
        places = (0..<Self.worlds).map { number in
            var random = Random(UInt64(number))
            return Place(Setting.random(&random))
        }
    }

    public func run(_ input: UnsafeRawBufferPointer) throws(Violation) {
        guard let described = FrameInput(input) else { return }
        let place = places[described.world % Self.worlds]
        let arrival = described.arrival(interfaces: place.setting.interfaces.count)
        let plain = try judge(memory.copy(arrival.bytes), arrival, place, cache: nil)
        // As if a better frame with this outer header had come before.
        cache.empty()
        let block = malloc(arrival.bytes.count)!
        defer { free(block) }
        arrival.bytes.withUnsafeBytes {
            if $0.count > 0 { memcpy(block, $0.baseAddress!, $0.count) }
        }
        if let tunnel = place.model.matchedTunnel(arrival) {
            prepare(UnsafeRawPointer(block), arrival)
            cache.insert(frame, tunnel: UInt16(tunnel))
        }
        let cached = try judge(UnsafeRawPointer(block), arrival, place, cache: cache)
        guard plain == cached else {
            throw Violation("without cache \(plain), with one \(cached)")
        }
        guard input.reduce(UInt8(0), { ($0 &* 31) &+ $1 }) & 7 == 0 else { return }
        defer { place.model.expire() }
        let expected = place.model.answer(arrival)
        guard plain == expected else { throw Violation("shuck \(plain), model \(expected)") }
    }

    private func prepare(_ bytes: UnsafeRawPointer, _ arrival: Arrival) {
        frame.initialize(
            to: Frame(
                network: bytes, head: head.room(Limits.headBytes), length: arrival.bytes.count,
                wireLength: arrival.bytes.count + arrival.cut, linkLength: arrival.linkLength,
                etherType: arrival.etherType, interface: UInt16(arrival.interface),
                isForUs: arrival.isForUs, vnet: arrival.vnet))
    }

    private func judge(
        _ bytes: UnsafeRawPointer, _ arrival: Arrival, _ place: Place, cache: OuterCache?
    ) throws(Violation) -> Answer {
        prepare(bytes, arrival)
        // What the verdict before left there must not show.
        memset(verdict, 0x5a, MemoryLayout<Verdict>.size)
        Judge.judge(
            frame, into: verdict, count: 1, world: place.world.view, cache: cache,
            reassembler: place.setting.fragmentTimeout == nil ? nil : reassembler)
        reassembler.expire(now: .max)
        let isIntact = arrival.bytes.withUnsafeBytes {
            $0.count == 0 || memcmp(bytes, $0.baseAddress!, $0.count) == 0
        }
        guard isIntact else { throw Violation("the judge wrote to the frame") }
        let answer = verdict.pointee
        switch answer.kind {
        case .inject:
            guard answer.reason == .none, answer.headLength <= answer.length,
                Int(answer.headLength) <= Limits.headBytes,
                Int(answer.offset) + Int(answer.length) <= arrival.bytes.count
            else { throw Violation("injected beyond its frame: \(answer)") }
        case .pass:
            guard answer.reason == .none else { throw Violation("passed for a reason: \(answer)") }
        case .drop:
            guard answer.reason != .none else { throw Violation("dropped for none: \(answer)") }
        case .reply where answer.reason == .packetTooBig: break
        case .hold where place.setting.fragmentTimeout != nil: break
        case .hold, .reply: throw Violation("no fate of a single frame: \(answer)")
        }
        return Answer(answer, of: frame.pointee, place.setting.policy)
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
        let header = [numbers[random.below(numbers.count)]]
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
