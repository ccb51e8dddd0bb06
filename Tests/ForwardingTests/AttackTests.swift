// Attacks on decapsulators that are known from the field: protocol confusion, deep nests, packets to oneself.

import TestPackets
import Testing

@testable import Forwarding

extension Mode {
    /// What stands in the outer header.
    fileprivate var number: UInt8 { innerIsIPv4 ? 4 : 41 }
}

@Suite("Attacks")
struct AttackTests {
    /// Four tunnels, each with one mode at an address of its own.
    private static let narrow = ForwardingTests.world { policy in
        let local = locals.map { mode, address in
            Policy.Tunnel(
                name: mode.name, interfaces: [0, 1], local: [prefix(address)],
                remotes: [prefix("198.51.100.0/24"), prefix("2001:db8:5::/48")], modes: [mode])
        }
        policy.tunnels = local
    }

    private static let locals: [(Mode, String)] = [
        (.ipip, "192.0.2.4"), (.ip6ip, "192.0.2.6"), (.ipip6, "2001:db8::4"),
        (.ip6ip6, "2001:db8::6"),
    ]

    /// CVE-2026-7473: a decapsulator that compared the address and not the protocol.
    @Test("each of 256 protocols to each local address: only its tunnel's own is stripped")
    func protocols() {
        for (mode, address) in Self.locals {
            for carried in Mode.allCases where carried.outerIsIPv4 == mode.outerIsIPv4 {
                for number in UInt8.min...UInt8.max {
                    let packet = Encapsulated(carried).with {
                        $0.outer.destination = ip(address)
                        $0.outer.protocolNumber = number
                    }
                    let found = outcome(packet, in: Self.narrow)
                    let text = "\(address), protocol \(number) with a packet of \(carried)"
                    if number != 4 && number != 41 {
                        #expect(!found.isInject, "\(text)")
                    } else if number != carried.number {
                        #expect(found == .drop(.invalidHeader), "\(text)")
                    } else if carried != mode {
                        #expect(found == .drop(.modeNotAllowed), "\(text)")
                    } else {
                        #expect(found == .inject(packet.innerPacket), "\(text)")
                    }
                    let stranger = packet.with {
                        $0.outer.source = ip(mode.outerIsIPv4 ? "198.18.0.1" : "2001:db8:6::1")
                    }
                    #expect(!outcome(stranger, in: Self.narrow).isInject, "\(text), a stranger")
                }
            }
        }
    }

    /// Every level is addressed to the tunnel and comes from a remote: whoever strips what it
    /// has stripped once goes on to the last.
    private static func nest(_ levels: Int, _ mode: (Int) -> Mode) -> Encapsulated {
        var inside: Encapsulated?
        for level in (0..<levels).reversed() {
            var next = Encapsulated(mode(level))
            if let inside {
                next.inner = inside.outer
                next.payload = inside.innerPacket
            }
            inside = next
        }
        return inside!
    }

    @Test("nests of 1 to 60 levels are never stripped twice", arguments: 1...60)
    func nests(levels: Int) {
        let world = ForwardingTests.world()
        let mixed: [[Mode]] = [
            [.ipip], [.ip6ip6], [.ip6ip, .ipip6], [.ipip6, .ip6ip],
            [.ipip, .ip6ip, .ip6ip6, .ipip6],
        ]
        for modes in mixed {
            let packet = Self.nest(levels) { modes[$0 % modes.count] }
            let expected: Outcome =
                levels == 1
                ? .inject(packet.innerPacket) : .drop(.nestedTunnel)
            #expect(outcome(packet, in: world) == expected, "\(modes)")
        }
    }

    /// So a nest costs as much as any packet, however deep it is and whatever lies in it.
    @Test("of a nest nothing behind the second header is looked at", arguments: Mode.allCases)
    func depth(mode: Mode) {
        let world = ForwardingTests.world()
        let within: Mode = mode.innerIsIPv4 ? .ipip : .ip6ip6
        let packet = Self.nest(60) { $0 == 0 ? mode : within }
        var bytes = packet.packet
        var random = Random(60)
        let second = packet.outerLength + (mode.innerIsIPv4 ? 20 : 40)
        for _ in 0..<200 {
            let noise = random.bytes(bytes.count - second)
            bytes.replaceSubrange(second..., with: noise)
            let judged = judge(bytes, etherType: mode.outerIsIPv4 ? 0x0800 : 0x86dd, in: world)
            #expect(judged.outcome == .drop(.nestedTunnel))
        }
    }

    /// RFC 2003 §3.2: what claims to come from the end of its own tunnel would go round.
    @Test("a packet from the tunnel's exit, or to it, goes nowhere", arguments: Mode.allCases)
    func loops(mode: Mode) {
        let world = ForwardingTests.world {
            $0.tunnels[0].destinations = [
                .init(prefix: prefix("10.2.1.9")), .init(prefix: prefix("2001:db8:2::9")),
            ]
        }
        let exit = ip(mode.innerIsIPv4 ? "192.0.2.2" : "2001:db8::2")
        let packet = Encapsulated(mode).with { $0.inner.ttl = 255 }
        #expect(outcome(packet, in: world) == .inject(packet.innerPacket))
        let from = packet.with { $0.inner.source = exit }
        #expect(outcome(from, in: world) == .drop(.localSource))
        let back = packet.with { $0.inner.destination = exit }
        #expect(outcome(back, in: world) == .drop(.destinationNotAllowed))
        let remote = packet.with {
            $0.inner.destination = ip(mode.innerIsIPv4 ? "198.51.100.1" : "2001:db8:5::1")
        }
        #expect(outcome(remote, in: world) == .drop(.destinationNotAllowed))
    }
}
