// Part of World (World.swift): the invariants.

import Forwarding
import Model

extension World {
    // MARK: Verdicts

    /// Every verdict is the model's, under the worker's own tables or routes that are newer: the tries change
    /// in place before the worker adopts their generation.
    mutating func checkVerdicts(_ count: Int) {
        let setup = worker.pointee.generation.setup
        let limits = setup.limits != nil
        worker.pointee.model.expire(now: worker.pointee.now)
        for index in 0..<count {
            let slot = rings[places[index].ring].slots + places[index].slot
            let number = Int(slot.pointee.template)
            let template = templates + number
            let verdict = batch.verdicts + index
            if template.pointee.hasState || slot.pointee.isFragment {
                checkWithState(index, slot, template, isLimited: limits)
            } else {
                var expected = worker.pointee.generation.expected(number, template)
                if !expected.pointee.allows(verdict.pointee, isLimited: limits) {
                    expected = otherAnswer(number, template, verdict.pointee, limits) ?? expected
                    if !expected.pointee.allows(verdict.pointee, isLimited: limits) {
                        failVerdict(index, expected.pointee)
                        return
                    }
                }
                places[index].expected = expected
            }
            checkRates(verdict, places[index].expected, template, setup)
        }
    }

    /// Generations of the worker's policy that it has not adopted.
    private var newer: [Generation] {
        let own = worker.pointee.generation
        return live.filter { $0.number > own.number && $0.setup === own.setup }
    }

    /// By routes that are newer than the worker's generation.
    @inline(never)
    private mutating func otherAnswer(
        _ number: Int, _ template: UnsafePointer<Template>, _ verdict: Verdict, _ isLimited: Bool
    ) -> UnsafePointer<Expected>? {
        for generation in newer {
            let expected = generation.expected(number, template)
            if expected.pointee.allows(verdict, isLimited: isLimited) { return expected }
        }
        let bytes = UnsafeRawBufferPointer(start: template.pointee.bytes, count: template.pointee.count)
        let answer = otherAnswer(
            Arrival(template, bytes), worker.pointee.model, template.pointee.layout, verdict, isLimited)
        return answer.map { keep($0) }
    }

    /// Until the batch is over.
    private mutating func keep(_ expected: Expected) -> UnsafePointer<Expected> {
        let answers = worker.pointee.answers
        answers[worker.pointee.answerCount] = expected
        worker.pointee.answerCount &+= 1
        return UnsafePointer(answers + worker.pointee.answerCount - 1)
    }

    @inline(never)
    private mutating func failVerdict(_ index: Int, _ expected: Expected) {
        let verdict = batch.verdicts[index]
        let slot = rings[places[index].ring].slots[places[index].slot]
        fail(
            """
            place \(index), frame \(slot.frame) of template \(slot.template): \(verdict.kind) \
            \(verdict.reason.name) tunnel \(verdict.tunnel) device \(verdict.device) \
            length \(verdict.length), \
            the model says \(expected.kind) \(expected.reason.name) tunnel \(expected.tunnel) device \
            \(expected.device) length \(expected.count), generation \(worker.pointee.generation.number)
            """)
    }

    /// A frame whose answer depends on those before it.
    @inline(never)
    private mutating func checkWithState(
        _ index: Int, _ slot: UnsafeMutablePointer<Ring.Slot>, _ template: UnsafePointer<Template>,
        isLimited: Bool
    ) {
        // Of a frame that completed its datagram the judge has moved `network`.
        let bytes =
            slot.pointee.isReceived
            ? UnsafeRawBufferPointer(start: batch.frames[index].network, count: Int(slot.pointee.length))
            : UnsafeRawBufferPointer(
                start: rings[places[index].ring].bytes(places[index].slot), count: Int(slot.pointee.length))
        let arrival = Arrival(template, bytes)
        let before = worker.pointee.model
        let now = worker.pointee.now
        var expected = Expected(worker.pointee.model.answer(arrival, now: now), .fixed)
        if expected.kind == .hold { summary.held &+= 1 }
        if !expected.allows(batch.verdicts[index], isLimited: isLimited),
            let other = otherAnswer(arrival, before, .fixed, batch.verdicts[index], isLimited)
        {
            expected.bytes?.deallocate()
            expected = other
        }
        expected.isExact = true
        places[index].expected = keep(expected)
        if slot.pointee.isFragment && expected.kind == .inject { summary.whole &+= 1 }
        if !expected.allows(batch.verdicts[index], isLimited: isLimited) { failVerdict(index, expected) }
    }

    /// The model's, by the routes after any change that the worker has not adopted yet.
    private mutating func otherAnswer(
        _ arrival: Arrival, _ before: Model, _ layout: Layout, _ verdict: Verdict, _ isLimited: Bool
    ) -> Expected? {
        for generation in newer {
            for model in generation.steps {
                var other = model
                other.takeOver(before)
                let answer = Expected(other.answer(arrival, now: worker.pointee.now), layout)
                if answer.allows(verdict, isLimited: isLimited) { return answer }
                answer.bytes?.deallocate()
            }
        }
        return nil
    }

    /// No more than the rates allow, and no less: what is refused found an empty bucket.
    @inline(__always)
    private mutating func checkRates(
        _ verdict: UnsafePointer<Verdict>, _ expected: UnsafePointer<Expected>?,
        _ template: UnsafePointer<Template>, _ setup: Setup
    ) {
        if setup.limits != nil {
            let isLimited = verdict.pointee.kind == .drop && verdict.pointee.reason == .rateLimit
            if isLimited || verdict.pointee.kind == .inject { checkRate(isLimited, template, setup) }
        }
        guard expected?.pointee.kind == .reply, !setup.isShadow else { return }
        if verdict.pointee.kind == .reply {
            if !setup.errorBucket.give(age: age) {
                fail("more ICMP errors than their rate allows: \(setup.errorBucket)")
            }
        } else if !setup.errorBucket.mayRefuse(age: age) {
            fail("an ICMP error is not sent, and its bucket is not empty: \(setup.errorBucket)")
        }
    }

    private mutating func checkRate(
        _ isLimited: Bool, _ template: UnsafePointer<Template>, _ setup: Setup
    ) {
        if isLimited {
            if !setup.packetBucket.mayRefuse(age: age) {
                fail("a packet is above the rate, and its bucket is not empty: \(setup.packetBucket)")
            }
            return
        }
        let size = Int(template.pointee.vnet.gsoSize)
        let tokens = size == 0 ? 1 : (template.pointee.count + size - 1) / size
        if !setup.packetBucket.give(atMost: tokens, age: age) {
            fail("more packets than \(setup.packetsPerSecond ?? 0) a second: \(setup.packetBucket)")
        }
    }

    /// Nanoseconds since the worker read the clock.
    private var age: UInt64 { clock > worker.pointee.now ? clock - worker.pointee.now : 0 }

    // MARK: What comes out

    /// A write that the device took: the packets that leave the host must be those that came.
    @inline(__always)
    mutating func deliver(_ place: Int) {
        let operation = batch.operations[place]
        var base = operation.memory
        if operation.pieceCount > 0 { base = gather(operation) }
        let vnet = base.loadUnaligned(as: VirtioHeader.self)
        let packet = base + VirtioHeader.byteCount
        let length = Int(operation.length) - VirtioHeader.byteCount
        let first = Int(operation.frame)
        guard let expected = places[first].expected, expected.pointee.kind == .inject,
            operation.index == expected.pointee.device
        else {
            return fail(
                "operation \(place) carries frame \(first), which is not for device \(operation.index)")
        }
        if vnet.gsoType != VirtioHeader.gsoNone && expected.pointee.vnet.gsoType == VirtioHeader.gsoNone {
            return deliverJoined(place, packet, length, vnet)
        }
        guard vnet == expected.pointee.vnet else { return fail("place \(first): offload header \(vnet)") }
        checkBytes(first, packet, length, isFinished: false)
        noteDelivery(first)
    }

    /// The pieces side by side.
    private func gather(_ operation: Batch.Operation) -> UnsafeRawPointer {
        var end = 0
        for piece in 0..<Int(operation.pieceCount) {
            let (base, count) = (operation.pieces[piece].base, operation.pieces[piece].count)
            guard count >= 0, end + count <= Int(operation.length), end + count <= 70_000 else { break }
            (gathered + end).copyMemory(from: base, byteCount: count)
            end += count
        }
        // A length that lies shows as bytes that differ.
        if end < Int(operation.length) {
            (gathered + end).initializeMemory(
                as: UInt8.self, repeating: 0xee, count: min(Int(operation.length), 70_000) - end)
        }
        return UnsafeRawPointer(gathered)
    }

    private mutating func deliverJoined(
        _ place: Int, _ packet: UnsafeRawPointer, _ length: Int, _ vnet: VirtioHeader
    ) {
        let operation = batch.operations[place]
        guard worker.pointee.refusals[Int(operation.index)].refused.isDisjoint(with: operation.joined) else {
            return fail("device \(operation.index) is sent what it refused to cut")
        }
        guard let segments = Segments(packet, length: length, vnet) else {
            return fail("operation \(place): the kernel would not cut \(vnet) of \(length) bytes")
        }
        var number = 0
        let batch = batch
        batch.forEachFrame(of: operation) { index in
            guard finding == nil, number < segments.count else { return number = Int.max / 2 }
            let bytes = segments.write(number, to: scratch)
            checkBytes(index, UnsafeRawPointer(scratch), bytes, isFinished: true)
            noteDelivery(index)
            number += 1
        }
        if number != segments.count {
            fail("operation \(place): \(segments.count) segments of \(number) frames")
        }
        summary.joined &+= number
    }

    /// Whether a packet is the inner packet of a frame, but for what a rule changes.
    /// - Parameter isFinished: its checksum is what a kernel wrote.
    @inline(__always)
    private mutating func checkBytes(
        _ index: Int, _ packet: UnsafeRawPointer, _ length: Int, isFinished: Bool
    ) {
        let slot = rings[places[index].ring].slots + places[index].slot
        let template = templates + Int(slot.pointee.template)
        guard let expected = places[index].expected, let bytes = expected.pointee.bytes,
            expected.pointee.kind == .inject, expected.pointee.count == length
        else { return fail("place \(index): \(length) bytes leave that should not") }
        other.copyMemory(from: bytes, byteCount: length)
        if !expected.pointee.isExact {
            slot.pointee.marks.write(to: other, template.pointee.layout, expected.pointee.sums)
            if isFinished && template.pointee.isUnfinished {
                let isIPv4 = other.load(as: UInt8.self) >> 4 == 4
                let start = isIPv4 ? 20 : 40
                let number = other.load(fromByteOffset: isIPv4 ? 9 : 6, as: UInt8.self)
                Segments.finish(other, length, start, start + (number == 6 ? 16 : 6))
            }
        }
        if !isSame(packet, other, length) { failBytes(index, packet, length) }
    }

    @inline(__always)
    private func isSame(_ one: UnsafeRawPointer, _ two: UnsafeRawPointer, _ count: Int) -> Bool {
        var offset = 0
        while offset &+ 8 <= count {
            if one.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                != two.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            {
                return false
            }
            offset &+= 8
        }
        while offset < count {
            if one.load(fromByteOffset: offset, as: UInt8.self)
                != two.load(fromByteOffset: offset, as: UInt8.self)
            {
                return false
            }
            offset &+= 1
        }
        return true
    }

    @inline(never)
    private mutating func failBytes(_ index: Int, _ packet: UnsafeRawPointer, _ length: Int) {
        func hex(_ bytes: UnsafeRawPointer) -> String {
            UnsafeRawBufferPointer(start: bytes, count: min(length, 120)).map {
                ($0 < 16 ? "0" : "") + String($0, radix: 16)
            }.joined()
        }
        let differing = (0..<length).filter {
            packet.load(fromByteOffset: $0, as: UInt8.self) != other.load(fromByteOffset: $0, as: UInt8.self)
        }
        // One's complement has two zeros, and an updated header checksum may be either.
        if differing.allSatisfy({ $0 == 10 || $0 == 11 }), packet.load(as: UInt8.self) >> 4 == 4,
            [0, 0xffff].contains(bigEndian(packet, 10)), onesSum(packet, 20) == 0xffff
        {
            return
        }
        fail(
            """
            place \(index), template \(rings[places[index].ring].slots[places[index].slot].template): bytes \
            \(differing.prefix(12)) differ
            out:      \(hex(packet))
            expected: \(hex(other))
            """)
    }

    /// Once per worker that had it, and in the order of its flow.
    @inline(__always)
    private mutating func noteDelivery(_ index: Int) {
        let slot = rings[places[index].ring].slots + places[index].slot
        places[index].sent &+= 1
        slot.pointee.deliveries &+= 1
        if places[index].sent > 1 || slot.pointee.deliveries > slot.pointee.deaths &+ 1 {
            let (times, deaths) = (slot.pointee.deliveries, slot.pointee.deaths)
            fail("frame \(slot.pointee.frame) left \(times) times, of \(deaths) workers that died")
        }
        if slot.pointee.deliveries > 1 { summary.twice &+= 1 }
        let flow = templates[Int(slot.pointee.template)].flow
        guard flow >= 0 else { return }
        let last = worker.pointee.lastOfFlow + flow
        if slot.pointee.frame <= last.pointee {
            fail("frame \(slot.pointee.frame) leaves behind frame \(last.pointee) of its flow")
        }
        last.pointee = slot.pointee.frame
    }

    /// An ICMP error has no more bytes than the packet that it answers, and quotes it.
    mutating func sendError(_ place: Int) -> Int32 {
        let operation = batch.operations[place]
        let index = Int(operation.frame)
        let verdict = batch.verdicts[index]
        let content = gather(operation)
        let quoted = Int(operation.length) - 8
        let packet = batch.frames[index].network + Int(verdict.offset)
        let header = verdict.mode.innerIsIPv4 ? 20 : 40
        if verdict.kind != .reply || quoted + 8 + header > Int(verdict.length) || quoted < header
            || !isSame(content + 8, packet, max(quoted, 0))
        {
            fail("place \(index): an ICMP error of \(operation.length) bytes for \(verdict.length)")
        }
        places[index].sent &+= 1
        return schedule.chance(50) ? -1 : operation.length
    }

    // MARK: Outcome

    /// What was settled is what happened.
    mutating func checkOutcome(_ count: Int, _ writes: Int) {
        if finding != nil { return }
        for device in 0..<deviceCount {
            let refusals = worker.pointee.refusals + device
            refusals.pointee.refused.formUnion(refusals.pointee.refusedNow)
        }
        let isShadow = worker.pointee.generation.setup.isShadow
        if !isShadow && writes != batch.writes {
            fail("\(batch.writes) writes are counted, \(writes) were made")
        }
        for index in 0..<count {
            guard let expected = places[index].expected?.pointee else { continue }
            let verdict = batch.verdicts[index]
            let sent = places[index].sent
            let isRight =
                switch verdict.kind {
                case .inject: expected.kind == .inject && (sent == 1) != isShadow
                case .reply: expected.kind == .reply && (sent == 1) != isShadow
                case .drop:
                    isDropRight(expected, verdict, places[index])
                        && (verdict.reason != .gsoInvalid || expected.kind != .inject
                            || expected.vnet.gsoType != VirtioHeader.gsoNone || mayBeOvertaken(index, count))
                case .pass, .hold: sent == 0 && expected.kind == verdict.kind
                }
            if !isRight {
                return fail(
                    """
                    place \(index): settled as \(verdict.kind) \(verdict.reason.name), sent \(sent) times, \
                    the last result \(places[index].result)
                    """)
            }
        }
    }

    /// Whether a packet of its flow was written, or one that may be of any flow: only then is a packet that
    /// was joined in vain not sent alone.
    @inline(never)
    private func mayBeOvertaken(_ index: Int, _ count: Int) -> Bool {
        let flow = template(index).pointee.flow
        for other in 0..<count where other != index && places[other].sent > 0 {
            let template = template(other)
            if template.pointee.flow == flow || template.pointee.flow < 0 || template.pointee.hidesPorts {
                return true
            }
        }
        return false
    }

    private func template(_ index: Int) -> UnsafePointer<Template> {
        UnsafePointer(templates + Int(rings[places[index].ring].slots[places[index].slot].template))
    }

    @inline(__always)
    private func isDropRight(_ expected: Expected, _ verdict: Verdict, _ place: Place) -> Bool {
        if expected.kind == .drop { return place.sent == 0 && verdict.reason == expected.reason }
        // No token, or nobody took it.
        if expected.kind == .reply { return verdict.reason == expected.reason }
        guard expected.kind == .inject, place.sent == 0 else { return false }
        switch verdict.reason {
        case .rateLimit: return place.result == 0
        case .deviceFull: return [-11, -12, -105].contains(place.result)
        case .gsoInvalid: return place.result == -22
        case .deviceError: return place.result == -5 || place.result == -77 || place.result > 0
        default: return false
        }
    }

    // MARK: Totals

    /// Every frame of the worker is somewhere, once.
    mutating func checkTotals(isLast: Bool) {
        let counters = worker.pointee.counters
        let seen = worker.pointee.seen
        if counters.received != counters.injected + counters.passed + counters.dropped + counters.replied
            + counters.held
        {
            return fail("counters do not add up: \(counters)")
        }
        if counters.received + worker.pointee.uncounted != worker.pointee.releasedFrames {
            return fail("\(counters.received) frames are counted, \(worker.pointee.releasedFrames) went back")
        }
        if !seen.hasFates(of: counters) { return fail("\(counters) are counted of \(seen)") }
        guard isLast || summary.steps & 63 == 0 else { return }
        checkBlock()
        var (filled, waiting) = (0, 0)
        for ring in 0..<ringCount {
            filled += rings[ring].filled
            for slot in 0...rings[ring].mask where rings[ring].slots[slot].isReady { waiting += 1 }
        }
        let (released, lost) = (worker.pointee.releasedFrames, worker.pointee.lostFrames)
        if filled != released + lost + worker.pointee.skippedFrames + waiting {
            return fail("\(filled) frames came, \(released) went back, \(lost) lost, \(waiting) wait")
        }
        if counters.truncated != worker.pointee.lostCounts {
            fail("\(counters.truncated) are counted as lost of \(worker.pointee.lostCounts)")
        }
        checkFragments(isLast: isLast)
    }

    /// A block whose sequence is even holds sums that agree with their parts.
    mutating func checkBlock() {
        if !worker.pointee.block.isOdd { checkParts(worker.pointee.block.values) }
    }

    /// Each sum is that of its parts.
    mutating func checkParts(_ counters: CounterBlock.Values) {
        let (shape, values) = (counters.shape, counters.values)
        func sum(_ from: Int, _ to: Int) -> UInt64 { values[from..<to].reduce(0, +) }
        let fates = [CounterBlock.Single.injected, .passed, .dropped, .replied, .held]
        if counters[.injected] != sum(shape.injected, shape.injectedBytes)
            || counters[.dropped] != sum(shape.dropped, shape.injected)
            || counters[.replied] != sum(shape.replied, shape.dropped)
            || counters[.received] != fates.reduce(0, { $0 + counters[$1] })
        {
            fail("counters do not agree with their parts: \(Counters(counters))")
        }
    }

    /// A kill costs no more than the counts of a batch, and counts nothing that did not happen.
    mutating func checkRetired() {
        let (counters, seen) = (worker.pointee.retired, worker.pointee.seen)
        let uncounted = worker.pointee.releasedFrames - counters.received
        if !(0...Limits.batch).contains(uncounted - worker.pointee.uncounted)
            || counters.injected > seen.injected || counters.passed > seen.passed
            || counters.dropped > seen.dropped || counters.replied > seen.replied
            || counters.held > seen.held
        {
            return fail(
                """
                after a kill \(counters) are counted of \(seen), \(worker.pointee.releasedFrames) went back, \
                \(worker.pointee.uncounted) of them not counted before
                """)
        }
        worker.pointee.uncounted = uncounted
        worker.pointee.seen = counters
    }

    /// A datagram becomes whole, or is counted.
    private mutating func checkFragments(isLast: Bool) {
        if isLast {
            worker.pointee.reassembler.expire(now: .max)
            worker.pointee.model.expire()
        }
        let (found, wanted) = (worker.pointee.reassembler.failures, worker.pointee.model.failures)
        if found != wanted { fail("failed datagrams: \(found), the model says \(wanted)") }
    }
}

extension Counters {
    fileprivate func hasFates(of other: Counters) -> Bool {
        injected == other.injected && passed == other.passed && dropped == other.dropped
            && replied == other.replied && held == other.held
    }
}
