// Packets byte by byte, for what no network stack would send.

import Foundation
import Glibc

struct IPPacket {
    var source: String
    var destination: String
    var protocolNumber: UInt8
    var payload: [UInt8]
    var ttl: UInt8 = 64
    /// DSCP and ECN.
    var trafficClass: UInt8 = 0
    /// Added to the IPv4 header's checksum, to make it wrong.
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
        var udp = word(40_000) + word(port) + word(UInt16(8 + text.utf8.count)) + [0, 0]
        udp += Array(text.utf8)
        let pseudo = packet.addresses + word(0) + word(UInt16(udp.count)) + word(17)
        udp.replaceSubrange(6..<8, with: word(~sum(pseudo + udp)))
        packet.payload = udp
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
                    + Self.word(UInt16(start) | (start == 0 ? 1 : 0)) + [0, 0] + Self.word(id) + part
            }
            return piece
        }
    }

    private var addresses: [UInt8] { Self.address(source) + Self.address(destination) }

    private static func address(_ text: String) -> [UInt8] {
        let isIPv4 = !text.contains(":")
        var bytes = [UInt8](repeating: 0, count: isIPv4 ? 4 : 16)
        precondition(inet_pton(isIPv4 ? AF_INET : AF_INET6, text, &bytes) == 1, text)
        return bytes
    }

    private static func word(_ value: UInt16) -> [UInt8] {
        [UInt8(value >> 8), UInt8(value & 255)]
    }

    /// RFC 1071.
    private static func sum(_ bytes: [UInt8]) -> UInt16 {
        var total: UInt32 = 0
        for (index, byte) in bytes.enumerated() {
            total += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte)
            total = (total & 0xffff) + (total >> 16)
        }
        return UInt16(total)
    }

    var bytes: [UInt8] {
        if !isIPv4 {
            let first = UInt16(0x6000) | UInt16(trafficClass) << 4
            return Self.word(first) + [0, 0] + Self.word(UInt16(payload.count))
                + [protocolNumber, ttl] + addresses + payload
        }
        var header: [UInt8] = [0x45, trafficClass] + Self.word(UInt16(20 + payload.count))
        header += Self.word(identification) + Self.word(fragment) + [ttl, protocolNumber, 0, 0] + addresses
        let checksum = ~Self.sum(header) &+ checksumError
        header.replaceSubrange(10..<12, with: Self.word(checksum))
        return header + payload
    }

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
