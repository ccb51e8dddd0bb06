// What the table of special addresses says of an address.

/// Bits 0 to 7, the others are a policy's. A prefix within another one has those of both.
public enum AddressClass {
    /// No packet may carry it as an inner address (RFC 1812 §5.3.7), unless `martians: pass`.
    @inlinable public static var martian: UInt32 { 1 << 0 }
    /// No router forwards it, whatever `martians` says (RFC 4291 §2.5.6).
    @inlinable public static var linkLocal: UInt32 { 1 << 1 }
    /// No remote has it, though a list of remotes holds it, as 0.0.0.0/0 does: the kernel drops it as a
    /// source (net/ipv4/route.c `ip_route_input_slow`, net/ipv6/ip6_input.c `ip6_rcv_core`).
    @inlinable public static var noRemote: UInt32 { 1 << 2 }
    /// No ICMP error answers a packet from there (RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)).
    @inlinable public static var noHost: UInt32 { 1 << 3 }
    /// Nor one to there.
    @inlinable public static var group: UInt32 { 1 << 4 }
    /// Holds an IPv4 address, which counts as well (RFC 3964 §5.2).
    @inlinable public static var embedsIPv4: UInt32 { 1 << 5 }
}
