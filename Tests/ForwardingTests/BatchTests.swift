// A batch as a function: what leaves, and what follows from the kernel's answers.

import TestPackets
import Testing

@testable import Forwarding

@Suite("Batch")
struct BatchTests {
    private static let invalid: Int32 = -22
    private static let noBuffers: Int32 = -105

    /// Segments of one flow, 100 bytes each, as a sender numbers them.
    private static func flow(_ count: Int, port: UInt16 = 40000, isTCP: Bool = true) -> [Segment] {
        (0..<count).map { number in
            var segment = Segment(.ipip, isTCP: isTCP)
            segment.header.identification = UInt16(number)
            segment.sourcePort = port
            segment.tcp?.flags = 0x10
            segment.tcp?.sequence = UInt32(number * 100)
            segment.payload = [UInt8](repeating: UInt8(number & 255), count: 100)
            return segment
        }
    }

    /// Plans a batch and gives each operation the result that the kernel is to answer.
    private func settled(
        _ segments: [Segment], in worker: TestBatch = TestBatch(),
        _ answer: (Batch.Operation) -> Int32
    ) -> (rest: [Write]?, verdicts: [Verdict], writes: Int) {
        withJudged(segments, in: worker) { batch, times in
            let plan = batch.list(segments.count, times)
            for place in plan.operations {
                batch.operations[place].result = answer(batch.operations[place])
            }
            let rest = batch.settle(plan.operations)
            return (
                rest?.map { Write(batch.operations[$0], batch) },
                segments.indices.map { batch.verdicts[$0] }, batch.writes
            )
        }
    }

    @Test("what succeeds needs nothing more")
    func success() {
        let done = settled(Self.flow(3) + Self.flow(1, port: 7)) { $0.length }
        #expect(done.rest == nil && done.writes == 2)
        #expect(done.verdicts.allSatisfy { $0.kind == .inject && $0.reason == .none })
    }

    @Test("a single packet that is refused is a drop", arguments: [-105, -11, -12, -22, -77, 3])
    func singles(error: Int32) {
        let done = settled(Self.flow(1) + Self.flow(1, port: 7)) { $0.frame == 0 ? error : $0.length }
        #expect(done.rest?.isEmpty == true && done.writes == 2)
        #expect(done.verdicts[0].kind == .drop && done.verdicts[1].kind == .inject)
        #expect(
            done.verdicts[0].reason
                == ([-105, -11, -12].contains(error) ? .deviceFull : .deviceError))
    }

    @Test("a joined packet that finds no room takes all of its packets along")
    func full() {
        let done = settled(Self.flow(3) + Self.flow(1, port: 7)) {
            $0.joined.isEmpty ? $0.length : Self.noBuffers
        }
        #expect(done.rest?.isEmpty == true && done.writes == 1)
        #expect(done.verdicts.prefix(3).allSatisfy { $0.kind == .drop && $0.reason == .deviceFull })
        #expect(done.verdicts[3].kind == .inject)
    }

    @Test("what the kernel refuses to cut goes out packet by packet, once", arguments: [true, false])
    func refusedJoin(isTCP: Bool) {
        let worker = TestBatch()
        let segments = Self.flow(4, isTCP: isTCP) + Self.flow(2, port: 7, isTCP: !isTCP)
        let done = settled(segments, in: worker) {
            $0.isRefusedJoin || $0.joined == (isTCP ? .tcp : .udp) ? Self.invalid : $0.length
        }
        #expect(done.rest?.map(\.members) == [[0], [1], [2], [3]])
        #expect(done.rest?.map(\.packet) == segments.prefix(4).map(\.inner))
        #expect(done.writes == 5)
        #expect(done.verdicts.allSatisfy { $0.kind == .inject })
        // Until the device is opened anew.
        #expect(worker.batch.kinds[0] == (isTCP ? .udp : .tcp))
    }

    @Test("single packets that are refused as well are settled in turn")
    func refusedTwice() {
        let worker = TestBatch()
        let segments = Self.flow(3)
        withJudged(segments, in: worker) { batch, times in
            let plan = batch.list(3, times)
            batch.operations[0].result = Self.invalid
            let rest = batch.settle(plan.operations)
            #expect(rest == 1..<4)
            for place in 1..<4 {
                batch.operations[place].result =
                    place == 2 ? Self.noBuffers : batch.operations[place].length
            }
            #expect(batch.settle(1..<4) == 4..<4)
            #expect((0..<3).map { batch.verdicts[$0].reason } == [.none, .deviceFull, .none])
            #expect(batch.writes == 3)
        }
    }

    @Test("behind a later packet of its flow nothing is sent")
    func overtaken() {
        var segments = Self.flow(4)
        // Ends the run, and goes out by itself.
        segments[3].tcp?.flags = 0x11
        let done = settled(segments) { $0.joined.isEmpty ? $0.length : Self.invalid }
        #expect(done.rest?.isEmpty == true && done.writes == 1)
        #expect(done.verdicts.map(\.reason) == [.gsoInvalid, .gsoInvalid, .gsoInvalid, .none])
        #expect(done.verdicts.map(\.kind) == [.drop, .drop, .drop, .inject])
    }

    @Test("in shadow mode nothing leaves, and nothing of the batch before stays")
    func shadow() {
        let worker = TestBatch()
        let segments = Self.flow(8)
        let plan = withJudged(segments, in: worker) { $0.list(8, $1) }
        #expect(plan.operations == 0..<1 && plan.savesWrites && worker.batch.writes == 1)
        let shadowed = withJudged(segments, in: worker, isShadow: true) { $0.list(8, $1) }
        #expect(shadowed.operations.isEmpty && !shadowed.savesWrites && worker.batch.writes == 0)
        #expect((0..<8).allSatisfy { worker.batch.verdicts[$0].kind == .inject })
    }

    @Test("as many as fit are joined", arguments: [2, 64, 65, 256])
    func capacity(count: Int) {
        let segments = Self.flow(count)
        let found = writes(segments, in: TestBatch(capacity: count))
        #expect(found.map(\.members) == [Array(0..<count)])
        expectSameBytes(found, segments)
    }

    // MARK: ICMP errors

    private static let small = world {
        $0.devices = [.init(name: "shuck0", mtu: 1300, isElsewhere: true)]
    }

    private static func large(_ mode: Mode) -> Segment {
        var segment = Segment(mode, isTCP: false)
        segment.header.fragment = 0x4000
        segment.payload = [UInt8](repeating: 7, count: 1400)
        return segment
    }

    @Test("an error is an operation beside the others", arguments: Mode.allCases)
    func error(mode: Mode) {
        let tokens = ICMPErrorTokens(perSecond: 1, burst: 1)
        defer { tokens.deallocate() }
        let segments = [Segment(mode, isTCP: true), Self.large(mode), Self.large(mode)]
        withJudged(segments, world: Self.small, errors: tokens) { batch, times in
            let plan = batch.list(3, times)
            #expect(plan.operations == 0..<2 && batch.writes == 1)
            let error = batch.operations[1]
            #expect(error.target == .icmpError && error.frame == 1)
            let content = error.content
            #expect(content.count == Int(error.length))
            #expect(Array(content[..<2]) == (mode.innerIsIPv4 ? [3, 4] : [2, 0]))
            #expect(Array(content[8...]) == Array(segments[1].inner.prefix(content.count - 8)))
            #expect(Array(batch.receiver(of: error)) == segments[1].header.source.bytes)
            // The bucket holds one token.
            #expect(batch.verdicts[1].kind == .reply && batch.verdicts[2].kind == .drop)
            // What the kernel does not take was not told.
            batch.operations[0].result = batch.operations[0].length
            batch.operations[1].result = -1
            #expect(batch.settle(plan.operations)?.isEmpty == true)
            #expect((0..<3).map { batch.verdicts[$0].kind } == [.inject, .drop, .drop])
            #expect(batch.verdicts[1].reason == .packetTooBig && batch.writes == 1)
        }
    }

    @Test("a token is taken at the time of its frame")
    func arrivals() {
        let tokens = ICMPErrorTokens(perSecond: 1, burst: 1)
        defer { tokens.deallocate() }
        let segments = [Segment](repeating: Self.large(.ipip), count: 4)
        let second: UInt64 = 1_000_000_000
        withJudged(segments, world: Self.small, errors: tokens) { batch, _ in
            let each = [5 * second, 5 * second + 1, 6 * second, 6 * second + 1]
            let kinds = each.withUnsafeBufferPointer { each in
                _ = batch.list(
                    4, ArrivalTimes(first: batch.frames, now: 0, each: each.baseAddress!))
                return (0..<4).map { batch.verdicts[$0].kind }
            }
            #expect(kinds == [.reply, .drop, .reply, .drop])
        }
    }

    @Test("without a socket or a rate nothing is told")
    func noErrors() {
        withJudged([Self.large(.ipip)], world: Self.small) { batch, times in
            #expect(batch.list(1, times).operations.isEmpty)
            #expect(batch.verdicts[0].kind == .drop && batch.verdicts[0].reason == .packetTooBig)
        }
    }
}

@Suite("Verdict")
struct VerdictTests {
    @Test("the first word of an injection", arguments: Mode.allCases, [0, 1, 0xfffe] as [UInt16])
    func fate(mode: Mode, tunnel: UInt16) {
        var verdict = Verdict(kind: .inject, mode: mode, tunnel: tunnel)
        verdict.ecnCell = 0
        let word = withUnsafeBytes(of: verdict) { $0.loadUnaligned(as: UInt64.self) }
        #expect(Verdict.fate(mode, tunnel) == word.littleEndian)
    }

    /// A verdict is aligned to four bytes, and is compared by eight at a time.
    @Test("verdicts are compared where they lie", arguments: [0, 4, 8, 12])
    func alignment(offset: Int) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 16)
        defer { memory.deallocate() }
        let one = (memory + offset).bindMemory(to: Verdict.self, capacity: 2)
        one.initialize(repeating: Verdict(kind: .inject, tunnel: 3), count: 2)
        one[1].length = 7
        #expect(one.hasFate(of: one + 1))
        one[1].destination = 5
        #expect(!one.hasFate(of: one + 1))
    }
}
