// A nexthop object as rtnetlink or iproute2 tell of it.

/// A nexthop object (linux/nexthop.h), single or a group.
package struct KernelNexthop: Sendable, Equatable {
    package var id: UInt32 = 0
    package var interface: Int32?
    package var members: [UInt32] = []

    package init() {}

    /// By number, the interfaces that each of these comes to.
    package static func interfaces(_ objects: [UInt32: KernelNexthop]) -> [UInt32: [Int32]] {
        objects.mapValues { one in
            (one.members.isEmpty ? [one] : one.members.compactMap { objects[$0] })
                .compactMap(\.interface)
        }
    }
}
