// ProbeRun, which decides when which probe is sent and what becomes of it. Its driver has clock and sockets.

import IP

/// Sends probes of many flows at a steady rate, and repeats those of a flow that were not all answered.
/// Times are nanoseconds of one clock.
public struct ProbeRun: Sendable {
    public enum Step: Sendable {
        case send(ProbePacket)
        /// Read answers until then.
        case wait(until: UInt64)
        case done
    }

    /// Source ports that IANA registers for nobody (RFC 6335 §6). A token is used again after
    /// `ProbePlan.timeoutMax`, when no probe of it is open.
    static let tokens: ClosedRange<UInt16> = 49_152...65_535

    private struct Sent {
        var packet: ProbePacket
        var flow: Int
        var time: UInt64
        var isOpen = true
    }

    public private(set) var results: [ProbeResult]
    /// Indices of the results that no further probe changes, in the order of their ends.
    public private(set) var finished: [Int] = []
    private let plan: ProbePlan
    /// Numbers that others cannot foresee.
    private let secret: @Sendable () -> UInt32
    /// Flows whose turn it is, one entry per probe.
    private var queue: [Int] = []
    private var queueStart = 0
    private var nextSend: UInt64 = 0
    /// In the order of their sending, which is that of their time-outs.
    private var open: [UInt16] = []
    private var openStart = 0
    private var sent: [UInt16: Sent] = [:]
    private var nextToken: UInt16

    /// - Parameter secret: gives another random number each time.
    public init(_ flows: [ProbeFlow], _ plan: ProbePlan, secret: @escaping @Sendable () -> UInt32) {
        self.plan = plan
        self.secret = secret
        results = flows.map(ProbeResult.init)
        nextToken = Self.tokens.lowerBound
        nextToken += UInt16(truncatingIfNeeded: secret() % UInt32(Self.tokens.count))
        for _ in 0..<plan.count { queue += flows.indices }
    }

    public mutating func step(at now: UInt64) -> Step {
        expire(at: now)
        if queueStart < queue.count {
            if now >= nextSend { return .send(next(at: now)) }
            return .wait(until: min(nextSend, deadline ?? nextSend))
        }
        if let deadline { return .wait(until: deadline) }
        return .done
    }

    /// When the oldest open probe is given up.
    private var deadline: UInt64? {
        guard openStart < open.count, let oldest = sent[open[openStart]] else { return nil }
        return oldest.time + plan.timeout
    }

    private mutating func next(at now: UInt64) -> ProbePacket {
        let flow = queue[queueStart]
        queueStart += 1
        nextSend = now + plan.interval
        let token = nextToken
        nextToken = token == Self.tokens.upperBound ? Self.tokens.lowerBound : token + 1
        let packet = ProbePacket(
            flow: results[flow].flow, token: token, secret: secret(), length: plan.length ?? 0)
        sent[token] = Sent(packet: packet, flow: flow, time: now)
        open.append(token)
        results[flow].begin(plan)
        return packet
    }

    private mutating func expire(at now: UInt64) {
        while let deadline, now >= deadline { close(open[openStart]) { $0.unanswered += 1 } }
    }

    /// Ends an open probe, and begins the flow's next try when that was its last.
    private mutating func close(_ token: UInt16, _ note: (inout ProbeResult) -> Void) {
        guard let flow = sent[token]?.flow, sent[token]?.isOpen == true else { return }
        sent[token]?.isOpen = false
        while openStart < open.count, sent[open[openStart]]?.isOpen == false { openStart += 1 }
        note(&results[flow])
        guard results[flow].isOver(plan) else { return }
        if results[flow].answered < plan.count, results[flow].tries <= plan.retries {
            queue += [Int](repeating: flow, count: plan.count)
        } else {
            finished.append(flow)
        }
    }

    /// A probe that this host could not send.
    public mutating func refuse(_ packet: ProbePacket, errno: Int32) {
        close(packet.token) { result in
            result.unanswered += 1
            result.sendError = errno
        }
    }

    /// Takes what came in. The first answer of a probe counts; a SYN-ACK that comes late or again is closed
    /// all the same.
    /// - Returns: the RST to send, and the flow that it belongs to.
    public mutating func receive(_ answer: ProbeAnswer, at now: UInt64) -> [UInt8]? {
        guard let probe = sent[answer.token], probe.packet.isAnswered(by: answer) else { return nil }
        let time = now - min(probe.time, now)
        switch answer.kind {
        case .synAck(let acknowledged, let mss):
            close(answer.token) { $0.answer(after: time, mss: mss) }
            return probe.packet.reset(acknowledged: acknowledged)
        case .datagram, .echoReply: close(answer.token) { $0.answer(after: time, mss: nil) }
        case .reset: close(answer.token) { $0.refused += 1 }
        case .error(let report):
            let isRefused =
                report.isPortUnreachable && !report.isAboutOuter && probe.packet.flow.probeProtocol == .udp
            close(answer.token) { result in
                if isRefused {
                    result.refused += 1
                } else {
                    result.unanswered += 1
                    if !result.errors.contains(report) { result.errors.append(report) }
                }
            }
        }
        return nil
    }

    /// The outer destination of what `receive` returned.
    public func target(of answer: ProbeAnswer) -> Address? {
        sent[answer.token]?.packet.flow.outerDestination
    }
}
