// Conditions of policy rules: `Condition.rules`.

import IP
import Routing
import Settings

extension Condition {
    static let rules = [
        Condition(
            "rules",
            """
            Policy rules decide which table routes a packet. What shuck injects comes in by shuck's \
            device, has mark 0, and is not of this host. Rules with `iif` of the interface no longer \
            hold for it, and rules that refuse may.
            """
        ) { examination in
            guard let rules = examination.details.rules else { return [] }
            let lines = examination.hostDevices.flatMap { device in
                rules.compactMap { decides($0, rules, device.name, examination.configuration) }
            }
            return lines.isEmpty ? [.ok(count(rules))] : lines
        },
        Condition(
            "rule-cost",
            """
            The reverse-path check walks the same rules as the kernel, once for each pair of \
            addresses, and caches the answer. Where rules ask for ports, a protocol or the type of \
            service, an answer holds for one packet, so each packet walks them.
            """
        ) { examination in
            guard let rules = examination.details.rules else { return [] }
            let lines = [true, false].compactMap { cost($0, rules) }
            return lines.isEmpty ? [.ok("workers cache the reverse path per pair of addresses")] : lines
        },
    ]

    private static func count(_ rules: [RuleEntry]) -> String {
        let (four, six) = (rules.count { $0.isIPv4 }, rules.count { !$0.isIPv4 })
        return "\(four) rules of IPv4 and \(six) of IPv6: none refuses, or holds only on an interface"
    }

    private static func decides(
        _ rule: RuleEntry, _ rules: [RuleEntry], _ device: String, _ configuration: Configuration
    ) -> Line? {
        if case .refuse = rule.action, rule.inputInterface == nil || rule.inputInterface == device,
            rule.outputInterface == nil, !(rule.markMask != 0 && rule.mark != 0), !rule.isInverted
        {
            let command = rule.addition.replacing("rule add", with: "rule delete")
            if let service = refused(by: rule, rules, device, configuration) {
                return .problem(
                    "rule \"\(rule.text)\" refuses all packets to \(service.text)",
                    effect: "shuck injects them, and none reaches a pod.", command: command)
            }
            return .warning(
                "rule \"\(rule.text)\" refuses packets that shuck injects",
                effect: "Packets that match it reach no pod.", command: command)
        }
        guard let interface = rule.inputInterface, configuration.interfaces.contains(interface) else {
            return nil
        }
        var twin = rule
        twin.inputInterface = device
        guard !rules.contains(twin) else { return nil }
        return .warning(
            "rule \"\(rule.text)\" holds for \(interface), not for \(device)",
            effect: """
                Injected packets come in by \(device), so this rule does not route them. If it is meant for \
                encapsulated traffic, they go another way, or nowhere.
                """, command: twin.addition)
    }

    /// A destination of the device that a rule refuses from every client.
    /// - Returns: nil also where an earlier rule may route the packets, or this one asks for more.
    private static func refused(
        by rule: RuleEntry, _ rules: [RuleEntry], _ device: String, _ configuration: Configuration
    ) -> Prefix? {
        var plain = RuleEntry(isIPv4: rule.isIPv4, priority: rule.priority, action: rule.action)
        (plain.to, plain.inputInterface) = (rule.to, rule.inputInterface)
        let earlier = rules.filter { $0.isIPv4 == rule.isIPv4 && $0.priority < rule.priority }
        // A destination is no address of this host, so the table `local` does not route it.
        guard rule == plain, earlier.allSatisfy({ $0.action == .lookup(RouteEntry.tableLocal) }) else {
            return nil
        }
        let served = configuration.tunnels.flatMap(\.destinations).filter {
            ($0.device ?? configuration.devices[0].name) == device && $0.prefix.isIPv4 == rule.isIPv4
        }
        return served.map(\.prefix).first { prefix in rule.to.map { $0.covers(prefix) } ?? true }
    }

    private static func cost(_ isIPv4: Bool, _ rules: [RuleEntry]) -> Line? {
        let cost = RuleCost(rules, isIPv4: isIPv4)
        guard !cost.isCached else { return nil }
        let dear = rules.first { rule in
            rule.isIPv4 == isIPv4
                && (rule.protocolNumber != 0 || rule.sourcePorts != nil || rule.destinationPorts != nil
                    || rule.tos != 0 || rule.dscp != nil)
        }
        return .warning(
            "rules of \(isIPv4 ? "IPv4" : "IPv6") ask for more than addresses: "
                + (dear.map { "\"\($0.text)\"" } ?? "a table with routes per type of service"),
            effect: "The reverse-path check walks \(cost.steps) rules for each packet, not once per flow.",
            command: dear.map { $0.addition.replacing("rule add", with: "rule delete") })
    }
}
