// Textbook pieces: 16-bit words, the Internet checksum, prefixes compared byte by byte.

import IP

func word(_ bytes: [UInt8], _ offset: Int) -> Int {
    Int(bytes[offset]) * 256 + Int(bytes[offset + 1])
}

/// RFC 1071: the one's complement sum of 16-bit words; an odd last byte counts as a high one.
func onesComplementSum(_ bytes: some Collection<UInt8>) -> Int {
    var total = 0
    var isHigh = true
    for byte in bytes {
        total += isHigh ? Int(byte) * 256 : Int(byte)
        isHigh.toggle()
    }
    while total > 0xffff { total = total % 0x10000 + total / 0x10000 }
    return total
}

/// A prefix in network byte order: 4 bytes or 16.
struct Network {
    let bytes: [UInt8]
    let length: Int

    init(_ prefix: Prefix) {
        bytes = prefix.address.bytes
        length = prefix.length
    }

    init(_ bytes: [UInt8], _ length: Int) {
        self.bytes = bytes
        self.length = length
    }

    var isHost: Bool { length == bytes.count * 8 }

    func holds(_ address: [UInt8]) -> Bool {
        guard address.count == bytes.count else { return false }
        var remaining = length
        for index in 0..<bytes.count where remaining > 0 {
            let mask = remaining >= 8 ? 0xff : ~(UInt8(0xff) >> UInt8(remaining))
            if (address[index] ^ bytes[index]) & mask != 0 { return false }
            remaining -= 8
        }
        return true
    }
}

extension [Network] {
    func hold(_ address: [UInt8]) -> Bool { contains { $0.holds(address) } }
}

/// RFC 1812 §5.3.7, RFC 6890, RFC 4213 §3.6.
enum Unroutable {
    static let martians: [Network] = [
        Network([0, 0, 0, 0], 8), Network([127, 0, 0, 0], 8), Network([169, 254, 0, 0], 16),
        Network([224, 0, 0, 0], 4), Network([240, 0, 0, 0], 4),
        // ::/96 with :: and ::1, IPv4-mapped addresses, multicast, site-local.
        ipv6([], 96), ipv6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255], 96), ipv6([255], 8),
        ipv6([0xfe, 0xc0], 10),
    ]
    static let linkLocal = ipv6([0xfe, 0x80], 10)

    /// I5: the IPv4 address within one of 6to4, 2002::/16, or of NAT64, 64:ff9b::/96.
    static func held(by address: [UInt8]) -> [UInt8]? {
        if address.starts(with: [0x20, 2]) && address.count == 16 { return Array(address[2..<6]) }
        return address.starts(with: [0, 0x64, 0xff, 0x9b] + [UInt8](repeating: 0, count: 8))
            ? Array(address[12...]) : nil
    }

    private static func ipv6(_ start: [UInt8], _ length: Int) -> Network {
        Network(start + [UInt8](repeating: 0, count: 16 - start.count), length)
    }
}
