// What a worker reads of the forwarding tables, without counting references.

import IP
import Routing

/// What the judge reads. Valid while its `ForwardingTables` lives.
public struct ForwardingView: @unchecked Sendable, BitwiseCopyable {
    let policy: PolicyView
    let routes: RouteTable.View?
    let interfaces: UnsafePointer<InterfaceState>
    /// Devices that lead out of the host: the configured interfaces, and those of default routes. Behind
    /// any other device are the host's own pods, or another node's.
    let uplinks: UnsafePointer<Int32>
    let uplinkCount: Int
    let dropMartians: Bool
}
