// Why a source is accepted or refused: the rule, the table and the routes that decide, as `status --why`
// prints them.

import HostPlan
import Forwarding
import IP
import Routing

/// The answer of `/why`.
public struct RouteAnswer: Codable, Sendable {
    /// What is asked of the control thread.
    struct Inquiry: Sendable {
        var source: Address
        /// What rules with `from` meet; nil: they meet none.
        var destination: Address?
        /// nil: every configured one.
        var interface: String?
    }

    public struct Verdict: Codable, Sendable {
        public var interface: String
        /// `reversePath.mode` as it is for the interface.
        public var mode: String
        public var isAccepted: Bool
        /// As in docs/counters.md; nil where it is accepted.
        public var reason: String?
    }

    public var source: String
    public var destination: String?
    /// As `ip rule` writes it; nil when no rule came to a route.
    public var rule: String?
    public var table: String?
    public var prefix: String?
    /// Routes to the prefix, the preferred first.
    public var routes: [String]
    public var verdicts: [Verdict]
    /// Rules that ask for what was not given, and so matched nothing.
    public var passedOver: [String]
    /// Seconds since the mirror was the kernel's; 0: it is.
    public var age: Double
}

extension RouteAnswer {
    /// - Returns: nil when the interface is not a configured one.
    init?(_ inquiry: RouteAnswer.Inquiry, _ mirror: RouteMirror, _ world: ForwardingTables, _ links: [Link]) {
        let isIPv4 = inquiry.source.isIPv4
        let nobody = isIPv4 ? Address(ipv4: 0) : Address(high: 0, low: 0)
        var question = ReversePathQuestion(
            source: inquiry.source, destination: inquiry.destination ?? nobody)
        let asked = world.policy.policy.interfaces.enumerated().filter {
            inquiry.interface == nil || inquiry.interface == $0.element.name
        }
        guard let first = asked.first else { return nil }
        question.vrf = world.interfaces[first.offset].vrf
        let found = mirror.explain(question, isIPv4: isIPv4)
        let names = Dictionary(links.map { ($0.index, $0.name) }, uniquingKeysWith: { $1 })
        source = inquiry.source.text
        destination = inquiry.destination?.text
        rule = found.rule?.text
        table = found.table.map(RuleEntry.name)
        prefix = found.prefix?.text
        routes = found.routes.map { $0.text(names) }
        verdicts = asked.map { place, interface in
            let refusal = world.refusal(of: question, interface: place)
            return Verdict(
                interface: interface.name, mode: interface.reversePath.text,
                isAccepted: refusal == .none, reason: refusal == .none ? nil : refusal.name)
        }
        passedOver = mirror.rules.filter {
            $0.isIPv4 == isIPv4 && $0.asksForMore(than: inquiry)
        }.map(\.text)
        age = 0
    }
}

extension RouteEntry {
    /// As `ip route` writes it, without the gateways, which do not count.
    func text(_ names: [Int32: String]) -> String {
        var words = kind == .unicast ? [] : ["\(kind)"]
        words.append(prefix.length == 0 ? "default" : prefix.text)
        if tos != 0 { words.append("tos 0x\(String(tos, radix: 16))") }
        words += interfaces.map { "dev \(names[$0] ?? "\($0)")" }
        if metric != 0 { words.append("metric \(metric)") }
        return words.joined(separator: " ")
    }
}

extension RuleEntry {
    /// Whether it may match a packet of the source that the inquiry does not describe.
    fileprivate func asksForMore(than inquiry: RouteAnswer.Inquiry) -> Bool {
        (inquiry.destination == nil && from.map { $0.length > 0 } ?? false) || tos != 0
            || dscp != nil || protocolNumber != 0 || sourcePorts != nil || destinationPorts != nil
    }
}
