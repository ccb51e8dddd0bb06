// What no key shows by itself: the parts of a tunnel together, tunnels against each other, and how much all
// of them hold. TunnelDraft is a tunnel with the places of its parts.

import Forwarding
import IP
import Routing

struct TunnelDraft {
    /// A prefix, and where it stands.
    struct Placed {
        let prefix: Prefix
        let field: Field
    }

    let tunnel: Configuration.Tunnel
    let section: Section
    let local: [Placed]
    let remotes: [Placed]
    // In the order of the lists.
    fileprivate let localIndex: PrefixIndex
    /// Of `local`, single addresses.
    fileprivate let hostIndex: PrefixIndex
    fileprivate let remoteIndex: PrefixIndex

    var position: Position { section.position }
    fileprivate var path: String { "tunnels.\(tunnel.name)" }

    init(_ tunnel: Configuration.Tunnel, _ section: Section) {
        (self.tunnel, self.section) = (tunnel, section)
        (local, remotes) = (section.prefixes("local"), section.prefixes("remotes"))
        localIndex = PrefixIndex(local.map(\.prefix))
        hostIndex = PrefixIndex(local.map(\.prefix), where: \.isHost)
        remoteIndex = PrefixIndex(tunnel.remotes)
    }
}

extension Section {
    /// The prefixes of a list that has been read.
    fileprivate func prefixes(_ key: String) -> [TunnelDraft.Placed] {
        (self[key]?.items(example: "") ?? []).compactMap { item in
            item.text.flatMap { Prefix($0) }.map { .init(prefix: $0, field: item) }
        }
    }
}

extension Loader {
    func checkTogether(_ tunnels: [TunnelDraft], _ configuration: Configuration) {
        // Beyond the bounds the rest would take too long.
        guard checkCounts(tunnels, configuration) else { return }
        for (index, tunnel) in tunnels.enumerated() {
            checkParts(of: tunnel, configuration)
            for (other, earlier) in tunnels.enumerated() where other != index {
                checkOwnAddress(tunnel, against: earlier, earlier.hostIndex)
                // Equal names are a problem of their own.
                guard other < index, earlier.tunnel.name != tunnel.tunnel.name else { continue }
                checkOverlap(tunnel, earlier: earlier)
            }
        }
    }

    // MARK: Bounds for all tunnels together

    /// - Returns: whether nothing exceeds its bound.
    func checkCounts(_ tunnels: [TunnelDraft], _ configuration: Configuration) -> Bool {
        let lists =
            [
                ("inner.deny", configuration.inner.deny.count),
                ("reversePath.exempt", configuration.reversePath.exempt.count),
            ]
            + tunnels.flatMap {
                [("\($0.path).local", $0.local.count), ("\($0.path).remotes", $0.remotes.count)]
            }
        // Reported where most of them stand.
        let longest = lists.max { $0.1 < $1.1 }!.0
        guard isWithin(Limits.prefixes, lists.reduce(0) { $0 + $1.1 }, longest) else { return false }
        var (destinations, nested) = (0, 0)
        for draft in tunnels {
            let (path, prefixes) = ("\(draft.path).destinations", draft.tunnel.destinations.map(\.prefix))
            destinations += prefixes.count
            nested += coveringCount(prefixes)
            guard isWithin(Limits.destinations, destinations, path),
                isWithin(Limits.nestedPrefixes, nested, path)
            else { return false }
        }
        let locals = coveringCount(tunnels.flatMap { Set($0.tunnel.local) })
        return isWithin(Limits.nestedPrefixes, locals, "\(tunnels.last?.path ?? "tunnels").local")
    }

    private func isWithin(_ limit: Limit, _ count: Int, _ path: String) -> Bool {
        if count <= limit.value { return true }
        let position = positions[path] ?? Position(file: 0, line: 1, column: 1)
        report.error(position, "\(path): \(limit.refusal(of: count))")
        return false
    }

    // MARK: One tunnel

    private func checkParts(of draft: TunnelDraft, _ configuration: Configuration) {
        checkOwnAddress(draft, against: draft, draft.localIndex)
        checkClaim(draft, configuration)
        for remote in draft.remotes where remote.prefix.length == 0 {
            remote.field.warning(
                "\(remote.prefix.text) lets anyone encapsulate; write the balancers' prefixes")
        }
        warnOfNeighbours(draft)
        guard !draft.local.isEmpty, !draft.remotes.isEmpty else { return }
        warnOfOneFamily(draft.local, missingIn: draft.remotes, key: "remotes")
        warnOfOneFamily(draft.remotes, missingIn: draft.local, key: "local")
    }

    /// A prefix around an address of this node is the network of the nodes, not of the balancers.
    private func warnOfNeighbours(_ draft: TunnelDraft) {
        let around = PrefixIndex(draft.remotes.map(\.prefix)) { $0.length > 0 && !$0.isHost }
        var held: [Prefix: TunnelDraft.Placed] = [:]
        for local in draft.local where local.prefix.isHost {
            for index in around.covering(local.prefix) {
                let remote = draft.remotes[index].prefix
                held[remote] = held[remote] ?? local
            }
        }
        for remote in draft.remotes {
            guard let own = held[remote.prefix] else { continue }
            remote.field.warning(
                "\(remote.prefix.text) holds \(own.prefix.address.text) of "
                    + "\(own.field.path), so other nodes as well; IP-in-IP between nodes (an overlay such "
                    + "as Calico's) would be taken for the balancers'; write the balancers' prefixes")
        }
    }

    /// A raw socket is bound to one address, and without a claim the kernel forwards the frames.
    private func checkClaim(_ draft: TunnelDraft, _ configuration: Configuration) {
        guard configuration.consume == .socket, configuration.mode == .active else { return }
        for local in draft.local where !local.prefix.isHost {
            local.field.error(
                "consume: socket claims single addresses only, and "
                    + "\(local.prefix.text) is none; list its addresses, or write consume: bpf")
        }
    }

    private func warnOfOneFamily(
        _ these: [TunnelDraft.Placed], missingIn those: [TunnelDraft.Placed], key: String
    ) {
        for isIPv4 in [true, false] where !those.contains(where: { $0.prefix.isIPv4 == isIPv4 }) {
            guard let first = these.first(where: { $0.prefix.isIPv4 == isIPv4 }) else { continue }
            first.field.warning(
                "\(first.prefix.text) matches nothing, since \(key) has no "
                    + "\(isIPv4 ? "IPv4" : "IPv6") address; add one or remove this")
        }
    }

    /// An own address as outer source is refused (RFC 2473 §4.1.2), so as a remote it is a slip.
    /// - Parameter index: of the other's `local`.
    private func checkOwnAddress(
        _ draft: TunnelDraft, against other: TunnelDraft, _ index: PrefixIndex
    ) {
        for remote in draft.remotes where remote.prefix.isHost {
            guard let own = index.covering(remote.prefix).min().map({ other.local[$0] }) else { continue }
            remote.field.error(
                "\(remote.prefix.address.text) is in \(own.field.path), and an own "
                    + "address cannot be a remote; remove it from one of them")
        }
    }

    // MARK: Two tunnels

    private func checkOverlap(_ draft: TunnelDraft, earlier: TunnelDraft) {
        let (tunnel, first) = (draft.tunnel, earlier.tunnel)
        guard let name = tunnel.interfaces.first(where: first.interfaces.contains),
            let local = draft.localIndex.overlap(earlier.localIndex)
        else { return }
        if tunnel.otherRemotes != first.otherRemotes {
            report.error(
                draft.section["otherRemotes"]?.position ?? draft.position,
                "\(draft.path).otherRemotes: \(tunnel.otherRemotes.rawValue) differs from "
                    + "\(earlier.path) at \(report.place(earlier.position)), which "
                    + "shares \(local.text) on \(name); write the same in both")
        }
        for mode in Mode.allCases where tunnel.modes.contains(mode) && first.modes.contains(mode) {
            let isFamily = { (prefix: Prefix) in prefix.isIPv4 == mode.outerIsIPv4 }
            guard let local = draft.localIndex.overlap(earlier.localIndex, where: isFamily),
                let remote = draft.remoteIndex.overlap(earlier.remoteIndex, where: isFamily)
            else { continue }
            report.error(
                draft.position,
                "\(draft.path): overlaps \(earlier.path) at "
                    + "\(report.place(earlier.position)) on \(name) in local \(local.text), "
                    + "remote \(remote.text) and mode \(mode.name); narrow one of them")
            return
        }
    }
}
