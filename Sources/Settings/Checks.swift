// What no key shows by itself: tunnels against each other, and a tunnel's parts together.

import Forwarding
import IP

/// A tunnel, and where its parts stand.
struct TunnelDraft {
    let tunnel: Configuration.Tunnel
    let section: Section
    let local: [Placed]
    let remotes: [Placed]
    var position: Position { section.position }

    init(_ tunnel: Configuration.Tunnel, _ section: Section) {
        (self.tunnel, self.section) = (tunnel, section)
        (local, remotes) = (section.prefixes("local"), section.prefixes("remotes"))
    }
}

/// A prefix, and where it stands.
struct Placed {
    let prefix: Prefix
    let field: Field
}

extension Section {
    /// The prefixes of a list that has been read.
    fileprivate func prefixes(_ key: String) -> [Placed] {
        (self[key]?.items(example: "") ?? []).compactMap { item in
            item.text.flatMap { Prefix($0) }.map { Placed(prefix: $0, field: item) }
        }
    }
}

extension Loader {
    func checkTogether(_ tunnels: [TunnelDraft], _ configuration: Configuration) {
        // Beyond the bounds the rest would take too long.
        guard checkCounts(tunnels, configuration) else { return }
        let indices = tunnels.map { tunnel in
            let local = tunnel.local.map(\.prefix)
            return Indices(
                local: PrefixIndex(local), hosts: PrefixIndex(local, where: \.isHost),
                remotes: PrefixIndex(tunnel.tunnel.remotes))
        }
        for (index, tunnel) in tunnels.enumerated() {
            checkParts(of: tunnel, indices[index], configuration)
            for (other, earlier) in tunnels.enumerated() where other != index {
                checkOwnAddress(tunnel, against: earlier, indices[other].hosts)
                // Equal names are a problem of their own.
                guard other < index, earlier.tunnel.name != tunnel.tunnel.name else { continue }
                checkOverlap(tunnel, indices[index], earlier: earlier, indices[other])
            }
        }
    }

    /// Of one tunnel, in the order of its lists.
    private struct Indices {
        let local: PrefixIndex
        /// Of `local`, single addresses.
        let hosts: PrefixIndex
        let remotes: PrefixIndex
    }

    // MARK: One tunnel

    private func checkParts(
        of draft: TunnelDraft, _ indices: Indices, _ configuration: Configuration
    ) {
        checkOwnAddress(draft, against: draft, indices.local)
        checkClaim(draft, configuration)
        for remote in draft.remotes where remote.prefix.length == 0 {
            remote.field.warning(
                "\(remote.prefix.text) lets anyone encapsulate; "
                    + "write the balancers' prefixes")
        }
        warnOfNeighbours(draft)
        guard !draft.local.isEmpty, !draft.remotes.isEmpty else { return }
        warnOfOneFamily(draft.local, missingIn: draft.remotes, key: "remotes")
        warnOfOneFamily(draft.remotes, missingIn: draft.local, key: "local")
    }

    /// A prefix around an address of this node is the network of the nodes, not of the balancers.
    private func warnOfNeighbours(_ draft: TunnelDraft) {
        let around = PrefixIndex(draft.remotes.map(\.prefix)) { $0.length > 0 && !$0.isHost }
        var held: [Prefix: Placed] = [:]
        for local in draft.local where local.prefix.isHost {
            for place in around.covering(local.prefix) {
                let remote = draft.remotes[place].prefix
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
        _ these: [Placed], missingIn those: [Placed], key: String
    ) {
        for isIPv4 in [true, false] where !those.contains(where: { $0.prefix.isIPv4 == isIPv4 }) {
            guard let first = these.first(where: { $0.prefix.isIPv4 == isIPv4 }) else { continue }
            let family = isIPv4 ? "IPv4" : "IPv6"
            first.field.warning(
                "\(first.prefix.text) matches nothing, since \(key) has no "
                    + "\(family) address; add one or remove this")
        }
    }

    /// An own address as outer source is refused (RFC 2473 §4.1.2), so as a remote it is a slip.
    /// - Parameter index: of the other's `local`.
    private func checkOwnAddress(
        _ draft: TunnelDraft, against other: TunnelDraft, _ index: PrefixIndex
    ) {
        for remote in draft.remotes where remote.prefix.isHost {
            guard let place = index.covering(remote.prefix).min() else { continue }
            let own = other.local[place]
            remote.field.error(
                "\(remote.prefix.address.text) is in \(own.field.path), and an own "
                    + "address cannot be a remote; remove it from one of them")
        }
    }

    // MARK: Two tunnels

    private func checkOverlap(
        _ draft: TunnelDraft, _ own: Indices, earlier: TunnelDraft, _ others: Indices
    ) {
        let (tunnel, first) = (draft.tunnel, earlier.tunnel)
        func sharedLocal(_ isMeant: (Prefix) -> Bool) -> Prefix? {
            overlap((tunnel.local, own.local), (first.local, others.local), where: isMeant)
        }
        guard let name = tunnel.interfaces.first(where: first.interfaces.contains),
            let local = sharedLocal({ _ in true })
        else { return }
        if tunnel.otherRemotes != first.otherRemotes {
            report.error(
                draft.section["otherRemotes"]?.position ?? draft.position,
                "tunnels.\(tunnel.name).otherRemotes: \(tunnel.otherRemotes.rawValue) differs from "
                    + "tunnels.\(first.name) at \(report.place(earlier.position)), which "
                    + "shares \(local.text) on \(name); write the same in both")
        }
        for mode in Mode.allCases where tunnel.modes.contains(mode) && first.modes.contains(mode) {
            let isFamily = { (prefix: Prefix) in prefix.isIPv4 == mode.outerIsIPv4 }
            guard let local = sharedLocal(isFamily),
                let remote = overlap(
                    (tunnel.remotes, own.remotes), (first.remotes, others.remotes),
                    where: isFamily)
            else { continue }
            report.error(
                draft.position,
                "tunnels.\(tunnel.name): overlaps tunnels.\(first.name) at "
                    + "\(report.place(earlier.position)) on \(name) in local \(local.text), "
                    + "remote \(remote.text) and mode \(mode.name); narrow one of them")
            return
        }
    }

    /// The narrower of two prefixes that overlap.
    private func overlap(
        _ left: (prefixes: [Prefix], index: PrefixIndex),
        _ right: (prefixes: [Prefix], index: PrefixIndex), where isMeant: (Prefix) -> Bool
    ) -> Prefix? {
        left.prefixes.first { isMeant($0) && !right.index.covering($0).isEmpty }
            ?? right.prefixes.first { isMeant($0) && !left.index.covering($0).isEmpty }
    }
}
