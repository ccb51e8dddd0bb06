// Frames that raw sockets should claim and cannot.

import Forwarding
import IP

extension ForwardingTables {
    /// Frames to these addresses do not end in this host's IP stack, so the kernel forwards them, too, and
    /// those that come back are injected once more.
    /// - Parameter interfaces: those whose frames raw sockets claim: indices into the policy's.
    public func claimGaps(socketInterfaces interfaces: [Int]) -> [Finding] {
        var gaps: [Prefix: (text: String, remedy: String)] = [:]
        for tunnel in policy.policy.tunnels {
            let claimed = tunnel.interfaces.filter(interfaces.contains)
            for prefix in tunnel.local where !claimed.isEmpty && gaps[prefix] == nil {
                if !prefix.isHost {
                    gaps[prefix] = (
                        "raw sockets claim single addresses, and local \(prefix.text) is none",
                        "list its addresses, or set consume: bpf"
                    )
                } else if claimed.contains(where: { !isOwn(prefix.address, interface: $0) }) {
                    gaps[prefix] = (
                        """
                        raw sockets cannot claim local \(prefix.address.text), because it is no \
                        address of this host and the kernel forwards its frames
                        """, "ip address add \(prefix.text) dev lo, or set consume: bpf"
                    )
                }
            }
        }
        return gaps.sorted { $0.key.text < $1.key.text }.map { prefix, gap in
            Finding(
                what: .claim, subject: prefix.text, text: gap.text, remedy: gap.remedy,
                severity: .blocking)
        }
    }
}
