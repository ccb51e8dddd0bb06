// Packets byte by byte, for what no network stack would send.

import Foundation
import TestPackets

struct IPPacket {
    var source: String
    var destination: String
    var protocolNumber: UInt8
    var payload: [UInt8]
    var ttl: UInt8 = 64
    /// DSCP and ECN.
    var trafficClass: UInt8 = 0
    /// Bits of the IPv4 header's checksum that are wrong.
    var checksumError: UInt16 = 0
    /// Flags and offset of IPv4.
    var fragment: UInt16 = 0x4000
    /// Of IPv4.
    var identification: UInt16 = 0x1234

    var isIPv4: Bool { !destination.contains(":") }

    static let port: UInt16 = 4242

    /// A datagram that nobody answers: the port is open nowhere.
    static func datagram(
        _ source: String, _ destination: String, port: UInt16 = port, _ text: String = "shuck"
    ) -> IPPacket {
        var packet = IPPacket(
            source: source, destination: destination, protocolNumber: 17, payload: [])
        packet.payload = udp(packet.header, to: port, Array(text.utf8))
        return packet
    }

    /// This packet in another.
    func wrapped(from remote: String, to local: String, trafficClass: UInt8 = 0) -> IPPacket {
        IPPacket(
            source: remote, destination: local, protocolNumber: isIPv4 ? 4 : 41, payload: bytes,
            trafficClass: trafficClass)
    }

    /// As the balancer sends it in this mode.
    func wrapped(_ mode: Mode, trafficClass: UInt8 = 0) -> IPPacket {
        mode.outerIsIPv4
            ? wrapped(from: Rig.balancer4, to: Rig.node4, trafficClass: trafficClass)
            : wrapped(from: Rig.balancer6, to: Rig.node6, trafficClass: trafficClass)
    }

    /// This packet in two, the second from byte `offset` (a multiple of 8) of its payload on.
    func cut(at offset: Int, id: UInt16) -> [IPPacket] {
        [(0, payload[..<offset]), (offset, payload[offset...])].map { start, part in
            var piece = self
            if isIPv4 {
                piece.identification = id
                piece.fragment = UInt16(start / 8) | (start == 0 ? 0x2000 : 0)
                piece.payload = Array(part)
            } else {
                piece.protocolNumber = 44
                piece.payload =
                    [protocolNumber, 0]
                    + word(UInt16(start) | (start == 0 ? 1 : 0)) + [0, 0] + word(id) + part
            }
            return piece
        }
    }

    private var header: IPHeader {
        var header = IPHeader(source, destination, protocolNumber: protocolNumber, isIPv4: isIPv4)
        header.trafficClass = trafficClass
        header.ttl = ttl
        header.identification = identification
        header.fragment = fragment
        header.checksumError = checksumError
        return header
    }

    var bytes: [UInt8] { header.packet(payload) }

    /// An Ethernet frame from the balancer to the node, in hexadecimal.
    var frame: String {
        let header = "020000000202" + "020000000201" + (isIPv4 ? "0800" : "86dd")
        return header + bytes.map { String(format: "%02x", $0) }.joined()
    }
}

extension Rig {
    /// Sends frames from the balancer to the node, past everything that would wrap them.
    /// - Parameter pause: µs between two, so that the link's queue takes them all.
    func send(
        _ packets: [IPPacket], repeat count: Int = 1, through link: String = "back", pause: Int = 0
    ) throws {
        let path = "\(directory)/frames"
        try packets.map { $0.frame + "\n" }.joined().write(
            toFile: path, atomically: false, encoding: .utf8)
        try run(
            .balancer, "sh", "-c",
            "exec \"$0\" send-raw \"$3\" --repeat \"$1\" --interval-us \"$4\" <\"$2\"", Tools.lab,
            "\(count)", path, link, "\(pause)")
    }
}
