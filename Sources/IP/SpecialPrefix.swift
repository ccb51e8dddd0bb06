// The one table of addresses that are no ordinary host's.

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
