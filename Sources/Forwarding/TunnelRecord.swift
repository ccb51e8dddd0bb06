// What the judge reads of one tunnel.

import Routing

struct TunnelRecord: BitwiseCopyable {
    /// A bit for each of the policy's interfaces.
    var interfaces: UnsafePointer<UInt64>
    var modes: UInt8
    var passOtherRemotes: Bool
    var remotes: PrefixTable.View
    var destinations: PrefixTable.View

    @inline(__always)
    func takes(interface: UInt16) -> Bool {
        interfaces[Int(interface &>> 6)] &>> UInt64(interface & 63) & 1 != 0
    }
}
