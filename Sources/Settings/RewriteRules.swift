// Reading `inner.rewriteSources`: each rule by itself, then against the others and the tunnels.

import Forwarding
import Routing

/// A rule, and where its parts stand.
private struct RewriteDraft {
    var rule: Configuration.RewriteSource
    var field: Field
    var to: Field
}

extension Loader {
    func loadRewriteSources(_ field: Field) -> [RewriteSource] {
        let example = "[{from: \"fe80::1/128\", to: \"2001:db8::1\", interface: eth0}]"
        let items = reader.items(field, example: example) ?? []
        let drafts = reader.bounded(items, by: Limits.rewrite).compactMap(rewriteSource)
        for (index, draft) in drafts.enumerated() {
            checkEqual(draft, earlier: drafts[..<index])
            checkTunnels(draft)
        }
        if let first = drafts.first, configuration.devices.allSatisfy({ $0.netns != nil }) {
            reader.error(
                first.field,
                "answers come back through a device in the host's own namespace; "
                    + "write a device without netns")
        }
        return drafts.map(\.rule)
    }

    private func rewriteSource(_ field: Field) -> RewriteDraft? {
        guard let section = reader.section(field, keys: ["from", "to", "interface"]) else {
            return nil
        }
        let from = reader.required("from", of: section, example: "\"fe80::1/128\"", as: from)
        let to = reader.required("to", of: section, example: "\"2001:db8::1\"", as: to)
        let name = reader.required("interface", of: section, example: "eth0") { field in
            reader.interfaceName(field).map { name -> String in
                checkInterface(name, path: field.path, at: field.position)
                return name
            }
        }
        guard let from, let to, let name, let place = section["to"] else { return nil }
        return RewriteDraft(
            rule: RewriteSource(from: from, to: to, interface: name), field: field, to: place)
    }

    /// One address: only one for one can be undone without state.
    private func oneAddress(_ field: Field) -> Address? {
        guard let prefix = reader.prefix(field) else { return nil }
        if prefix.isIPv4 {
            return reader.wrong(field, "is IPv4; only IPv6 sources are rewritten, so write IPv6")
        }
        guard prefix.isHost else {
            return reader.wrong(
                field, "is more than one address; write one, as \(prefix.address.text)/128")
        }
        return prefix.address
    }

    private func from(_ field: Field) -> Prefix? {
        guard let address = oneAddress(field) else { return nil }
        let host = Prefix(host: address)
        guard host.isUnicast || host.isLinkLocal else {
            return reader.wrong(field, "is nobody's source; write the address that probes come from")
        }
        return host
    }

    private func to(_ field: Field) -> Address? {
        guard let address = oneAddress(field) else { return nil }
        let host = Prefix(host: address)
        if host.isLinkLocal {
            return reader.wrong(field, "is link-local, which no router forwards; write a global one")
        }
        guard host.isUnicast else {
            return reader.wrong(field, "is no unicast address; write a global one")
        }
        return address
    }

    private func checkEqual(_ draft: RewriteDraft, earlier: ArraySlice<RewriteDraft>) {
        let (rule, place) = (draft.rule, reader.report.place)
        if let other = earlier.first(where: { $0.rule.to == rule.to }) {
            reader.error(
                draft.to,
                "\(rule.to.text) is also that of the rule at \(place(other.field.position)), so "
                    + "answers could not be told apart; write another")
        }
        let same = earlier.first {
            $0.rule.from == rule.from && $0.rule.interface == rule.interface
        }
        if let same {
            reader.error(
                draft.field,
                "never matches, since the rule at \(place(same.field.position)) has the same from "
                    + "and interface; remove one")
        }
    }

    /// Answers to `to` are ours to rewrite, so nobody else may have it.
    private func checkTunnels(_ draft: RewriteDraft) {
        let to = draft.rule.to
        for tunnel in configuration.tunnels {
            let isLocal = tunnel.local.contains { $0.length > 0 && $0.contains(to) }
            let isPod = tunnel.destinations.contains { $0.prefix.isHost && $0.prefix.contains(to) }
            if isLocal || isPod {
                reader.error(
                    draft.to,
                    "\(to.text) is in tunnels.\(tunnel.name).\(isLocal ? "local" : "destinations"); "
                        + "write an address that nothing else has")
                return
            }
        }
        let name = draft.rule.interface
        let isCovered = configuration.tunnels.contains {
            $0.interfaces.isEmpty || $0.interfaces.contains(name)
        }
        if knowsInterfaces, configuration.interfaces.contains(name), !isCovered {
            reader.warning(
                draft.field,
                "no tunnel has \(name) among its interfaces, so nothing is rewritten; "
                    + "name another one")
        }
    }
}

extension Prefix {
    fileprivate var isLinkLocal: Bool { Prefix.linkLocal.covers(self) }

    /// IPv6 that may be somebody's address beyond a link.
    fileprivate var isUnicast: Bool {
        !isLinkLocal && !Prefix.reserved.contains { $0.covers(self) }
    }

    private static let linkLocal = Prefix(Address(high: 0xfe80 << 48, low: 0), length: 10)!
    /// ::/96 with :: and ::1, multicast, site-local.
    private static let reserved = [
        Prefix(Address(high: 0, low: 0), length: 96)!,
        Prefix(Address(high: 0xff00 << 48, low: 0), length: 8)!,
        Prefix(Address(high: 0xfec0 << 48, low: 0), length: 10)!,
    ]
}
