// A frame that is wrong in two ways has the reason that stands first, whichever two they are.

import Routing
import TestPackets
import Testing

@testable import Forwarding

@Suite("Precedence of reasons")
struct PrecedenceTests {
    struct Spoiled {
        var packet: Encapsulated
        var arrival = Arrival()
    }

    struct Fault: Sendable {
        var reason: DropReason
        var spoil: @Sendable (inout Spoiled) -> Void
        init(_ reason: DropReason, _ spoil: @escaping @Sendable (inout Spoiled) -> Void) {
            self.reason = reason
            self.spoil = spoil
        }
    }

    /// Pods take TCP to port 80; the client's network is behind eth0, and nothing else is.
    static let world = ForwardingTests.world(
        routes: [
            RouteEntry(prefix: prefix("203.0.113.0/24"), table: 254, interfaces: [2]),
            RouteEntry(prefix: prefix("2001:db8:c::/48"), table: 254, interfaces: [2]),
        ]
    ) { policy in
        policy.interfaces[0].reversePath = .strict
        policy.tunnels[0].modes = Set(Mode.allCases)
        policy.tunnels[0].destinations = [
            .init(prefix: prefix("10.2.1.9"), protocolNumber: 6, ports: [80...80]),
            .init(prefix: prefix("2001:db8:2::9"), protocolNumber: 6, ports: [80...80]),
        ]
        // Shares the local addresses, for a remote that may send in no mode.
        policy.tunnels.append(
            .init(
                name: "none", interfaces: [0], local: policy.tunnels[0].local,
                remotes: [prefix("198.51.101.0/24"), prefix("2001:db8:6::/48")], modes: []))
    }

    static let outerFaults: [Fault] = [
        Fault(.packetTooSmall) { $0.arrival.cut = 1 },
        Fault(.remoteNotAllowed) {
            $0.packet.outer.source = ip(
                $0.packet.outer.isIPv4 ? "198.51.102.1" : "2001:db8:7::1")
        },
        Fault(.modeNotAllowed) {
            $0.packet.outer.source = ip(
                $0.packet.outer.isIPv4 ? "198.51.101.1" : "2001:db8:6::1")
        },
    ]
    static let outerIPv4Faults: [Fault] = [
        Fault(.invalidHeader) { $0.packet.outer.options += [7, 1, 0, 0] },
        Fault(.invalidChecksum) { $0.packet.outer.checksumError = 1 },
        Fault(.sourceRoute) {
            $0.packet.outer.options = [131, 3, 4, 1] + $0.packet.outer.options
        },
        Fault(.fragmentsDisabled) { $0.packet.outer.fragment = 1 },
    ]
    static let outerIPv6Faults: [Fault] = [
        Fault(.invalidHeader) { $0.packet.outer.version = 4 },
        Fault(.badExtensionHeader) {
            $0.packet.outer.extensions.insert(.routing(segmentsLeft: 1), at: 0)
        },
        Fault(.fragmentsDisabled) {
            $0.packet.outer.extensions.removeAll { $0.number == 44 }
            $0.packet.outer.extensions.append(.fragment(offset: 1, more: false))
        },
    ]
    static let innerFaults: [Fault] = [
        Fault(.tunnelECN) {
            $0.packet.outer.trafficClass = 3
            $0.packet.inner.trafficClass = 0
        },
        Fault(.nestedTunnel) { $0.packet.inner.protocolNumber = 47 },
        Fault(.ttlExpired) { $0.packet.inner.ttl = 0 },
        Fault(.invalidSource) {
            $0.packet.inner.source = ip($0.packet.inner.isIPv4 ? "127.0.0.1" : "ff02::1")
        },
        Fault(.localSource) {
            $0.packet.inner.source = ip($0.packet.inner.isIPv4 ? "10.2.1.9" : "2001:db8:2::9")
        },
        Fault(.reversePath) {
            $0.packet.inner.source = ip($0.packet.inner.isIPv4 ? "203.0.114.1" : "2001:db8:d::1")
        },
        Fault(.invalidDestination) {
            $0.packet.inner.destination = ip($0.packet.inner.isIPv4 ? "224.0.0.1" : "ff02::1")
        },
        Fault(.destinationNotAllowed) { $0.packet.payload[2] = 9 },
        Fault(.gsoInvalid) { $0.arrival.vnet.gsoType = 3 },
    ]
    static let innerIPv4Faults: [Fault] = [
        Fault(.packetTooSmall) { $0.packet.inner.lengthField = 2000 },
        Fault(.invalidHeader) { $0.packet.inner.headerWords = 4 },
        Fault(.invalidChecksum) { $0.packet.inner.checksumError = 1 },
        Fault(.sourceRoute) {
            $0.packet.inner.options = [131, 3, 4, 1] + $0.packet.inner.options
        },
    ]
    static let innerIPv6Faults: [Fault] = [
        Fault(.packetTooSmall) { $0.packet.inner.lengthField = 2000 },
        Fault(.invalidHeader) { $0.packet.inner.version = 5 },
        Fault(.badExtensionHeader) {
            $0.packet.inner.extensions = Array(
                repeating: .options(Extension.destination, []), count: 9)
        },
    ]

    /// Faults of the same field cannot stand together.
    private static let exclusive: [Set<DropReason>] = [
        [.remoteNotAllowed, .modeNotAllowed],
        [.invalidSource, .localSource, .reversePath],
    ]

    private static func areExclusive(_ first: DropReason, _ second: DropReason) -> Bool {
        first == second || exclusive.contains { $0.contains(first) && $0.contains(second) }
    }

    private func check(_ mode: Mode, _ first: Fault, _ second: Fault) {
        var spoiled = Spoiled(packet: Encapsulated(mode))
        first.spoil(&spoiled)
        second.spoil(&spoiled)
        let expected = min(first.reason, second.reason)
        #expect(
            outcome(spoiled.packet, in: Self.world, spoiled.arrival) == .drop(expected),
            "\(mode): \(first.reason) and \(second.reason)")
    }

    private static func faults(_ mode: Mode) -> (outer: [Fault], inner: [Fault]) {
        (
            outerFaults + (mode.outerIsIPv4 ? outerIPv4Faults : outerIPv6Faults),
            innerFaults + (mode.innerIsIPv4 ? innerIPv4Faults : innerIPv6Faults)
        )
    }

    @Test("the packet that is spoiled is good", arguments: Mode.allCases)
    func good(mode: Mode) {
        #expect(outcome(Encapsulated(mode), in: Self.world).isInject)
    }

    @Test("each fault alone, and each pair of a layer's", arguments: Mode.allCases)
    func pairs(mode: Mode) {
        let (outer, inner) = Self.faults(mode)
        for fault in outer + inner { check(mode, fault, fault) }
        for (layer, faults) in [outer, inner].enumerated() {
            for (index, first) in faults.enumerated() {
                for second in faults[(index + 1)...]
                where !Self.areExclusive(first.reason, second.reason) {
                    // A header of another version has no lengths to be wrong.
                    if layer == 1 && !mode.innerIsIPv4
                        && Set([first.reason, second.reason]) == [.packetTooSmall, .invalidHeader]
                    {
                        continue
                    }
                    check(mode, first, second)
                }
            }
        }
    }

    @Test("an outer fault and an inner one", arguments: Mode.allCases)
    func acrossLayers(mode: Mode) {
        let (outer, inner) = Self.faults(mode)
        for first in outer {
            for second in inner where first.reason != second.reason {
                // Behind a header of another version and in a fragment nothing is looked for.
                let isHidden =
                    first.reason == .fragmentsDisabled
                    || (first.reason == .invalidHeader && !mode.outerIsIPv4)
                if isHidden && second.reason < first.reason { continue }
                check(mode, first, second)
            }
        }
    }

    @Test("the order is the contract's")
    func order() {
        #expect(
            DropReason.allCases.dropFirst().map(\.name) == [
                "pkt_too_small", "ip_inhdr", "ip_csum", "ipv6_bad_exthdr", "ip_source_route",
                "frag_overlap", "dup_frag", "frag_mem_limit", "frag_disabled",
                "remote_not_allowed", "mode_not_allowed", "ip_tunnel_ecn", "tunnel_nested",
                "ip_ttl", "ip_invalid_source", "ip_local_source", "ip_rpfilter",
                "ip_invalid_dest", "destination_not_allowed", "pkt_too_big", "rate_limit",
                "device_full", "device_error", "gso_invalid",
            ])
        #expect(DropReason.allCases == DropReason.allCases.sorted())
    }
}
