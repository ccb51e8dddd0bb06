// Conditions of the interfaces that frames arrive on: `Condition.interfaces`.

import Routing
import Settings

extension Condition {
    static let interfaces = [
        Condition(
            "interfaces",
            """
            Frames arrive on the interfaces of the configuration. Each must exist, be up and have a \
            carrier. Of two that see the same frames, such as a bond and its port, only one may be \
            listed.
            """
        ) { examination in
            let configuration = examination.configuration
            let doubles = configuration.doubleInterfaces(examination.facts.links).map {
                Line.problem($0.text, effect: "shuck does not start.")
            }
            let lines = doubles + configuration.interfaces.flatMap { state($0, examination) }
            guard lines.isEmpty else { return lines }
            return [.ok("\(configuration.interfaces.joined(separator: ", ")): up, with carrier")]
        }
    ]

    private static func state(_ name: String, _ examination: Examination) -> [Line] {
        guard let link = examination.facts.link(name) else {
            // Another name of a link has its own line.
            if examination.facts.links.contains(where: { $0.otherNames.contains(name) }) { return [] }
            return [
                .problem(
                    "there is no interface \(name)",
                    effect: "shuck waits for it, and receives nothing from it until then.")
            ]
        }
        guard link.isUp else {
            return [
                .problem(
                    "\(name) is down", effect: "shuck receives nothing from it.",
                    command: "ip link set dev \(name) up")
            ]
        }
        // IFF_LOWER_UP
        guard link.state.flags & 1 << 16 != 0 else {
            return [
                .problem(
                    "\(name) has no carrier", effect: "No frame arrives: look at the cable or the switch.")
            ]
        }
        return []
    }
}
