// What a policy makes of an address, beside what it is anyway.

import IP

extension AddressClass {
    /// No inner packet may be from or to there.
    static let refused: UInt32 = 0x100
    /// Tunnel endpoint, destination, or listed in `inner.deny`.
    static let local: UInt32 = 0x200
    /// Its reverse path is not checked.
    static let exempt: UInt32 = 0x400
    /// A tunnel's own host address: no encapsulator may have it (RFC 2473 §4.1.2).
    static let endpoint: UInt32 = 0x800
    /// A rule rewrites it where it comes in by the rule's interface.
    static let rewritten: UInt32 = 0x1000
}
