// What is bounded for all tunnels together: `Limits` has the bounds of single lists as well.

import Forwarding
import Routing

extension Loader {
    /// What is bounded for all tunnels together.
    /// - Returns: whether nothing exceeds its bound.
    func checkCounts(_ tunnels: [TunnelDraft], _ configuration: Configuration) -> Bool {
        guard checkPrefixes(tunnels, configuration) else { return false }
        var destinations = 0
        var nested = 0
        for draft in tunnels {
            let rules = draft.tunnel.destinations
            destinations += rules.count
            nested += coveringCount(rules.map(\.prefix))
            let place = draft.section["destinations"]?.position ?? draft.position
            let path = "tunnels.\(draft.tunnel.name).destinations"
            if destinations > Limits.destinations {
                return refuse(Limits.destination, destinations, at: place, path)
            }
            if nested > Limits.nestedPrefixes {
                return refuse(Limits.nestedPrefix, nested, at: place, path)
            }
        }
        let locals = coveringCount(tunnels.flatMap { Set($0.tunnel.local) })
        guard locals > Limits.nestedPrefixes, let last = tunnels.last else { return true }
        return refuse(
            Limits.nestedPrefix, locals, at: last.local.first?.field.position ?? last.position,
            "tunnels.\(last.tunnel.name).local")
    }

    /// Reported where most of them stand.
    private func checkPrefixes(_ tunnels: [TunnelDraft], _ configuration: Configuration) -> Bool {
        let lists =
            [
                ("inner.deny", configuration.inner.deny.count),
                ("reversePath.exempt", configuration.reversePath.exempt.count),
            ]
            + tunnels.flatMap { draft in
                let path = "tunnels.\(draft.tunnel.name)"
                return [("\(path).local", draft.local.count), ("\(path).remotes", draft.remotes.count)]
            }
        let count = lists.reduce(0) { $0 + $1.1 }
        guard count > Limits.prefixes, let (path, _) = lists.max(by: { $0.1 < $1.1 }),
            let position = positions[path]
        else { return true }
        return refuse(Limits.prefix, count, at: position, path)
    }

    /// - Returns: false.
    private func refuse(
        _ limit: Limit, _ count: Int, at position: Position, _ path: String
    ) -> Bool {
        report.error(position, "\(path): \(limit.refusal(of: count))")
        return false
    }
}
