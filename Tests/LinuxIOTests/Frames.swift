// Ethernet frames with encapsulated packets, random where it does no harm.

import Forwarding
import Glibc
import IP
import LinuxIO
import TestPackets

enum Frames {
    static func word(_ value: Int) -> [UInt8] { TestPackets.word(UInt16(truncatingIfNeeded: value)) }

    static func ethernet(_ target: [UInt8], _ type: Int, _ payload: [UInt8]) -> [UInt8] {
        target + Network.farAddress + word(type) + payload
    }

    static func ipv4(
        _ number: UInt8, from source: [UInt8], to destination: [UInt8], _ payload: [UInt8],
        fragment: Int = 0x4000, identification: Int = 1
    ) -> [UInt8] {
        var header = IPHeader(from: source, to: destination, protocolNumber: number)
        header.fragment = UInt16(fragment)
        header.identification = UInt16(identification)
        return header.packet(payload)
    }

    static func ipv6(
        _ next: UInt8, from source: [UInt8], to destination: [UInt8], _ payload: [UInt8]
    ) -> [UInt8] {
        IPHeader(from: source, to: destination, protocolNumber: next).packet(payload)
    }

    /// An IPv4 address of 192.0.2.0/24.
    static func four(_ last: UInt8) -> [UInt8] { [192, 0, 2, last] }

    /// An IPv6 address of 2001:db8::/64.
    static func six(_ last: UInt8) -> [UInt8] {
        [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [last]
    }

    /// A datagram in a packet for `Network.near`: its number and as many bytes as asked for.
    static func numbered(_ number: Int, bytes count: Int = 32) -> [UInt8] {
        let udp =
            word(1000 + number) + word(9) + word(8 + count) + [0, 0]
            + word(number) + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: count - 2)
        let inner = ipv4(17, from: [198, 51, 100, 7], to: [203, 0, 113, 4], udp)
        return ethernet(Network.nearAddress, 0x0800, ipv4(4, from: four(1), to: four(2), inner))
    }
}

extension PacketRing {
    /// Lets possible tunnel frames in, and native ones from these addresses of 16 bytes.
    func startReceiving(natives: [[UInt8]] = []) throws {
        try startReceiving(TapFilter.frames(natives: natives.map { Address(bytes: $0)! }))
    }
}
