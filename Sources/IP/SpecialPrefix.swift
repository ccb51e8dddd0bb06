// SpecialPrefix, the one table of addresses that are no ordinary host's, and AddressClass, what it says.

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

/// A special-purpose prefix (RFC 6890).
public struct SpecialPrefix: Sendable {
    public let prefix: Prefix
    /// `AddressClass`.
    public let flags: UInt32

    /// Whether packets from or to it are never forwarded.
    public func isRefused(dropMartians: Bool) -> Bool {
        flags & (AddressClass.linkLocal | (dropMartians ? AddressClass.martian : 0)) != 0
    }

    private typealias Class = AddressClass

    public static let table = [
        // "This network" (RFC 791 §3.2), loopback, link-local (RFC 3927).
        ipv4(0x0000_0000, 8, Class.martian | Class.noRemote | Class.noHost),
        ipv4(0x7f00_0000, 8, Class.martian | Class.noRemote | Class.noHost),
        ipv4(0xa9fe_0000, 16, Class.martian),
        // Multicast, reserved (RFC 1112 §4), limited broadcast (RFC 919).
        ipv4(0xe000_0000, 4, Class.martian | Class.noRemote | Class.noHost | Class.group),
        ipv4(0xf000_0000, 4, Class.martian | Class.noHost | Class.group),
        ipv4(0xffff_ffff, 32, Class.noRemote),
        // IPv4-compatible (RFC 4291 §2.5.5.1), unspecified, loopback, IPv4-mapped (RFC 4213 §3.6).
        ipv6(0, 0, 96, Class.martian),
        ipv6(0, 0, 128, Class.noHost),
        ipv6(0, 1, 128, Class.noRemote | Class.noHost),
        ipv6(0, 0xffff_0000_0000, 96, Class.martian | Class.noRemote),
        // NAT64 (RFC 6052 §2.1), 6to4 (RFC 3056 §2).
        ipv6(0x0064_ff9b << 32, 0, 96, Class.embedsIPv4),
        ipv6(sixToFour << 48, 0, 16, Class.embedsIPv4),
        // Link-local, site-local (RFC 3879), multicast.
        ipv6(0xfe80 << 48, 0, 10, Class.linkLocal),
        ipv6(0xfec0 << 48, 0, 10, Class.martian),
        ipv6(0xff00 << 48, 0, 8, Class.martian | Class.noRemote | Class.noHost | Class.group),
    ]

    /// IPv6 that no router forwards, also where martians pass.
    public static let unroutableIPv6 = table.filter {
        !$0.prefix.isIPv4 && $0.isRefused(dropMartians: true)
    }.map(\.prefix)

    fileprivate static let sixToFour: UInt64 = 0x2002

    private static func ipv4(_ address: UInt32, _ length: Int, _ flags: UInt32) -> SpecialPrefix {
        SpecialPrefix(prefix: Prefix(Address(ipv4: address), length: length)!, flags: flags)
    }

    private static func ipv6(
        _ high: UInt64, _ low: UInt64, _ length: Int, _ flags: UInt32
    ) -> SpecialPrefix {
        SpecialPrefix(
            prefix: Prefix(ipv6: Address(high: high, low: low), length: length), flags: flags)
    }
}

extension Address {
    /// Of an address whose prefix embeds one.
    public var embeddedIPv4: UInt32 {
        UInt32(truncatingIfNeeded: high >> 48 == SpecialPrefix.sixToFour ? high >> 16 : low)
    }
}
