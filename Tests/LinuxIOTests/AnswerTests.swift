// What answers to probes need of the kernel: a route that is ours alone, and a socket bound to a link.

import Testing

@testable import LinuxIO

extension OnHost {
    @Suite struct AnswerTests {
        private static let to = [0x26, 3] + [UInt8](repeating: 0, count: 13) + [9]

        private static func routes() throws -> String {
            try Network.run("ip -6 route show 2603::9")
        }

        @Test func aRouteIsThereUntilItIsRemoved() throws {
            try Network.with { network in
                let route = try HostRoute(
                    to: Self.to, text: "2603::9", device: network.near)
                #expect(try Self.routes().contains("dev near"))
                // Only one of a kind, also of ours.
                #expect(throws: SystemError.self) {
                    _ = try HostRoute(to: Self.to, text: "2603::9", device: network.far)
                }
                #expect(try Self.routes().contains("dev near"))
                try Network.run("ip link set near down")
                #expect(try Self.routes().isEmpty)
                try Network.run("ip link set near up")
                route.restore()
                #expect(try Self.routes().contains("dev near"))
                route.restore()
                try route.remove()
                #expect(try Self.routes().isEmpty)
                // As when it went with its device.
                try route.remove()
                do {
                    _ = try HostRoute(to: Self.to, text: "2603::9", device: 9999)
                    Issue.record("a route through a device that is not there")
                } catch {
                    #expect("\(error)".contains("2603::9"))
                }
            }
        }

        /// Two links have the same link-local addresses: the socket's own is taken.
        @Test func aPacketLeavesByItsLink() throws {
            try Network.with { network in
                try Network.run(
                    "ip address add fe80::1/64 dev near nodad; "
                        + "ip address add fe80::2/64 dev far nodad; "
                        + "ip neigh replace fe80::9 lladdr 02:00:00:00:00:02 dev near")
                let socket = try RawIPv6Socket(interface: "near", index: network.near)
                let ring = try PacketRing(
                    interface: "far", index: network.far, slotSize: 2048, slotCount: 256,
                    fanout: nil, place: .new())
                try ring.startReceiving(natives: [Frames.six(7)])
                let packet = Frames.ipv6(
                    17, from: Frames.six(7),
                    to: [0xfe, 0x80] + [UInt8](repeating: 0, count: 13) + [9],
                    [UInt8](repeating: 3, count: 30))
                #expect(socket.send(packet, packet.count))
                try Network.eventually("the packet") { ring.slots.slot(at: 0) != nil }
                let slot = ring.slots.slot(at: 0)!
                #expect(
                    Array(UnsafeRawBufferPointer(start: slot.frame, count: slot.capturedLength))
                        == [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd] + packet)
            }
        }
    }
}
