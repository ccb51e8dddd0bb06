// What a batch is judged against: one policy, one generation of routes, the links as they are now.

import IP
import Routing

/// Immutable; a worker takes a new one at a batch border, so no packet is judged by a mixture.
public final class ForwardingTables: @unchecked Sendable {
    // @unchecked: all memory is written only in `init`.
    public let policy: PolicyTables
    /// nil: the reverse path is not checked (a replay without routes).
    public let routes: RouteTable?
    public let interfaces: [InterfaceState]
    public let view: UnsafePointer<ForwardingView>
    private let memory = StableMemory()

    /// `interfaces` stands in the order of the policy's.
    public init(policy: PolicyTables, routes: RouteTable?, interfaces: [InterfaceState]) {
        precondition(interfaces.count == policy.policy.interfaces.count)
        self.policy = policy
        self.routes = routes
        self.interfaces = interfaces
        let uplinks = Set(interfaces.map(\.index).filter { $0 > 0 } + (routes?.defaultInterfaces ?? []))
        view = memory.copy([
            ForwardingView(
                policy: policy.view, routes: routes?.view, interfaces: memory.copy(interfaces),
                uplinks: memory.copy(uplinks.sorted()), uplinkCount: uplinks.count,
                dropMartians: policy.policy.dropMartians)
        ])
    }
}
