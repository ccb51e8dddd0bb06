// Rows O4 and O12: which tunnel a frame belongs to, by interface, family, local, remote and mode.

import TestPackets
import Testing

@testable import Forwarding

@Suite("Tunnels")
struct TunnelTests {
    static let strangers = ["198.51.101.1", "2001:db8:6::1"]

    private static func tunnel(
        _ name: String, local: [String] = ["192.0.2.2", "2001:db8::2"], remotes: [String],
        interfaces: [Int] = [0, 1], pass: Bool = false, modes: Set<Mode> = Set(Mode.allCases)
    ) -> Policy.Tunnel {
        .init(
            name: name, interfaces: interfaces, local: local.map(prefix),
            remotes: remotes.map(prefix), passOtherRemotes: pass, modes: modes)
    }

    private static func world(_ tunnels: [Policy.Tunnel]) -> ForwardingTables {
        ForwardingTests.world { $0.tunnels = tunnels }
    }

    private static func from(_ source: Int, _ mode: Mode) -> Encapsulated {
        Encapsulated(mode).with {
            $0.outer.source = ip(
                mode.outerIsIPv4 ? "198.51.\(source).1" : "2001:db8:\(source)::1")
        }
    }

    /// The networks that `from` takes its sources from.
    private static func net(_ source: Int) -> [String] {
        ["198.51.\(source).0/24", "2001:db8:\(source)::/48"]
    }

    @Test("a frame of another interface's tunnel is not ours", arguments: Mode.allCases)
    func interface(mode: Mode) {
        let world = Self.world([Self.tunnel("a", remotes: Self.net(1), interfaces: [1])])
        #expect(outcome(Self.from(1, mode), in: world) == .pass)
        #expect(outcome(Self.from(2, mode), in: world) == .pass)
        #expect(outcome(Self.from(1, mode), in: world, Arrival(interface: 1)).isInject)
    }

    @Test("the sixty-fourth interface")
    func lastInterface() {
        let world = ForwardingTests.world { policy in
            policy.interfaces = (0..<64).map { .init(name: "eth\($0)", reversePath: .off) }
            policy.tunnels[0].interfaces = [63]
        }
        #expect(outcome(Encapsulated(.ipip), in: world, Arrival(interface: 63)).isInject)
        #expect(outcome(Encapsulated(.ipip), in: world, Arrival(interface: 62)) == .pass)
        #expect(outcome(Encapsulated(.ipip), in: world, Arrival(interface: 0)) == .pass)
    }

    @Test("the remote must be allowed; the edges of its prefix", arguments: Mode.allCases)
    func remote(mode: Mode) {
        let world = ForwardingTests.world()
        for (source, isAllowed) in mode.outerIsIPv4
            ? [
                ("198.51.100.0", true), ("198.51.100.255", true), ("198.51.99.255", false),
                ("198.51.101.0", false), ("192.0.2.3", false),
            ]
            : [
                ("2001:db8:5::", true), ("2001:db8:5:ffff:ffff:ffff:ffff:ffff", true),
                ("2001:db8:4:ffff:ffff:ffff:ffff:ffff", false), ("2001:db8:6::", false),
            ]
        {
            let packet = Encapsulated(mode).with { $0.outer.source = ip(source) }
            #expect(
                outcome(packet, in: world)
                    == (isAllowed ? .inject(packet.innerPacket) : .drop(.remoteNotAllowed)))
        }
    }

    @Test("otherRemotes: drop or pass", arguments: Mode.allCases)
    func otherRemotes(mode: Mode) {
        for pass in [false, true] {
            let world = Self.world([Self.tunnel("a", remotes: Self.net(1), pass: pass)])
            #expect(outcome(Self.from(1, mode), in: world).isInject)
            #expect(
                outcome(Self.from(2, mode), in: world) == (pass ? .pass : .drop(.remoteNotAllowed)))
            // Whatever else is wrong with it: a stranger's frame is the kernel's, whole.
            let bad = Self.from(2, mode).with {
                $0.outer.checksumError = 1
                $0.inner.ttl = 0
            }
            #expect(outcome(bad, in: world, Arrival(cut: 4)).isInject == false)
            #expect((outcome(bad, in: world, Arrival(cut: 4)) == .pass) == pass)
        }
    }

    @Test("modes that the tunnel does not have", arguments: Mode.allCases, Mode.allCases)
    func modes(mode: Mode, allowed: Mode) {
        for pass in [false, true] {
            let world = Self.world([
                Self.tunnel("a", remotes: Self.net(1), pass: pass, modes: [allowed])
            ])
            let packet = Self.from(1, mode)
            #expect(
                outcome(packet, in: world)
                    == (mode == allowed ? .inject(packet.innerPacket) : .drop(.modeNotAllowed)))
        }
    }

    @Test("several tunnels share a local address: the first match counts", arguments: Mode.allCases)
    func shared(mode: Mode) {
        let others = Set(Mode.allCases).subtracting([mode])
        let world = Self.world([
            Self.tunnel("first", remotes: Self.net(1)),
            Self.tunnel("second", remotes: Self.net(1) + Self.net(2)),
            Self.tunnel("no mode", remotes: Self.net(3), modes: others),
            Self.tunnel("with mode", remotes: Self.net(3), modes: [mode]),
            Self.tunnel("last", remotes: Self.net(4), modes: others),
        ])
        for (source, tunnel) in [(1, 0), (2, 1), (3, 3)] {
            let judged = judge(Self.from(source, mode), in: world)
            #expect(judged.outcome.isInject && judged.verdict.tunnel == tunnel)
        }
        let refused = judge(Self.from(4, mode), in: world)
        #expect(refused.outcome == .drop(.modeNotAllowed) && refused.verdict.tunnel == 4)
        let stranger = judge(Self.from(5, mode), in: world)
        #expect(stranger.outcome == .drop(.remoteNotAllowed) && stranger.verdict.tunnel == 0)
    }

    @Test("the first tunnel of an address speaks for strangers", arguments: Mode.allCases)
    func speaks(mode: Mode) {
        for pass in [false, true] {
            let world = Self.world([
                Self.tunnel("elsewhere", remotes: Self.net(9), interfaces: [1], pass: !pass),
                Self.tunnel("first", remotes: Self.net(1), pass: pass),
                Self.tunnel("second", remotes: Self.net(2), pass: !pass),
            ])
            let stranger = outcome(Self.from(5, mode), in: world)
            #expect(stranger == (pass ? .pass : .drop(.remoteNotAllowed)))
            #expect(outcome(Self.from(2, mode), in: world).isInject)
        }
    }

    @Test("nested local prefixes: all tunnels of all of them, in order", arguments: Mode.allCases)
    func nestedLocals(mode: Mode) {
        let world = Self.world([
            Self.tunnel("host", remotes: Self.net(1)),
            Self.tunnel("net", local: ["192.0.2.0/24", "2001:db8::/64"], remotes: Self.net(2)),
            Self.tunnel("all", local: ["0.0.0.0/0", "::/0"], remotes: Self.net(3)),
        ])
        for (source, tunnel) in [(1, 0), (2, 1), (3, 2)] {
            let judged = judge(Self.from(source, mode), in: world)
            #expect(judged.outcome.isInject && judged.verdict.tunnel == tunnel)
        }
        let neighbour = Self.from(1, mode).with {
            $0.outer.destination = ip(mode.outerIsIPv4 ? "192.0.2.77" : "2001:db8::77")
        }
        let refused = judge(neighbour, in: world)
        #expect(refused.outcome == .drop(.remoteNotAllowed) && refused.verdict.tunnel == 1)
        let far = Self.from(2, mode).with {
            $0.outer.destination = ip(mode.outerIsIPv4 ? "9.9.9.9" : "2001:db9::9")
        }
        #expect(judge(far, in: world).verdict.tunnel == 2)
        #expect(outcome(far, in: world) == .drop(.remoteNotAllowed))
    }

    @Test("O12 own addresses as outer source, and where strangers pass", arguments: Mode.allCases)
    func ownSource(mode: Mode) {
        for pass in [false, true] {
            let world = Self.world([
                Self.tunnel("a", remotes: ["0.0.0.0/0", "::/0"], pass: pass),
                Self.tunnel(
                    "b", local: ["192.0.2.9", "2001:db8::9"], remotes: Self.net(9),
                    interfaces: [1]),
            ])
            for source in mode.outerIsIPv4
                ? ["192.0.2.2", "192.0.2.9"] : ["2001:db8::2", "2001:db8::9"]
            {
                let packet = Encapsulated(mode).with { $0.outer.source = ip(source) }
                #expect(
                    outcome(packet, in: world) == (pass ? .pass : .drop(.remoteNotAllowed)))
            }
        }
    }

    @Test("O12 entry and exit the same, within a local prefix", arguments: Mode.allCases)
    func sameEnds(mode: Mode) {
        let nets = ["192.0.2.0/24", "2001:db8::/64"]
        for pass in [false, true] {
            let world = Self.world([Self.tunnel("a", local: nets, remotes: nets, pass: pass)])
            let packet = Encapsulated(mode).with { $0.outer.source = $0.outer.destination }
            #expect(outcome(packet, in: world) == .drop(.remoteNotAllowed))
            let neighbour = packet.with {
                $0.outer.source = ip(mode.outerIsIPv4 ? "192.0.2.3" : "2001:db8::3")
            }
            #expect(outcome(neighbour, in: world).isInject)
        }
    }
    static let nobody4 = [
        "0.0.0.0", "0.255.255.255", "127.0.0.1", "127.255.255.255", "224.0.0.1",
        "239.255.255.255", "255.255.255.255",
    ]
    static let nobody6 = [
        "::1", "ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:0:0",
        "::ffff:198.51.100.1", "::ffff:255.255.255.255",
    ]
    // What a list of remotes may well mean.
    static let somebody4 = [
        "1.0.0.0", "126.255.255.255", "128.0.0.0", "169.254.7.7", "223.255.255.255", "240.0.0.1",
        "255.255.255.254",
    ]
    static let somebody6 = [
        "::2", "fe80::1", "feff::1", "::fffe:198.51.100.1", "::1:0:0:0", "64:ff9b::198.51.100.1",
    ]

    @Test(
        "O13 an outer source that nobody has is no remote, whatever the list holds",
        arguments: Mode.allCases)
    func nobody(mode: Mode) {
        for pass in [false, true] {
            let world = Self.world([Self.tunnel("a", remotes: ["0.0.0.0/0", "::/0"], pass: pass)])
            for source in mode.outerIsIPv4 ? Self.nobody4 : Self.nobody6 {
                let packet = Encapsulated(mode).with { $0.outer.source = ip(source) }
                #expect(outcome(packet, in: world) == .drop(.remoteNotAllowed), "\(source)")
            }
        }
    }

    @Test("O13 their neighbours may be remotes", arguments: Mode.allCases)
    func somebody(mode: Mode) {
        let world = Self.world([Self.tunnel("a", remotes: ["0.0.0.0/0", "::/0"])])
        for source in mode.outerIsIPv4 ? Self.somebody4 : Self.somebody6 {
            let packet = Encapsulated(mode).with { $0.outer.source = ip(source) }
            #expect(outcome(packet, in: world) == .inject(packet.innerPacket), "\(source)")
        }
    }
}
