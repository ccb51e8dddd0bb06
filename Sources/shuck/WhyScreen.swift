// The answer of `shuck status --why` as text.

import Daemon

extension RouteAnswer {
    var screen: String {
        var lines = ["source       \(source)" + (destination.map { " to \($0)" } ?? "")]
        lines.append("rule         \(rule ?? "none leads to a route")")
        if let table { lines.append("table        \(table)") }
        for (index, route) in routes.enumerated() {
            lines.append((index == 0 ? "route        " : "also         ") + route)
        }
        for verdict in verdicts {
            let word = verdict.isAccepted ? "accepted" : "dropped, \(verdict.reason ?? "")"
            lines.append("\(verdict.interface), \(verdict.mode): \(word)")
        }
        lines += passedOver.map { "! may match other packets of this source: \($0)" }
        if age > 0 { lines.append("! resyncing routes for \(Int(age)) s") }
        return lines.joined(separator: "\n") + "\n"
    }
}
