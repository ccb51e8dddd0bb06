// What no key shows by itself: tunnels against each other, and a tunnel's parts together.

import Forwarding
import Routing

extension Loader {
    func checkTogether(_ tunnels: [TunnelDraft]) {
        for (index, tunnel) in tunnels.enumerated() {
            checkParts(of: tunnel)
            for (other, earlier) in tunnels.enumerated() where other != index {
                checkOwnAddress(tunnel, against: earlier, isSame: false)
                // Equal names are a problem of their own.
                guard other < index, earlier.tunnel.name != tunnel.tunnel.name else { continue }
                checkOverlap(tunnel, earlier: earlier)
            }
        }
    }

    // MARK: One tunnel

    private func checkParts(of draft: TunnelDraft) {
        checkOwnAddress(draft, against: draft, isSame: true)
        checkClaim(draft)
        for remote in draft.remotes where remote.content.length == 0 {
            reader.report.warning(
                remote.position,
                "\(remote.path): \(remote.content.text) lets anyone encapsulate; "
                    + "write the balancers' prefixes")
        }
        warnOfNeighbours(draft)
        guard !draft.local.isEmpty, !draft.remotes.isEmpty else { return }
        warnOfOneFamily(draft.local, missingIn: draft.remotes, key: "remotes")
        warnOfOneFamily(draft.remotes, missingIn: draft.local, key: "local")
    }

    /// A prefix around an address of this node is the network of the nodes, not of the balancers.
    private func warnOfNeighbours(_ draft: TunnelDraft) {
        for remote in draft.remotes where remote.content.length > 0 && !remote.content.isHost {
            guard
                let own = draft.local.first(where: {
                    $0.content.isHost && remote.content.covers($0.content)
                })
            else { continue }
            reader.report.warning(
                remote.position,
                "\(remote.path): \(remote.content.text) holds \(own.content.address.text) of "
                    + "\(own.path), so other nodes as well; IP-in-IP between nodes (an overlay such "
                    + "as Calico's) would be taken for the balancers'; write the balancers' prefixes")
        }
    }

    /// A raw socket is bound to one address, and without a claim the kernel forwards the frames.
    private func checkClaim(_ draft: TunnelDraft) {
        guard configuration.consume == .socket, configuration.mode == .active else { return }
        for local in draft.local where !local.content.isHost {
            reader.report.error(
                local.position,
                "\(local.path): consume: socket claims single addresses only, and "
                    + "\(local.content.text) is none; list its addresses, or write consume: bpf")
        }
    }

    private func warnOfOneFamily(
        _ these: [Placed<Prefix>], missingIn those: [Placed<Prefix>], key: String
    ) {
        for isIPv4 in [true, false] where !those.contains(where: { $0.content.isIPv4 == isIPv4 }) {
            guard let first = these.first(where: { $0.content.isIPv4 == isIPv4 }) else { continue }
            let family = isIPv4 ? "IPv4" : "IPv6"
            reader.report.warning(
                first.position,
                "\(first.path): \(first.content.text) matches nothing, since \(key) has no "
                    + "\(family) address; add one or remove this")
        }
    }

    /// An own address as outer source is refused (RFC 2473 §4.1.2), so as a remote it is a slip.
    private func checkOwnAddress(_ draft: TunnelDraft, against other: TunnelDraft, isSame: Bool) {
        for remote in draft.remotes where remote.content.isHost {
            guard
                let own = other.local.first(where: {
                    (isSame || $0.content.isHost) && $0.content.contains(remote.content.address)
                })
            else { continue }
            reader.report.error(
                remote.position,
                "\(remote.path): \(remote.content.address.text) is in \(own.path), and an own "
                    + "address cannot be a remote; remove it from one of them")
        }
    }

    // MARK: Two tunnels

    private func checkOverlap(_ draft: TunnelDraft, earlier: TunnelDraft) {
        let (tunnel, first) = (draft.tunnel, earlier.tunnel)
        guard let name = tunnel.interfaces.first(where: first.interfaces.contains),
            let local = overlap(tunnel.local, first.local, where: { _ in true })
        else { return }
        if tunnel.otherRemotes != first.otherRemotes {
            reader.report.error(
                draft.otherRemotesPosition ?? draft.position,
                "tunnels.\(tunnel.name).otherRemotes: \(tunnel.otherRemotes.rawValue) differs from "
                    + "tunnels.\(first.name) at \(reader.report.place(earlier.position)), which "
                    + "shares \(local.text) on \(name); write the same in both")
        }
        for mode in Mode.allCases where tunnel.modes.contains(mode) && first.modes.contains(mode) {
            let isFamily = { (prefix: Prefix) in prefix.isIPv4 == mode.outerIsIPv4 }
            guard let local = overlap(tunnel.local, first.local, where: isFamily),
                let remote = overlap(tunnel.remotes, first.remotes, where: isFamily)
            else { continue }
            reader.report.error(
                draft.position,
                "tunnels.\(tunnel.name): overlaps tunnels.\(first.name) at "
                    + "\(reader.report.place(earlier.position)) on \(name) in local \(local.text), "
                    + "remote \(remote.text) and mode \(mode.name); narrow one of them")
            return
        }
    }

    /// The narrower of the first two prefixes that overlap.
    private func overlap(
        _ left: [Prefix], _ right: [Prefix], where isMeant: (Prefix) -> Bool
    ) -> Prefix? {
        for one in left where isMeant(one) {
            for other in right where one.overlaps(other) {
                return one.length >= other.length ? one : other
            }
        }
        return nil
    }
}
