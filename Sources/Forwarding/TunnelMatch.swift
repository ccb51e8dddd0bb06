// The tunnel of a frame.

import IP
import Routing

/// Which tunnel a frame belongs to: interface, family, protocol, local and remote, all of them.
struct TunnelMatch {
    var isOurs = false
    var reason = DropReason.none
    var tunnel = Verdict.noIndex

    /// - Parameter modes: bit n: the mode of raw value n; more than one where it is not yet known.
    /// - Parameter source: the `AddressClass` of the frame's source. `noRemote`: it is refused where a list
    ///   of remotes holds it, and not left to the kernel, for what a remote sends is ours: the claim
    ///   program drops it. `endpoint`: it is nobody's remote.
    @inline(__always)
    static func find(
        _ tables: UnsafePointer<ForwardingView>, list: UInt32, interface: UInt16, modes: UInt8,
        source: UInt32, contains: (PrefixTable.View) -> Bool
    ) -> TunnelMatch {
        var match = TunnelMatch()
        if list == 0 { return match }
        let candidates = tables.pointee.policy.candidates + Int(list)
        let count = Int(candidates[0])
        var index = 1
        while index <= count {
            let tunnel = candidates[index]
            index &+= 1
            let record = tables.pointee.policy.tunnels + Int(tunnel)
            guard record.pointee.takes(interface: interface) else { continue }
            let isRemote = source & AddressClass.endpoint == 0 && contains(record.pointee.remotes)
            if isRemote && source & AddressClass.noRemote == 0 {
                if record.pointee.modes & modes != 0 {
                    return TunnelMatch(isOurs: true, reason: .none, tunnel: tunnel)
                }
                if match.reason != .modeNotAllowed {
                    match = TunnelMatch(isOurs: true, reason: .modeNotAllowed, tunnel: tunnel)
                }
            } else if match.tunnel == Verdict.noIndex || (isRemote && !match.isOurs) {
                // The first tunnel of this address speaks for everyone else's frames.
                match = TunnelMatch(
                    isOurs: isRemote || !record.pointee.passOtherRemotes,
                    reason: .remoteNotAllowed, tunnel: tunnel)
            }
        }
        return match
    }
}
