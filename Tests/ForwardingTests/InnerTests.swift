// Rows I1 to I8, I10 to I13, M8 and M9: the inner packet, what is accepted and what refused.
// The reverse path (I9) and destinations (I7) have files of their own.

import IP
import TestPackets
import Testing

@testable import Forwarding

@Suite("Inner header")
struct InnerTests {
    static let ofIPv4: [Mode] = [.ipip, .ipip6]
    static let ofIPv6: [Mode] = [.ip6ip, .ip6ip6]
    let world = ForwardingTests.world()
    let withMartians = ForwardingTests.world { $0.dropMartians = false }

    @Test("I1 a TTL of zero is refused, any other is kept", arguments: Mode.allCases)
    func ttl(mode: Mode) {
        for ttl in UInt8.min...UInt8.max {
            let packet = Encapsulated(mode).with { $0.inner.ttl = ttl }
            let expected: Outcome = ttl == 0 ? .drop(.ttlExpired) : .inject(packet.innerPacket)
            if outcome(packet, in: world) != expected { Issue.record("TTL \(ttl)") }
        }
    }

    @Test("I3 header length, total length, checksum", arguments: ofIPv4)
    func structureIPv4(mode: Mode) {
        let packet = Encapsulated(mode)
        for words: UInt8 in 0...4 {
            let bad = packet.with { $0.inner.headerWords = words }
            #expect(outcome(bad, in: world) == .drop(.invalidHeader))
        }
        let length = UInt16(packet.innerPacket.count)
        let beyond = packet.with { $0.inner.lengthField = length + 1 }
        #expect(outcome(beyond, in: world) == .drop(.packetTooSmall))
        // Ethernet's padding is behind the outer packet and belongs to nobody.
        let padded = beyond.with { $0.padding = [0, 0] }
        #expect(outcome(padded, in: world) == .drop(.packetTooSmall))
        for lie: UInt16 in [0, 1, 19] {
            let bad = packet.with { $0.inner.lengthField = lie }
            #expect(outcome(bad, in: world) == .drop(.invalidHeader))
        }
        for bit in 0..<16 {
            let bad = packet.with { $0.inner.checksumError = 1 << UInt16(bit) }
            #expect(outcome(bad, in: world) == .drop(.invalidChecksum))
        }
        let header = packet.with { $0.payload = [] }
        #expect(outcome(header, in: world) == .inject(header.innerPacket))
        let short = packet.with { $0.outer.lengthField = mode.outerIsIPv4 ? 39 : 19 }
        #expect(outcome(short, in: world) == .drop(.packetTooSmall))
    }

    @Test("I3 payload length", arguments: ofIPv6)
    func structureIPv6(mode: Mode) {
        let packet = Encapsulated(mode)
        let length = UInt16(packet.payload.count)
        let beyond = packet.with { $0.inner.lengthField = length + 1 }
        #expect(outcome(beyond, in: world) == .drop(.packetTooSmall))
        let padded = beyond.with { $0.padding = [0, 0] }
        #expect(outcome(padded, in: world) == .drop(.packetTooSmall))
        let shorter = packet.with { $0.inner.lengthField = length - 1 }
        #expect(outcome(shorter, in: world) == .inject(Array(shorter.innerPacket.dropLast())))
        let header = packet.with { $0.payload = [] }
        #expect(outcome(header, in: world) == .inject(header.innerPacket))
        let short = packet.with { $0.outer.lengthField = mode.outerIsIPv4 ? 59 : 39 }
        #expect(outcome(short, in: world) == .drop(.packetTooSmall))
    }

    @Test("I3 a wrong upper-layer checksum is not ours to judge", arguments: Mode.allCases)
    func upperChecksum(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.carry(TCPSegment(checksumError: 0x5555)) }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
    }

    static let martiansIPv4 = [
        "0.0.0.0", "0.255.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.0",
        "169.254.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.254",
        "255.255.255.255",
    ]
    static let neighboursIPv4 = [
        "1.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
        "223.255.255.255", "10.0.0.1", "192.168.1.1", "100.64.0.1",
    ]

    @Test("I4 IPv4 martians, as source and as destination", arguments: ofIPv4, martiansIPv4)
    func martianIPv4(mode: Mode, address: String) {
        let source = Encapsulated(mode).with { $0.inner.source = ip(address) }
        #expect(outcome(source, in: world) == .drop(.invalidSource))
        #expect(outcome(source, in: withMartians) == .inject(source.innerPacket))
        let destination = Encapsulated(mode).with { $0.inner.destination = ip(address) }
        #expect(outcome(destination, in: world) == .drop(.invalidDestination))
        #expect(outcome(destination, in: withMartians) == .inject(destination.innerPacket))
    }

    @Test("I4 their neighbours are no martians", arguments: ofIPv4, neighboursIPv4)
    func neighbourIPv4(mode: Mode, address: String) {
        let source = Encapsulated(mode).with { $0.inner.source = ip(address) }
        #expect(outcome(source, in: world) == .inject(source.innerPacket))
        let destination = Encapsulated(mode).with { $0.inner.destination = ip(address) }
        #expect(outcome(destination, in: world) == .inject(destination.innerPacket))
    }

    static let martiansIPv6 = [
        "::", "::1", "::2", "::10.2.1.9", "::ffff:ffff", "::ffff:0:0", "::ffff:203.0.113.7",
        "::ffff:255.255.255.255", "ff00::", "ff02::1", "ff0e::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::", "fec0::1",
        "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ]
    static let linkLocal = [
        "fe80::", "fe80::1", "fe80::1234:5678:9abc", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ]
    static let neighboursIPv6 = [
        "::1:0:0", "::fffe:203.0.113.7", "::1:ffff:0:0", "::1:0:0:0", "64:ff9b::203.0.113.7",
        "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::1",
        "fd00::1", "fc00::1", "2002:cb00:7107::1", "2001:db8:ffff::1", "::ffff:0:203.0.113.7",
    ]

    @Test("I5 IPv6 martians", arguments: ofIPv6, martiansIPv6)
    func martianIPv6(mode: Mode, address: String) {
        let source = Encapsulated(mode).with { $0.inner.source = ip(address) }
        #expect(outcome(source, in: world) == .drop(.invalidSource))
        #expect(outcome(source, in: withMartians) == .inject(source.innerPacket))
        let destination = Encapsulated(mode).with { $0.inner.destination = ip(address) }
        #expect(outcome(destination, in: world) == .drop(.invalidDestination))
        #expect(outcome(destination, in: withMartians) == .inject(destination.innerPacket))
    }

    @Test("I5 their neighbours are no martians", arguments: ofIPv6, neighboursIPv6)
    func neighbourIPv6(mode: Mode, address: String) {
        let source = Encapsulated(mode).with { $0.inner.source = ip(address) }
        #expect(outcome(source, in: world) == .inject(source.innerPacket))
        let destination = Encapsulated(mode).with { $0.inner.destination = ip(address) }
        #expect(outcome(destination, in: world) == .inject(destination.innerPacket))
    }

    @Test("I6 a link-local address is never forwarded to or from", arguments: ofIPv6, linkLocal)
    func linkLocalAddress(mode: Mode, address: String) {
        let source = Encapsulated(mode).with { $0.inner.source = ip(address) }
        #expect(outcome(source, in: world) == .drop(.invalidSource))
        #expect(outcome(source, in: withMartians) == .drop(.invalidSource))
        let destination = Encapsulated(mode).with { $0.inner.destination = ip(address) }
        #expect(outcome(destination, in: world) == .drop(.invalidDestination))
        #expect(outcome(destination, in: withMartians) == .drop(.invalidDestination))
    }

    /// Own addresses in every part of the policy that holds some.
    static let owning = ForwardingTests.world { policy in
        policy.dropMartians = false
        policy.denySources = [prefix("10.9.0.0/16"), prefix("2001:db8:9::/48"), prefix("10.1.1.1")]
        policy.tunnels[0].destinations = [
            .init(prefix: prefix("10.2.1.9")), .init(prefix: prefix("10.3.0.0/16")),
            .init(prefix: prefix("2001:db8:2::9")), .init(prefix: prefix("2001:db8:3::/48")),
            // Says nothing of sources.
            .init(prefix: .allIPv4), .init(prefix: .allIPv6),
        ]
        policy.tunnels.append(
            .init(
                name: "other", interfaces: [1],
                local: [prefix("198.18.5.0/24"), prefix("2001:db8:18::/64")],
                remotes: [prefix("198.19.0.1")],
                destinations: [.init(prefix: prefix("10.2.1.77"))]))
    }

    static let ownIPv4 = [
        "192.0.2.2", "198.18.5.0", "198.18.5.200", "10.2.1.9", "10.2.1.77", "10.9.0.0",
        "10.9.255.255", "10.1.1.1", "10.3.0.0", "10.3.255.255",
    ]
    static let ownIPv6 = [
        "2001:db8::2", "2001:db8:18::", "2001:db8:18:0:ffff::", "2001:db8:2::9",
        "2001:db8:9::1", "2001:db8:3::1", "2001:db8:3:ffff::",
    ]

    @Test("I8 own addresses as source: tunnel, destination, denied")
    func ownAddresses() {
        for mode in Mode.allCases {
            for address in mode.innerIsIPv4 ? Self.ownIPv4 : Self.ownIPv6 {
                let packet = Encapsulated(mode).with { $0.inner.source = ip(address) }
                #expect(outcome(packet, in: Self.owning) == .drop(.localSource), "\(address)")
            }
            let near =
                mode.innerIsIPv4
                ? ["192.0.2.3", "198.18.6.0", "10.2.1.8", "10.8.255.255", "10.10.0.0", "10.4.0.0"]
                : [
                    "2001:db8::3", "2001:db8:18:1::", "2001:db8:2::8", "2001:db8:a::",
                    "2001:db8:4::",
                ]
            for address in near {
                let packet = Encapsulated(mode).with { $0.inner.source = ip(address) }
                #expect(
                    outcome(packet, in: Self.owning) == .inject(packet.innerPacket), "\(address)")
            }
        }
    }

    @Test("I8 nobody writes to itself", arguments: Mode.allCases)
    func itself(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.inner.source = $0.inner.destination }
        #expect(outcome(packet, in: world) == .drop(.localSource))
        #expect(outcome(packet, in: withMartians) == .drop(.localSource))
    }

    /// IPv6 addresses that hold an IPv4 one: 6to4 and NAT64.
    static func holders(_ address: String) -> [Address] {
        let bytes = ip(address).bytes
        return [
            [0x20, 2] + bytes + [UInt8](repeating: 9, count: 10),
            [0, 0x64, 0xff, 0x9b] + [UInt8](repeating: 0, count: 8) + bytes,
        ].map { Address(bytes: $0)! }
    }

    @Test("I5 I8 the IPv4 address within a 6to4 or NAT64 source counts", arguments: ofIPv6)
    func embedded(mode: Mode) {
        for (addresses, reason) in [
            (Self.martiansIPv4, DropReason.invalidSource), (Self.ownIPv4, .localSource),
            (["203.0.113.7", "8.8.8.8", "10.4.0.0", "172.16.0.1"], .none),
        ] {
            for (address, source) in addresses.flatMap({ text in Self.holders(text).map { (text, $0) } }) {
                let packet = Encapsulated(mode).with { $0.inner.source = source }
                let own = ForwardingTests.world { policy in
                    policy = Self.owning.policy.policy
                    policy.dropMartians = true
                }
                #expect(
                    outcome(packet, in: own)
                        == (reason == .none ? .inject(packet.innerPacket) : .drop(reason)), "\(address)")
            }
        }
        // What lies beside the two prefixes holds none.
        for beside in ["2001:7f00:1::1", "2003:7f00:1::1", "64:ff9b:0:0:0:1:7f00:1", "64:ff9c::7f00:1"] {
            let packet = Encapsulated(mode).with { $0.inner.source = ip(beside) }
            #expect(outcome(packet, in: world).isInject, "\(beside)")
        }
        let passed = Encapsulated(mode).with { $0.inner.source = Self.holders("127.0.0.1")[0] }
        #expect(outcome(passed, in: withMartians).isInject)
    }

    @Test("I8 a denied prefix within martian space, and around it")
    func nestedSources() {
        let world = ForwardingTests.world {
            $0.denySources = [prefix("127.5.0.0/16"), prefix("128.0.0.0/1"), prefix("fe80::/64")]
        }
        for mode in Self.ofIPv4 {
            for (address, reason) in [
                ("127.5.0.1", DropReason.invalidSource), ("127.6.0.1", .invalidSource),
                ("203.0.113.7", .localSource), ("224.0.0.1", .invalidSource),
            ] {
                let packet = Encapsulated(mode).with { $0.inner.source = ip(address) }
                #expect(outcome(packet, in: world) == .drop(reason), "\(address)")
            }
        }
        let packet = Encapsulated(.ip6ip6).with { $0.inner.source = ip("fe80::1") }
        #expect(outcome(packet, in: world) == .drop(.invalidSource))
    }

    @Test("I10 inner source routes are refused", arguments: ofIPv4, OuterTests.sourceRoutes)
    func sourceRoute(mode: Mode, options: [UInt8]) {
        let packet = Encapsulated(mode).with { $0.inner.options = options }
        #expect(outcome(packet, in: world) == .drop(.sourceRoute))
    }

    @Test("I10 other inner options go on", arguments: ofIPv4, OuterTests.harmlessOptions)
    func harmless(mode: Mode, options: [UInt8]) {
        let packet = Encapsulated(mode).with { $0.inner.options = options }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
    }

    @Test("I10 a label is the next routers' to judge", arguments: ofIPv4)
    func label(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.inner.options = [134, 6, 0, 0, 0, 1] }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
    }

    @Test("I10 inner options that do not parse", arguments: ofIPv4, OuterTests.malformedOptions)
    func malformed(mode: Mode, options: [UInt8]) {
        let packet = Encapsulated(mode).with { $0.inner.options = options }
        #expect(outcome(packet, in: world) == .drop(.invalidHeader))
    }

    @Test("I11 inner fragments go on untouched", arguments: Mode.allCases)
    func fragments(mode: Mode) {
        for (offset, more) in [(0, true), (1, true), (185, false), (8191, true)] {
            let packet = Encapsulated(mode).with {
                // Looks like a SYN to whoever does not mind the offset.
                $0.carry(.syn(mss(9000)))
                if offset == 0 { $0.carry(TCPSegment(payload: [1, 2, 3])) }
                if mode.innerIsIPv4 {
                    $0.inner.fragment = UInt16(offset) | (more ? 0x2000 : 0)
                } else {
                    $0.inner.extensions = [.fragment(offset: UInt16(offset), more: more)]
                }
            }
            let judged = judge(packet, in: world)
            #expect(judged.outcome == .inject(packet.innerPacket))
            #expect(!judged.verdict.clampedMSS && !judged.verdict.unclampedMSS)
        }
    }

    @Test(
        "I11 a first fragment with a whole TCP header is clamped, a tiny one of IPv4 is counted",
        arguments: Mode.allCases)
    func tinyFragment(mode: Mode) {
        var packet = Encapsulated(mode).with {
            $0.carry(.syn(mss(9000)))
            if mode.innerIsIPv4 {
                $0.inner.fragment = 0x2000
            } else {
                $0.inner.extensions = [.fragment(offset: 0, more: true)]
            }
        }
        #expect(judge(packet, in: world).verdict.clampedMSS)
        for length in [8, 16] {
            packet.payload = Array(packet.payload[..<length])
            let judged = judge(packet, in: world)
            if mode.innerIsIPv4 {
                #expect(judged.outcome == .inject(packet.innerPacket))
                #expect(judged.verdict.unclampedMSS && !judged.verdict.clampedMSS, "\(length)")
            } else {
                #expect(judged.outcome == .drop(.badExtensionHeader))
            }
            packet.carry(.syn(mss(9000)))
        }
    }

    /// The first fragment of a packet, with so many bytes of what can be fragmented.
    private func first(
        _ mode: Mode, _ chain: [Extension], _ number: UInt8, _ upper: [UInt8], bytes: Int,
        more: Bool = true
    ) -> Encapsulated {
        var whole = Encapsulated(mode).inner
        whole.protocolNumber = number
        whole.extensions = chain
        let laid = Array(whole.packet(upper).dropFirst(40))
        return Encapsulated(mode).with {
            $0.inner.extensions = [.fragment(offset: 0, more: more)]
            $0.inner.protocolNumber = chain.first?.number ?? number
            $0.payload = Array(laid[..<bytes])
        }
    }

    @Test(
        "I11 an IPv6 first fragment is cut at every byte of its header chain (RFC 7112)",
        arguments: [.ip6ip, .ip6ip6] as [Mode])
    func headerChain(mode: Mode) {
        let header = Encapsulated(mode).inner
        let long = TCPSegment(options: [1, 1, 1, 1, 1, 1, 1, 1], payload: [1, 2, 3]).segment(header)
        // What must be there, by upper layer: all of TCP's header and UDP's, the first word of
        // ICMPv6's, a byte of any other, nothing of none.
        let uppers: [(number: UInt8, bytes: [UInt8], least: Int)] = [
            (6, long, 28), (17, udp(header, to: 53, [1, 2]), 8), (58, icmp(header, type: 128, [1]), 4),
            (132, [UInt8](repeating: 1, count: 12), 1), (50, [UInt8](repeating: 1, count: 16), 1),
            (59, [], 0),
        ]
        let chains: [[Extension]] = [
            [], [.options(Extension.destination, [])], [.routing(segmentsLeft: 0), .authentication],
            [.fragment(offset: 0, more: false), .options(Extension.destination, [4, 1, 0])],
        ]
        for chain in chains {
            let length = chain.reduce(0) { $0 + $1.bytes.count }
            for upper in uppers {
                for bytes in 0...(length + upper.bytes.count) {
                    let packet = first(mode, chain, upper.number, upper.bytes, bytes: bytes)
                    let isWhole = bytes >= length + upper.least
                    #expect(
                        outcome(packet, in: world)
                            == (isWhole ? .inject(packet.innerPacket) : .drop(.badExtensionHeader)),
                        "\(upper.number) behind \(chain.count) headers, \(bytes) bytes")
                }
            }
        }
    }

    @Test(
        "I11 a whole packet whose chain breaks off leads nowhere, and a later fragment shows none",
        arguments: [.ip6ip, .ip6ip6] as [Mode])
    func brokenChain(mode: Mode) {
        let chain: [Extension] = [.options(Extension.destination, [UInt8](repeating: 0, count: 14))]
        for bytes in 1..<16 {
            let atomic = first(mode, chain, 41, [1, 2, 3], bytes: bytes, more: false)
            #expect(outcome(atomic, in: world) == .inject(atomic.innerPacket))
            let later = atomic.with { $0.inner.extensions = [.fragment(offset: 1, more: true)] }
            #expect(outcome(later, in: world) == .inject(later.innerPacket))
        }
    }
}

@Suite("Nested tunnels and jumbograms")
struct NestingTests {
    let world = ForwardingTests.world()
    static let refused: Set<UInt8> = [4, 41, 47, 137]

    @Test("I12 of all protocols four are tunnels", arguments: Mode.allCases)
    func protocols(mode: Mode) {
        for number in UInt8.min...UInt8.max {
            let packet = Encapsulated(mode).with {
                $0.inner.protocolNumber = number
                // As an extension header: far longer than what is there.
                $0.payload = [59, 59] + [UInt8](repeating: 0, count: 40)
            }
            // As a fragment header it would lead to protocol 59, none.
            let expected: Outcome =
                Self.refused.contains(number)
                ? .drop(.nestedTunnel) : .inject(packet.innerPacket)
            if outcome(packet, in: world) != expected { Issue.record("protocol \(number)") }
        }
    }

    @Test("I12 a whole packet inside, one layer too deep", arguments: Mode.allCases, Mode.allCases)
    func whole(mode: Mode, nested: Mode) {
        guard mode.innerIsIPv4 == nested.outerIsIPv4 else { return }
        let inside = Encapsulated(nested).packet
        let packet = Encapsulated(mode).with {
            $0.inner.protocolNumber = nested.innerIsIPv4 ? 4 : 41
            $0.payload = Array(inside.dropFirst(nested.outerIsIPv4 ? 20 : 40))
        }
        #expect(outcome(packet, in: world) == .drop(.nestedTunnel))
    }

    static let chains: [[Extension]] = [
        [.options(Extension.hopByHop, [])], [.options(Extension.destination, [])],
        [.routing(segmentsLeft: 3)], [.fragment(offset: 0, more: false)],
        [.fragment(offset: 0, more: true)], [.fragment(offset: 7, more: true)],
        [.authentication],
        [.options(Extension.hopByHop, []), .authentication, .routing(segmentsLeft: 0)],
        [Extension](repeating: .options(Extension.destination, []), count: 8),
    ]

    @Test("I12 behind extension headers", arguments: [.ip6ip, .ip6ip6] as [Mode], chains)
    func behindHeaders(mode: Mode, chain: [Extension]) {
        let packet = Encapsulated(mode).with { $0.inner.extensions = chain }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
        for number in Self.refused {
            let nest = packet.with { $0.inner.protocolNumber = number }
            #expect(outcome(nest, in: world) == .drop(.nestedTunnel))
        }
    }

    @Test(
        "I12 a nest behind a first fragment that breaks off within its chain",
        arguments: [.ip6ip, .ip6ip6] as [Mode])
    func behindFragment(mode: Mode) {
        let chain = Extension.options(Extension.destination, [UInt8](repeating: 0, count: 14))
        let nest = [41] + chain.bytes.dropFirst() + Encapsulated(mode).inner.packet([1, 2, 3])
        for cut in stride(from: 8, through: nest.count, by: 8) {
            let first = Encapsulated(mode).with {
                $0.inner.extensions = [.fragment(offset: 0, more: true)]
                $0.inner.protocolNumber = chain.number
                $0.payload = Array(nest[..<cut])
            }
            #expect(
                outcome(first, in: world)
                    == .drop(cut <= chain.bytes.count ? .badExtensionHeader : .nestedTunnel))
        }
    }

    @Test("I12 what cannot be walked could hide a nest", arguments: [.ip6ip, .ip6ip6] as [Mode])
    func unwalkable(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.inner.extensions = Array(repeating: .options(Extension.destination, []), count: 9)
        }
        #expect(outcome(packet, in: world) == .drop(.badExtensionHeader))
    }

    @Test("I12 inner IPv4 fragments of a tunnel", arguments: [.ipip, .ipip6] as [Mode])
    func fragments(mode: Mode) {
        for fragment: UInt16 in [0x2000, 0x2005, 0x0005] {
            let packet = Encapsulated(mode).with {
                $0.inner.fragment = fragment
                $0.inner.protocolNumber = 41
            }
            #expect(outcome(packet, in: world) == .drop(.nestedTunnel))
        }
    }

    @Test("I13 jumbograms: no payload length, or none of IPv4's total length")
    func jumbograms() {
        for mode in [Mode.ip6ip, .ip6ip6] {
            let jumbo = Encapsulated(mode).with {
                $0.inner.extensions = [.options(Extension.hopByHop, [0xc2, 4, 0, 1, 0, 0])]
                $0.inner.lengthField = 0
            }
            #expect(outcome(jumbo, in: world) == .drop(.invalidHeader))
            let plain = Encapsulated(mode).with {
                $0.inner.extensions = [.options(Extension.hopByHop, [])]
            }
            #expect(outcome(plain, in: world) == .inject(plain.innerPacket))
            let empty = Encapsulated(mode).with { $0.inner.lengthField = 0 }
            #expect(outcome(empty, in: world) == .inject(Array(empty.innerPacket[..<40])))
        }
        for mode in [Mode.ipip, .ipip6] {
            let big = Encapsulated(mode).with { $0.inner.lengthField = 0 }
            #expect(outcome(big, in: world) == .drop(.invalidHeader))
        }
    }

    @Test("I13 outer jumbograms, and outer packets without a length", arguments: Mode.allCases)
    func outerJumbograms(mode: Mode) {
        let packet = Encapsulated(mode).with { $0.outer.lengthField = 0 }
        // BIG TCP writes 0 where the length has no room.
        #expect(
            outcome(packet, in: world)
                == .drop(mode.outerIsIPv4 ? .invalidHeader : .packetTooSmall))
        guard !mode.outerIsIPv4 else { return }
        let jumbo = Encapsulated(mode).with {
            $0.outer.extensions = [.options(Extension.hopByHop, [0xc2, 4, 0, 1, 0, 0])]
        }
        #expect(outcome(jumbo, in: world) == .drop(.badExtensionHeader))
        let empty = jumbo.with { $0.outer.lengthField = 0 }
        #expect(outcome(empty, in: world) == .drop(.packetTooSmall))
    }
}

@Suite("What is nobody's business")
struct UntouchedTests {
    /// Each of the outer header's marks replaces the inner one, so that the header is rewritten.
    let marking = ForwardingTests.world {
        $0.dscp = .uniform
        $0.ttl = .uniform
    }

    private func expectKept(_ packet: Encapsulated) {
        let marked = packet.with {
            $0.outer.trafficClass = 0xb8
            $0.outer.ttl = 17
        }
        let expected = packet.with {
            $0.inner.trafficClass = 0xb8
            $0.inner.ttl = 17
        }
        #expect(outcome(packet, in: ForwardingTests.world()) == .inject(packet.innerPacket))
        #expect(outcome(marked, in: marking) == .inject(expected.innerPacket))
    }

    @Test(
        "M8 an IPv4 identification stays, with and without don't-fragment",
        arguments: InnerTests.ofIPv4)
    func identification(mode: Mode) {
        for identification: UInt16 in [0, 1, 0x1234, 0xffff] {
            for flags: UInt16 in [0, 0x4000, 0x8000, 0xc000] {
                expectKept(
                    Encapsulated(mode).with {
                        $0.inner.identification = identification
                        $0.inner.fragment = flags
                    })
            }
        }
    }

    @Test("M8 the minimum path MTU option and the flow label stay", arguments: InnerTests.ofIPv6)
    func minimumPathMTU(mode: Mode) {
        // RFC 9268 §5: type 0x30, the smallest MTU so far, and the one that came back.
        let option: [UInt8] = [0x30, 4, 0x05, 0xdc, 0x05, 0xb5]
        expectKept(
            Encapsulated(mode).with {
                $0.inner.extensions = [.options(Extension.hopByHop, option)]
                $0.inner.flowLabel = 0xfedcb
                $0.outer.flowLabel = 0x12345
            })
    }

    /// They tell the encapsulator, not us: RFC 2003 §4, RFC 2473 §8.
    @Test("M9 ICMP errors to a tunnel's address are the kernel's", arguments: Mode.allCases)
    func errorsToTheTunnel(mode: Mode) {
        let world = ForwardingTests.world()
        let tunnelled = Encapsulated(mode)
        let types: [UInt8] = mode.outerIsIPv4 ? [3, 4, 5, 11, 12] : [1, 2, 3, 4]
        for type in types {
            let packet = tunnelled.with { $0.outer.protocolNumber = mode.outerIsIPv4 ? 1 : 58 }
            let error = packet.outer.packet(icmp(packet.outer, type: type, tunnelled.packet))
            let judged = judge(error, etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world)
            #expect(judged.outcome == .pass, "type \(type)")
        }
    }
}
