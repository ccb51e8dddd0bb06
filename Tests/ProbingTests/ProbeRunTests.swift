// When probes are sent, what counts as their answers, and what is tried again: with a clock of the test's.

import Forwarding
import IP
import TestPackets
import Testing

@testable import Probing

@Suite struct ProbeRunTests {
    private static let millisecond: UInt64 = 1_000_000
    private static let plan = ProbePlan(
        count: 1, interval: 10 * millisecond, timeout: 100 * millisecond)

    /// What became of each probe as it was sent; nil: nothing came.
    private typealias Reply = (ProbePacket) -> ProbeAnswer.Kind?

    private struct Outcome {
        var run: ProbeRun
        /// With the time of each.
        var sent: [(time: UInt64, packet: ProbePacket)] = []
        var resets: [[UInt8]] = []
        var end: UInt64 = 0
    }

    /// Answers come after `delay`, or never.
    private static func run(
        _ flows: [ProbeFlow], _ plan: ProbePlan = plan, delay: UInt64 = millisecond, reply: Reply
    ) -> Outcome {
        var outcome = Outcome(run: ProbeRun(flows, plan) { 0x0123_4567 })
        var now: UInt64 = 0
        var coming: [(time: UInt64, answer: ProbeAnswer)] = []
        while true {
            switch outcome.run.step(at: now) {
            case .send(let packet):
                outcome.sent.append((now, packet))
                if let kind = reply(packet) { coming.append((now + delay, answer(packet, kind))) }
            case .wait(let time):
                guard let first = coming.first, first.time <= time else {
                    now = time
                    continue
                }
                coming.removeFirst()
                now = max(now, first.time)
                if let reset = outcome.run.receive(first.answer, at: now) { outcome.resets.append(reset) }
            case .done:
                outcome.end = now
                return outcome
            }
        }
    }

    private static func answer(_ packet: ProbePacket, _ kind: ProbeAnswer.Kind) -> ProbeAnswer {
        ProbeAnswer(
            source: packet.flow.innerDestination, destination: packet.flow.innerSource,
            port: packet.flow.port,
            token: packet.token, kind: kind)
    }

    private static func synAck(_ packet: ProbePacket, mss: UInt16 = 1420) -> ProbeAnswer.Kind {
        .synAck(acknowledged: packet.secret &+ 1, mss: mss)
    }

    @Test func probesLeaveAtTheIntervalAndEachAnswerIsReset() {
        var plan = Self.plan
        plan.count = 5
        let outcome = Self.run([flow(.ipip)], plan) { Self.synAck($0) }
        #expect(outcome.sent.map(\.time) == [0, 10, 20, 30, 40].map { $0 * Self.millisecond })
        #expect(outcome.resets == outcome.sent.map { $0.packet.reset(acknowledged: $0.packet.secret &+ 1) })
        let result = outcome.run.results[0]
        #expect(result.isAnswered && result.answered == 5 && result.mss == 1420)
        #expect(result.roundTrips == RoundTrips([UInt64](repeating: Self.millisecond, count: 5)))
        #expect(Set(outcome.sent.map(\.packet.token)).count == 5)
        #expect(outcome.end == 41 * Self.millisecond)
    }

    @Test func whatIsLateIsLostAndStillReset() {
        let outcome = Self.run([flow(.ipip), flow(.ipip)], delay: 105 * Self.millisecond) { Self.synAck($0) }
        #expect(outcome.run.results.map(\.answered) == [0, 0])
        #expect(outcome.run.results.map(\.unanswered) == [1, 1])
        // The first came while the second was still waited for.
        #expect(outcome.resets.count == 1)
    }

    @Test func anAnswerCountsOnce() {
        var run = ProbeRun([flow(.ipip)], Self.plan) { 9 }
        guard case .send(let packet) = run.step(at: 0) else {
            Issue.record("nothing is sent")
            return
        }
        let answer = Self.answer(packet, Self.synAck(packet))
        for time in [5, 6, 7] as [UInt64] {
            #expect(run.receive(answer, at: time) == packet.reset(acknowledged: packet.secret &+ 1))
        }
        #expect(run.receive(Self.answer(packet, .reset(acknowledged: packet.secret &+ 1)), at: 8) == nil)
        let result = run.results[0]
        #expect((result.answered, result.refused) == (1, 0))
        #expect(result.roundTrips == RoundTrips([5]))
        #expect(run.target(of: answer) == flow(.ipip).outerDestination)
    }

    @Test func theLargestMSSIsKept() {
        var plan = Self.plan
        plan.count = 3
        var sizes: [UInt16] = [1400, 1460, 1420]
        let outcome = Self.run([flow(.ipip)], plan) { Self.synAck($0, mss: sizes.removeFirst()) }
        #expect(outcome.run.results[0].mss == 1460)
    }

    @Test func anMSSOfZeroIsCountedAndDoesNotHideOthers() {
        var plan = Self.plan
        plan.count = 3
        var sizes: [UInt16] = [0, 1420, 0]
        let outcome = Self.run([flow(.ipip)], plan) { Self.synAck($0, mss: sizes.removeFirst()) }
        #expect(outcome.run.results[0].mss == 1420)
        #expect(outcome.run.results[0].brokenMSS == 2)
    }

    @Test func unansweredFlowsAreTriedAgain() {
        var plan = Self.plan
        (plan.retries, plan.count) = (2, 2)
        let flows = [flow(.ipip, port: 80), flow(.ipip, port: 81), flow(.ipip, port: 82)]
        var asked: [UInt16: Int] = [:]
        let outcome = Self.run(flows, plan) { packet in
            asked[packet.flow.port, default: 0] += 1
            switch packet.flow.port {
            case 80: return Self.synAck(packet)
            // One of two probes of the first try, both of the second.
            case 81: return asked[81]! > 1 ? Self.synAck(packet) : nil
            default: return nil
            }
        }
        #expect(asked == [80: 2, 81: 4, 82: 6])
        let results = outcome.run.results
        #expect(results.map(\.isAnswered) == [true, true, false])
        #expect(results.map(\.tries) == [1, 2, 3])
        #expect(results.map(\.sent) == [2, 2, 2])
        #expect(outcome.run.finished == [0, 1, 2])
    }

    /// As an interrupted run leaves it.
    @Test func whatIsNotAskedToItsEndIsUndecided() {
        var plan = Self.plan
        (plan.retries, plan.count) = (1, 2)
        var run = ProbeRun([flow(.ipip)], plan) { 9 }
        #expect(run.results[0].standing(plan) == .undecided)
        var now: UInt64 = 0
        var standings: [ProbeResult.Standing] = []
        while true {
            switch run.step(at: now) {
            case .send(let packet):
                // The first is answered in both tries, which says nothing of the second.
                if standings.count.isMultiple(of: 2) {
                    _ = run.receive(Self.answer(packet, Self.synAck(packet)), at: now)
                }
                standings.append(run.results[0].standing(plan))
            case .wait(let time): now = time
            case .done:
                #expect(standings == [.undecided, .undecided, .failed, .failed])
                #expect(run.results[0].standing(plan) == .failed)
                return
            }
        }
    }

    @Test func whoRefusesIsToldFromWhoIsSilent() {
        let unreachable = ICMPReport(sender: ip("203.0.113.4"), type: 3, code: 3, isAboutOuter: false)
        let host = ICMPReport(sender: ip("192.0.2.2"), type: 3, code: 1, isAboutOuter: false)
        let flows = [flow(.ipip), flow(.ipip, .udp), flow(.ipip, .udp, port: 81), flow(.ipip, .icmp)]
        let outcome = Self.run(flows) { packet in
            switch (packet.flow.probeProtocol, packet.flow.port) {
            case (.tcp, _): .reset(acknowledged: packet.secret &+ 1)
            case (.udp, 80): .error(unreachable)
            case (.udp, _): .error(host)
            default: nil
            }
        }
        let results = outcome.run.results
        #expect(results.map(\.refused) == [1, 1, 0, 0])
        #expect(results.map(\.unanswered) == [0, 0, 1, 1])
        #expect(results.map(\.errors) == [[], [], [host], []])
        #expect(results.allSatisfy { !$0.isAnswered })
        #expect(outcome.resets.isEmpty)
    }

    @Test func whatCannotBeSentIsUnansweredAtOnce() {
        var run = ProbeRun([flow(.ipip)], Self.plan) { 9 }
        guard case .send(let packet) = run.step(at: 0) else {
            Issue.record("nothing is sent")
            return
        }
        run.refuse(packet, errno: 90)
        #expect(run.results[0].sendError == 90 && run.results[0].unanswered == 1)
        guard case .done = run.step(at: 0) else {
            Issue.record("it waits")
            return
        }
    }

    /// As many as bounds allow: tokens come again when nobody waits for them any more.
    @Test func tokensAreUsedAgainWhenTheirProbesAreOver() {
        let plan = ProbePlan(
            count: 40_000, interval: ProbePlan.intervalMin, timeout: ProbePlan.timeoutMax)
        #expect(Int(ProbePlan.timeoutMax / ProbePlan.intervalMin) < ProbeRun.tokens.count)
        var sent = 0
        let outcome = Self.run([flow(.ipip)], plan) { packet in
            sent += 1
            return sent.isMultiple(of: 3) ? Self.synAck(packet) : nil
        }
        let result = outcome.run.results[0]
        #expect((result.answered, result.unanswered) == (13_333, 26_667))
    }
}
