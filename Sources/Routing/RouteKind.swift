// What the kernel does with what a route matches.

import IP

/// The kernel's route types, linux/rtnetlink.h `RTN_*`, with its numbers.
public enum RouteKind: UInt8, Sendable, Hashable, BitwiseCopyable, Codable {
    case none = 0
    case unicast = 1
    case local = 2
    case broadcast = 3
    case anycast = 4
    case multicast = 5
    case blackhole = 6
    case unreachable = 7
    case prohibit = 8
    case `throw` = 9
}
