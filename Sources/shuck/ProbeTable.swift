// What the probes of a file of targets found, as a table with the tuples that failed.

import LinuxIO
import Probing
import Settings

extension ProbeTargets.Tuple {
    /// `web tcp 203.0.113.4:80 on node1 192.0.2.2`, as a resume file names it.
    var name: String { "\(service) \(destination) on \(realserver) \(flow.outerDestination.text)" }

    /// `tcp 203.0.113.4:80`
    fileprivate var destination: String {
        let (address, port) = (flow.innerDestination.text, flow.port)
        guard flow.probeProtocol.hasPort else { return "icmp \(address)" }
        return "\(flow.probeProtocol) " + (flow.innerDestination.isIPv4 ? address : "[\(address)]")
            + ":\(port)"
    }
}

struct ProbeTable {
    struct Report: Encodable {
        struct Row: Encodable {
            var service: String
            var realserver: String
            var tries: Int
            /// As the table has it.
            var result: String
            var probe: ProbeReport
        }

        var answered: Int
        /// Skipped, because the resume file names them.
        var answeredBefore: Int
        var failed: Int
        /// Not asked, or not to the end: a signal ended the asking. They have no row.
        var undecided: Int
        /// Names of the tuples that failed.
        var failedTuples: [String]
        var tuples: [Row]
    }

    private let tuples: [ProbeTargets.Tuple]
    private let plan: ProbePlan
    private let answeredBefore: Int
    /// By the place of the tuple.
    var results: [ProbeResult]

    init(_ tuples: [ProbeTargets.Tuple], _ plan: ProbePlan, answeredBefore: Int) {
        self.tuples = tuples
        self.plan = plan
        self.answeredBefore = answeredBefore
        results = tuples.map { ProbeResult(flow: $0.flow) }
    }

    var isAnswered: Bool { answered == results.count }

    private var answered: Int { results.count { $0.standing(plan) == .answered } }
    private var undecided: Int { results.count { $0.standing(plan) == .undecided } }

    /// What has a row.
    private var decided: [(ProbeTargets.Tuple, ProbeResult)] {
        zip(tuples, results).filter { $1.standing(plan) != .undecided }
    }

    private var failed: [ProbeTargets.Tuple] {
        decided.filter { $1.standing(plan) == .failed }.map(\.0)
    }

    var report: Report {
        Report(
            answered: answered, answeredBefore: answeredBefore,
            failed: failed.count, undecided: undecided, failedTuples: failed.map(\.name),
            tuples: decided.map { tuple, result in
                Report.Row(
                    service: tuple.service, realserver: tuple.realserver, tries: result.tries,
                    result: Self.outcome(result),
                    probe: ProbeReport(
                        result, linkMTU: Host.pathMTU(to: tuple.flow.outerDestination.bytes), pathMTU: nil))
            })
    }

    func text(_ painter: Painter) -> String {
        let titles = [
            "SERVICE", "DESTINATION", "REALSERVER", "OUTER", "MODE", "RESULT", ">TRIES", ">MS", ">MSS",
        ]
        let rows = decided.map { tuple, result -> [Table.Cell] in
            let time = ProbeReport.RoundTrip(result.roundTrips).map { "\($0.p50)" } ?? ""
            return [
                .init(tuple.service, .plain), .init(tuple.destination, .plain),
                .init(tuple.realserver, .plain), .init(tuple.flow.outerDestination.text, .plain),
                .init(tuple.flow.mode.name, .plain),
                .init(Self.outcome(result), result.isAnswered ? .good : .bad),
                .init("\(result.tries)", .plain),
                .init(time, .plain), .init(result.mss.map { "\($0)" } ?? "", .plain),
            ]
        }
        var lines = rows.isEmpty ? [] : Table(titles: titles, rows: rows).lines(painter) + [""]
        let before = answeredBefore > 0 ? ", \(answeredBefore) more answered before" : ""
        let open = undecided > 0 ? "; interrupted: \(undecided) not asked to the end" : ""
        lines.append("\(answered) of \(results.count) answered\(before)\(open)")
        lines += failed.map { "failed: \($0.name)" }
        return lines.joined(separator: "\n")
    }

    private static func outcome(_ result: ProbeResult) -> String {
        if result.isAnswered { return "answered" }
        if let error = result.sendError { return "not sent: \(systemMessage(error))" }
        if let error = result.errors.first { return ProbeReport.Message(error).text }
        if result.refused > 0 { return "refused" }
        return result.answered > 0 ? "\(result.answered) of \(result.sent)" : "no answer"
    }
}
