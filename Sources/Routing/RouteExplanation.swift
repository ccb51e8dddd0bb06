// Why an address has the answer it has: rule, table and routes, found by walking the rules themselves.
// Slow, and independent of the compiled steps: tests hold the two together.

import IP

/// The kernel's answer to a reverse-path question, and what led to it.
public struct RouteExplanation: Equatable, Sendable {
    /// The rule that ended the walk; nil when none did.
    public var rule: RuleEntry?
    /// nil where the rule itself refuses.
    public var table: UInt32?
    public var prefix: Prefix?
    /// Of the prefix, the preferred first.
    public var routes: [RouteEntry] = []
    public var kind = RouteKind.none

    /// Interfaces of the preferred route.
    public var best: [Int32] { routes.first?.interfaces ?? [] }
    /// Interfaces of every unicast route of the prefix, and of the preferred.
    public var all: [Int32] {
        best + routes.filter { $0.kind == .unicast }.flatMap(\.interfaces)
    }
}

extension RouteMirror {
    public func explain(_ question: ReversePathQuestion, isIPv4: Bool) -> RouteExplanation {
        let rules = rules.walked(isIPv4: isIPv4)
        let dissects = rules.dissects
        var index = 0
        while index < rules.count {
            let rule = rules[index]
            index += 1
            guard rule.holds(question, dissects: dissects) != rule.isInverted else { continue }
            switch rule.action {
            case .nop: break
            case .goto(let priority):
                if let target = rules.firstIndex(where: { $0.priority == priority }),
                    target >= index
                {
                    index = target
                }
            case .refuse(let kind): return RouteExplanation(rule: rule, kind: kind)
            case .lookup(let number):
                let id = TableID(isIPv4: isIPv4, asked: rule.isL3mdev ? question.vrf : number)
                guard let found = match(question, id), let best = found.routes.first,
                    best.kind != .throw, !isSuppressed(best, rule)
                else { continue }
                return RouteExplanation(
                    rule: rule, table: id.table, prefix: found.prefix, routes: found.routes,
                    kind: best.kind)
            }
        }
        return RouteExplanation()
    }

    private func match(
        _ question: ReversePathQuestion, _ id: TableID
    ) -> (prefix: Prefix, routes: [RouteEntry])? {
        for length in stores[id]?.lengths ?? [] {
            let prefix =
                id.isIPv4
                ? Prefix(Address(ipv4: question.source.ipv4), length: length)!
                : Prefix(ipv6: question.source, length: length)
            let routes = routes(prefix, id, tos: question.tos & 0x1c)
            if !routes.isEmpty { return (prefix, routes) }
        }
        return nil
    }

    private func isSuppressed(_ route: RouteEntry, _ rule: RuleEntry) -> Bool {
        switch route.kind {
        case .blackhole, .unreachable, .prohibit: return false
        default: break
        }
        if route.prefix.length <= rule.suppressPrefixLength { return true }
        guard let group = rule.suppressGroup else { return false }
        return self.group(of: route.interfaces.first) == group
    }
}

extension RuleEntry {
    /// All selectors; see `RuleCompiler` for what they mean to this question.
    fileprivate func holds(_ question: ReversePathQuestion, dissects: Bool) -> Bool {
        let seen = !isIPv4 || dissects
        let port = isIPv4 && dissects
        if let inputInterface, inputInterface != "lo" { return false }
        if outputInterface != nil || mark & markMask != 0 || tunnelID != 0 { return false }
        if isL3mdev && question.vrf == 0 { return false }
        if let users, !users.contains(0) { return false }
        if let to, to.length > 0, !to.contains(question.source) { return false }
        if let from, from.length > 0, !from.contains(question.destination) { return false }
        if let dscp {
            if (question.tos >> 2 ^ dscp) & dscpMask != 0 { return false }
        } else if tos != 0, question.tos & (isIPv4 ? 0x1c : 0xfc) != tos {
            return false
        }
        if protocolNumber != 0 && (seen ? question.protocolNumber : 0) != protocolNumber {
            return false
        }
        if let sourcePorts, !sourcePorts.contains(port ? question.destinationPort : 0) {
            return false
        }
        if let destinationPorts, !destinationPorts.contains(port ? question.sourcePort : 0) {
            return false
        }
        return true
    }
}
