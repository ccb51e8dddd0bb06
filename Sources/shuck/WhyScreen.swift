// The answer of `shuck status --why` for people.

import Daemon

struct WhyScreen {
    private let answer: RouteAnswer

    init(_ answer: RouteAnswer) { self.answer = answer }

    var text: String {
        var lines = ["source       \(answer.source)" + (answer.destination.map { " to \($0)" } ?? "")]
        lines.append("rule         \(answer.rule ?? "none leads to a route")")
        if let table = answer.table { lines.append("table        \(table)") }
        for (index, route) in answer.routes.enumerated() {
            lines.append((index == 0 ? "route        " : "also         ") + route)
        }
        for verdict in answer.verdicts {
            let word = verdict.isAccepted ? "accepted" : "dropped, \(verdict.reason ?? "")"
            lines.append("\(verdict.interface), \(verdict.mode): \(word)")
        }
        for rule in answer.passedOver {
            lines.append("! may match other packets of this source: \(rule)")
        }
        if answer.age > 0 { lines.append("! resyncing routes for \(Int(answer.age)) s") }
        return lines.joined(separator: "\n") + "\n"
    }
}
