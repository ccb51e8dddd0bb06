// Ethernet frames with encapsulated packets, random where it does no harm.

import Forwarding
import Glibc
import IP
import LinuxIO

/// SplitMix64: the same numbers for the same seed everywhere.
struct Random: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    /// True once in `often`.
    mutating func chance(_ often: Int) -> Bool { below(often) == 0 }
    mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}

enum Frames {
    static func word(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }

    static func ethernet(_ target: [UInt8], _ type: Int, _ payload: [UInt8]) -> [UInt8] {
        target + Network.farAddress + word(type) + payload
    }

    static func ipv4(
        _ number: UInt8, from source: [UInt8], to destination: [UInt8], _ payload: [UInt8],
        fragment: Int = 0x4000, identification: Int = 1
    ) -> [UInt8] {
        var header: [UInt8] = [0x45, 0] + word(20 + payload.count) + word(identification)
        header += word(fragment)
        header += [64, number, 0, 0] + source + destination
        var sum = 0
        for index in stride(from: 0, to: 20, by: 2) {
            sum += Int(header[index]) << 8 | Int(header[index + 1])
        }
        while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
        header.replaceSubrange(10..<12, with: word(~sum & 0xffff))
        return header + payload
    }

    static func ipv6(
        _ next: UInt8, from source: [UInt8], to destination: [UInt8], _ payload: [UInt8]
    ) -> [UInt8] {
        [0x60, 0, 0, 0] + word(payload.count) + [next, 64] + source + destination + payload
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
