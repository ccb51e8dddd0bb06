// Claims on real interfaces: the kernel is silent while one is held, and answers when it is gone.

import CLinux
import Glibc
import IP
import Routing
import Testing

@testable import Forwarding
@testable import LinuxIO

extension OnHost {
    @Suite struct ClaimTests {
        private static let tunnel4 = Frames.numbered(1)
        private static let tunnel6 = Frames.ethernet(
            Network.nearAddress, 0x86dd,
            Frames.ipv6(
                4, from: Frames.six(1), to: Frames.six(2), [UInt8](repeating: 1, count: 40)))
        /// A datagram to a port that is closed.
        private static let marker = Frames.ethernet(
            Network.nearAddress, 0x0800,
            Frames.ipv4(
                17, from: Frames.four(1), to: Frames.four(3),
                Frames.word(9) + Frames.word(9) + Frames.word(8) + [0, 0]))
        private static let gre = Frames.ethernet(
            Network.nearAddress, 0x0800,
            Frames.ipv4(
                47, from: Frames.four(1), to: Frames.four(2), [UInt8](repeating: 1, count: 40)))

        private static let rules: FilterProgram = {
            var claims = Claims()
            claims.locals = [Frames.four(2), Frames.six(2)].map {
                Claims.Local(prefix: Prefix(host: Address(bytes: $0)!))
            }
            return claims.program
        }()

        private static func with(_ body: (Network) throws -> Void) throws {
            try Network.with { network in
                try Network.run(
                    """
                    set -e
                    ip address add 192.0.2.2/24 dev near
                    ip address add 192.0.2.3/24 dev near
                    ip address add 2001:db8::2/64 dev near nodad
                    ip neighbour add 192.0.2.1 lladdr 02:00:00:00:00:02 dev near nud permanent
                    ip neighbour add 2001:db8::1 lladdr 02:00:00:00:00:02 dev near nud permanent
                    """)
                try body(network)
            }
        }

        /// The kernel refuses so many of the frames. The marker is always refused, and sent
        /// behind them: the kernel has seen all of them when it answers to the last.
        private static func expectRefusals(
            _ count: Int, _ network: Network, _ frames: [[UInt8]],
            sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let before = try answers()
            let marked = try markers()
            try network.send(frames + [marker])
            try Network.eventually("\(count) answers, and one to the marker") {
                try markers() == marked + 1 && answers() > before + count
            }
            #expect(try answers() == before + count + 1, sourceLocation: sourceLocation)
        }

        /// Nothing else comes to a port.
        private static func markers() throws -> Int { try Network.counter("UdpNoPorts") }

        private static func answers() throws -> Int {
            try Network.counter("IcmpOutDestUnreachs") + Network.counter("Icmp6OutParmProblems")
        }

        @Test func aProgramSilencesTheKernel() throws {
            try Self.with { network in
                let frames = [Self.tunnel4, Self.tunnel6]
                try Self.expectRefusals(2, network, frames)
                var claim: Claim? = try Claim.byProgram(
                    Self.rules, interface: "near", index: network.near, allowClsact: false)
                #expect(claim?.means == .tcx)
                try Self.expectRefusals(0, network, frames)
                try Self.expectRefusals(1, network, [Self.gre])
                // One more, and the first goes: at no time is there none.
                let next = try Claim.byProgram(
                    Self.rules, interface: "near", index: network.near, allowClsact: false)
                claim = next
                try Self.expectRefusals(0, network, frames)
                _ = consume next
                claim = nil
                try Self.expectRefusals(2, network, frames)
            }
        }

        @Test func aFilterOnClsactSilencesTheKernel() throws {
            try Self.with { network in
                let frames = [Self.tunnel4, Self.tunnel6]
                let program = try Self.rules.load(object: "near")
                let filter = try ClsactFilter(program, interface: "near", index: network.near)
                let shown = try Network.run("tc filter show dev near ingress")
                #expect(shown.contains(ClsactFilter.name), "\(shown)")
                try Self.expectRefusals(0, network, frames)
                try Self.expectRefusals(1, network, [Self.gre])
                // A new one comes before the old one goes: at no time is there none.
                let second = try ClsactFilter(program, interface: "near", index: network.near)
                try Self.expectRefusals(0, network, frames)
                try filter.remove()
                try Self.expectRefusals(0, network, frames)
                try second.remove()
                #expect(try Network.run("tc filter show dev near ingress") == "")
                try Self.expectRefusals(2, network, frames)
            }
        }

        /// A discipline that was there before is somebody else's, and stays.
        @Test func clsactOfOthersStays() throws {
            try Self.with { network in
                try Network.run("tc qdisc add dev near clsact")
                let program = try Self.rules.load(object: "near")
                let filter = try ClsactFilter(program, interface: "near", index: network.near)
                try Self.expectRefusals(0, network, [Self.tunnel4, Self.tunnel6])
                try filter.remove()
                #expect(try Network.run("tc filter show dev near ingress") == "")
                #expect(try Network.run("tc qdisc show dev near").contains("clsact"))
            }
        }

        /// IEEE 802.1Q §6.9: VLAN 0 is a priority alone, and the kernel takes the frame for its own;
        /// the tag may stand beside the frame or in it.
        @Test func framesWithAPriorityAreClaimed() throws {
            func tagged(_ frame: [UInt8], _ tags: [(type: Int, tag: Int)]) -> [UInt8] {
                let bytes = tags.flatMap { Frames.word($0.type) + Frames.word($0.tag) }
                return Array(frame[..<12]) + bytes + frame[12...]
            }
            try Self.with { network in
                let frames = [Self.tunnel4, Self.tunnel6].flatMap { frame in
                    [
                        tagged(frame, [(0x8100, 0xa000)]), tagged(frame, [(0x8100, 0)]),
                        tagged(frame, [(0x88a8, 0x2000)]),
                        tagged(frame, [(0x8100, 0), (0x8100, 0x6000)]),
                        tagged(frame, [(0x88a8, 0), (0x8100, 0)]),
                    ]
                }
                try Self.expectRefusals(10, network, frames)
                let ring = try PacketRing(
                    interface: "near", index: network.near, slotSize: 2048, slotCount: 256,
                    fanout: nil, place: .new())
                try ring.startReceiving()
                let claim = try Claim.byProgram(
                    Self.rules, interface: "near", index: network.near, allowClsact: false)
                try Self.expectRefusals(0, network, frames)
                for number in frames.indices {
                    let slot = ring.slots.slot(at: number)
                    #expect(slot?.isForUs == true, "frame \(number)")
                }
                // Another VLAN's are neither the kernel's nor ours.
                try Self.expectRefusals(
                    0, network, [Self.tunnel4, Self.tunnel6].map { tagged($0, [(0x8100, 7)]) })
                #expect(ring.slots.slot(at: frames.count) == nil)
                withExtendedLifetime(claim) {}
            }
        }

        @Test func rawSocketsSilenceTheKernel() throws {
            try Self.with { network in
                let frames = [Self.tunnel4, Self.tunnel6]
                // One of the addresses is not there yet: it must not matter.
                var claim: Claim? = try Claim.bySockets([
                    Frames.four(2), Frames.six(2), Frames.four(77), Frames.six(77),
                ])
                #expect(claim?.means == .socket)
                try Self.expectRefusals(0, network, frames)
                try Self.expectRefusals(1, network, [Self.gre])
                claim = nil
                try Self.expectRefusals(2, network, frames)
            }
        }
    }
}
