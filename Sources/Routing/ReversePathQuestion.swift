// What is asked of routes and rules.

import IP

/// What the kernel asks of a packet's source, its roles swapped (net/ipv4/fib_frontend.c
/// `__fib_validate_source`; for IPv6, which has no such check, netfilter's `fib saddr . iif`,
/// net/ipv6/netfilter/nft_fib_ipv6.c).
public struct ReversePathQuestion: BitwiseCopyable, Sendable {
    /// The packet's source: what a route is looked up for, and a rule's `to` meets.
    public var source: Address
    /// The packet's destination: what a rule's `from` meets.
    public var destination: Address
    /// The packet's TOS or traffic class, ECN included.
    public var tos: UInt8
    public var protocolNumber: UInt8
    /// The packet's ports, 0 where it shows none. A rule's `sport` meets the destination's.
    public var sourcePort: UInt16
    public var destinationPort: UInt16
    /// Table of the VRF that the interface is in; 0: none.
    public var vrf: UInt32

    @inlinable @inline(__always)
    public init(
        source: Address, destination: Address, tos: UInt8 = 0, protocolNumber: UInt8 = 0,
        sourcePort: UInt16 = 0, destinationPort: UInt16 = 0, vrf: UInt32 = 0
    ) {
        self.source = source
        self.destination = destination
        self.tos = tos
        self.protocolNumber = protocolNumber
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.vrf = vrf
    }
}
