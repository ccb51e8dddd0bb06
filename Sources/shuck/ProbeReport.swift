// What one flow's probes found, for people and for scripts.

import Foundation
import Probing
import Settings

struct ProbeReport: Encodable {
    /// Milliseconds.
    struct RoundTrip: Encodable {
        var min: Double
        var p50: Double
        var p90: Double
        var p99: Double
        var max: Double
    }

    struct SegmentSize: Encodable {
        var answered: Int
        /// What the link to the node leaves of its MTU; absent without a route.
        var fits: Int?
    }

    struct Message: Encodable {
        /// Bytes of the inner packet that it is about; absent of the first probes.
        var size: Int?
        var from: String
        var what: String
        var mtu: Int?
        var aboutOuter: Bool

        init(_ report: ICMPReport, size: Int? = nil) {
            self.size = size
            from = report.sender.text
            what = report.what
            mtu = report.mtu
            aboutOuter = report.isAboutOuter
        }

        /// `fragmentation needed, MTU 1460, from 192.0.2.2`
        var text: String {
            "\(what)\(mtu.map { ", MTU \($0)" } ?? ""), from \(from)"
                + (aboutOuter ? ", about the outer packet" : "")
        }
    }

    let mode: String
    let `protocol`: ProbeProtocol
    let outerSource: String
    let outerDestination: String
    let innerSource: String
    let innerDestination: String
    /// Absent with ICMP.
    let port: UInt16?
    let sent: Int
    let answered: Int
    let refused: Int
    let lossPercent: Double
    let roundTripMilliseconds: RoundTrip?
    let mss: SegmentSize?
    /// Answers whose MSS option is 0 or cannot be read.
    let brokenMSS: Int
    let linkMTU: Int?
    /// Bytes of the largest inner packet that passed; absent unless asked for.
    let pathMTU: Int?
    let icmpErrors: [Message]
    /// Sizes that were lost without an ICMP error.
    let lostSizes: [Int]
    /// Why this host could not send.
    let sendError: String?
    /// Probes that were to be sent, when a signal ended the asking. A path MTU is then a lower bound.
    let interruptedOf: Int?

    /// - Parameter interruptedPlan: what was to be sent, when a signal ended it.
    init(_ result: ProbeResult, linkMTU: Int?, pathMTU: PathMTU?, interruptedPlan: ProbePlan? = nil) {
        interruptedOf = interruptedPlan?.count
        let flow = result.flow
        mode = flow.mode.name
        `protocol` = flow.probeProtocol
        outerSource = flow.outerSource.text
        outerDestination = flow.outerDestination.text
        innerSource = flow.innerSource.text
        innerDestination = flow.innerDestination.text
        port = flow.probeProtocol.hasPort ? flow.port : nil
        sent = result.sent
        answered = result.answered
        refused = result.refused
        lossPercent =
            (1000 * Double(result.sent - result.answered) / Double(max(result.sent, 1))).rounded() / 10
        roundTripMilliseconds = RoundTrip(result.roundTrips)
        mss = result.mss.map { SegmentSize(answered: $0, fits: linkMTU.map(flow.fittingMSS)) }
        brokenMSS = result.brokenMSS
        self.linkMTU = linkMTU
        self.pathMTU = pathMTU?.innerBytes
        let refusals = pathMTU?.refusals ?? []
        icmpErrors =
            result.errors.map { Message($0) }
            + refusals.compactMap { refusal in refusal.report.map { Message($0, size: refusal.size) } }
        lostSizes = refusals.filter { $0.report == nil }.map(\.size)
        sendError = result.sendError.map { systemMessage($0) }
    }
}

extension ProbeReport.RoundTrip {
    /// nil without an answer.
    init?(_ times: RoundTrips) {
        func milliseconds(_ percent: Int) -> Double? {
            // Thousandths: what a host's timer can tell.
            times.percentile(percent).map { (Double($0) / 1000).rounded() / 1000 }
        }
        guard let min = milliseconds(0), let p50 = milliseconds(50), let p90 = milliseconds(90),
            let p99 = milliseconds(99), let max = milliseconds(100)
        else { return nil }
        self.init(min: min, p50: p50, p90: p90, p99: p99, max: max)
    }
}

// MARK: - Text

extension ProbeReport {
    func text(timeout: Double) -> String {
        let service = port.map { "\(`protocol`) port \($0)" } ?? "\(`protocol`)"
        var rows = [
            (
                "\(mode)",
                "\(outerSource) > \(outerDestination), inside \(innerSource) > \(innerDestination), "
                    + service
            ), ("answered", "\(answered) of \(sent), \(Self.short(lossPercent)) % lost"),
        ]
        if let interruptedOf { rows.append(("interrupted", "\(sent) of \(interruptedOf) probes were sent")) }
        if refused > 0 { rows.append(("refused", "\(refused): nobody listens at the port")) }
        if let sendError { rows.append(("not sent", sendError)) }
        if let times = roundTripMilliseconds {
            rows.append(
                (
                    "round trip",
                    "min \(times.min), p50 \(times.p50), p90 \(times.p90), p99 \(times.p99), "
                        + "max \(times.max) ms"
                ))
        }
        if let mss { rows.append(("MSS", text(mss))) }
        if brokenMSS > 0 { rows.append(("broken MSS", "0 or not readable in \(brokenMSS) answers")) }
        for error in icmpErrors where error.size == nil { rows.append(("ICMP error", error.text)) }
        if let pathMTU {
            let bound = interruptedOf == nil ? "" : "at least "
            rows.append(("path MTU", "\(bound)\(pathMTU) bytes of inner packet"))
            for error in icmpErrors {
                if let size = error.size { rows.append(("", "\(size) bytes: \(error.text)")) }
            }
            for size in lostSizes { rows.append(("", "\(size) bytes: no answer and no ICMP error")) }
        }
        return rows.map { $0.0.padding(toLength: 12, withPad: " ", startingAt: 0) + $0.1 }
            .joined(separator: "\n")
    }

    private func text(_ mss: SegmentSize) -> String {
        guard let fits = mss.fits, let linkMTU else { return "\(mss.answered) answered" }
        return "\(mss.answered) answered, \(fits) fits the link of \(linkMTU) bytes"
    }

    private static func short(_ number: Double) -> String {
        number == number.rounded() ? "\(Int(number))" : "\(number)"
    }
}
