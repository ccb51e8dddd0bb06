// What a batch is judged against: one policy, one generation of routes, the links as they are now.

import Routing

/// A configured interface as this host has it at the moment.
public struct InterfaceState: BitwiseCopyable, Sendable {
    /// 0: absent.
    public var index: Int32
    /// Bytes of the largest IP packet on the link; 0 when unknown.
    public var mtu: Int32
    public var reversePath: ReversePathMode
    /// Table of the VRF that it is enslaved to; 0: none.
    public var vrf: UInt32

    public init(index: Int32, mtu: Int32, reversePath: ReversePathMode, vrf: UInt32 = 0) {
        self.index = index
        self.mtu = mtu
        self.reversePath = reversePath
        self.vrf = vrf
    }
}

/// Immutable; a worker takes a new one at a batch border, so no packet is judged by a mixture.
public final class World: @unchecked Sendable {
    // @unchecked: all memory is written only in `init`.
    public let policy: PolicyTables
    /// nil: the reverse path is not checked (a replay without routes).
    public let routes: RouteTable?
    public let interfaces: [InterfaceState]
    public let view: UnsafePointer<WorldView>
    private let states: UnsafeMutablePointer<InterfaceState>
    private let uplinks: UnsafeMutablePointer<Int32>

    /// `interfaces` stands in the order of the policy's.
    public init(policy: PolicyTables, routes: RouteTable?, interfaces: [InterfaceState]) {
        precondition(interfaces.count == policy.policy.interfaces.count)
        self.policy = policy
        self.routes = routes
        self.interfaces = interfaces
        states = .allocate(capacity: max(interfaces.count, 1))
        states.initialize(from: interfaces, count: interfaces.count)
        let outside = Set(interfaces.map(\.index).filter { $0 > 0 } + (routes?.defaultInterfaces ?? []))
        uplinks = .allocate(capacity: max(outside.count, 1))
        uplinks.initialize(from: outside.sorted(), count: outside.count)
        let memory = UnsafeMutablePointer<WorldView>.allocate(capacity: 1)
        memory.initialize(
            to: WorldView(
                policy: policy.view, routes: routes?.view, interfaces: UnsafePointer(states),
                uplinks: UnsafePointer(uplinks), uplinkCount: outside.count,
                dropMartians: policy.policy.dropMartians))
        view = UnsafePointer(memory)
    }

    deinit {
        UnsafeMutablePointer(mutating: view).deallocate()
        states.deallocate()
        uplinks.deallocate()
    }
}

/// What the judge reads. Valid while its `World` lives.
public struct WorldView: @unchecked Sendable, BitwiseCopyable {
    let policy: PolicyView
    let routes: RouteTable.View?
    let interfaces: UnsafePointer<InterfaceState>
    /// Devices that lead out of the host: the configured interfaces, and those of default routes. Behind
    /// any other device are the host's own pods, or another node's.
    let uplinks: UnsafePointer<Int32>
    let uplinkCount: Int
    let dropMartians: Bool
}
