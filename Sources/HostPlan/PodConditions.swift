// Conditions of pods that shuck has a device in: `Condition.pods`.

import IP
import Routing
import Settings

extension Condition {
    static let pods = [
        Condition(
            "pod-route",
            """
            A pod with a device of shuck's answers with the service's address as source. A strict \
            `rp_filter` on the pod's link drops such answers, unless a route to the address leads \
            there. The node itself must not have the address, as kube-proxy in IPVS mode gives it: \
            then answers are martians.
            """
        ) { examination in
            judge(examination, "answers of pods with a device pass the filters of their links") { service in
                own(service, examination) ?? unrouted(service, examination)
            }
        },
        Condition(
            "pod-invalid",
            """
            The node does not see the packets that shuck puts straight into a pod, only the pod's \
            answers. Connection tracking calls them `invalid`, and kube-proxy and network policies \
            drop them, unless a rule at priority `raw` says `notrack`.
            """
        ) { examination in
            guard let ruleset = examination.ruleset else { return [] }
            return judge(examination, "no rule drops the answers of pods with a device as invalid") {
                service in
                invalid(service, ruleset, examination)
            }
        },
    ]

    private static func judge(
        _ examination: Examination, _ good: String, _ judge: (Prefix) -> Line?
    ) -> [Line] {
        let services = examination.podServices
        guard !services.isEmpty else { return [.ok("no device of the configuration stands in a pod")] }
        let lines = services.compactMap(judge)
        return lines.isEmpty ? [.ok(good)] : lines
    }

    private static func own(_ service: Prefix, _ examination: Examination) -> Line? {
        guard examination.details.podRoutes.contains(where: { $0.isLocal && $0.covers(service) }) else {
            return nil
        }
        return .problem(
            "\(service.text) is an address of this node, and of a pod with a device",
            effect: "The node drops the pod's answers as martians: use a device in the node's namespace.")
    }

    private static func unrouted(_ service: Prefix, _ examination: Examination) -> Line? {
        let strict = examination.podLinks.filter { name in
            examination.reversePath(name).map { max($0.own, $0.all) == 1 } ?? false
        }
        guard service.isIPv4, let first = strict.first else { return nil }
        let routes = examination.details.podRoutes.filter { !$0.isLocal && $0.covers(service) }
        let longest = routes.max { $0.length < $1.length }
        guard Set(longest?.links ?? []).isDisjoint(with: examination.podLinks) else { return nil }
        let command = "ip route add \(service.text) dev "
        // With several pods only the operator knows whose service it is.
        let isOne = strict.count == 1
        let links = strict.joined(separator: ", ")
        return .problem(
            "rp_filter of \(links) is strict, and \(service.text) is routed elsewhere",
            effect: "The kernel drops the pod's answers." + (isOne ? "" : " Type \(command)LINK of the pod."),
            command: isOne ? command + first : nil)
    }

    private static func invalid(
        _ service: Prefix, _ ruleset: FilterRuleset, _ examination: Examination
    ) -> Line? {
        let source = service.isIPv4 ? "ip saddr" : "ip6 saddr"
        let links = examination.podLinks.filter { link in
            let isSpared = ruleset.chains(at: ["prerouting"], from: link).contains { chain in
                chain.rules.contains { rule in
                    let sources = rule.values(source)?.values ?? []
                    return rule.contains(["notrack"]) && rule.concerns(link)
                        && sources.contains { Prefix($0)?.covers(service) ?? false }
                }
            }
            return !isSpared && dropping(ruleset, link) != nil
        }
        guard let link = links.first, let rule = dropping(ruleset, link) else { return nil }
        let address = service.isHost ? service.address.text : service.text
        let table = "inet shuck_pods"
        return .problem(
            "rule \"\(rule)\" drops answers from \(address) that come in by \(link)",
            effect: "Connection tracking has not seen the connection begin: it gets no answer.",
            command: "nft add table \(table) && nft add chain \(table) answers "
                + "'{ type filter hook prerouting priority raw; }' && nft add rule \(table) answers "
                + "iifname \(link) \(source) \(address) notrack")
    }

    /// The text of a rule that drops invalid packets from a link.
    private static func dropping(_ ruleset: FilterRuleset, _ link: String) -> String? {
        ruleset.chains(at: ["prerouting", "forward"], from: link).flatMap(\.rules).first { rule in
            rule.concerns(link) && rule.refuses("ct state", ["invalid"])
        }?.text
    }
}
