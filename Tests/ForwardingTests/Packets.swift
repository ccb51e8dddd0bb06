// Builds packets byte by byte, in all four modes; any field can be made to lie.
// Shares nothing with the code under test: its own layout, its own checksum, libc's address parser.

import Glibc
import IP

@testable import Forwarding

func ip(_ text: String) -> Address {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 { return Address(bytes: bytes[..<4])! }
    precondition(inet_pton(AF_INET6, text, &bytes) == 1, "\(text) is no address")
    return Address(bytes: bytes)!
}

/// `ADDRESS/LENGTH`, or an address alone.
func prefix(_ text: String) -> Prefix {
    let parts = text.split(separator: "/")
    let address = ip(String(parts[0]))
    return parts.count == 1 ? Prefix(host: address) : Prefix(address, length: Int(parts[1])!)!
}

func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

func wide(_ value: UInt32) -> [UInt8] { word(UInt16(value >> 16)) + word(UInt16(value & 0xffff)) }

/// The one's complement sum of RFC 1071, two bytes at a time; an odd byte counts as the high one.
func sum(_ bytes: [UInt8]) -> UInt16 {
    var total: UInt32 = 0
    for (index, byte) in bytes.enumerated() {
        total += index % 2 == 0 ? UInt32(byte) * 256 : UInt32(byte)
        if total > 0xffff { total = total - 0x10000 + 1 }
    }
    return UInt16(total)
}

/// An IPv6 extension header. Its first byte is filled in when the chain is laid.
struct Extension {
    var number: UInt8
    var bytes: [UInt8]

    static let hopByHop: UInt8 = 0
    static let destination: UInt8 = 60

    /// Hop-by-hop or destination options, padded with PadN to a multiple of 8.
    static func options(_ number: UInt8, _ options: [UInt8]) -> Extension {
        var bytes: [UInt8] = [0, 0] + options
        let missing = (8 - bytes.count % 8) % 8
        if missing == 1 { bytes += [0] }
        if missing > 1 {
            bytes += [1, UInt8(missing - 2)] + [UInt8](repeating: 0, count: missing - 2)
        }
        bytes[1] = UInt8(bytes.count / 8 - 1)
        return Extension(number: number, bytes: bytes)
    }

    static func routing(type: UInt8 = 0, segmentsLeft: UInt8) -> Extension {
        Extension(
            number: 43,
            bytes: [0, 2, type, segmentsLeft, 0, 0, 0, 0] + [UInt8](repeating: 0x20, count: 16))
    }

    /// `offset` in units of 8 bytes.
    static func fragment(offset: UInt16, more: Bool, reserved: UInt16 = 0) -> Extension {
        Extension(
            number: 44,
            bytes: [0, 0] + word(offset << 3 | reserved << 1 | (more ? 1 : 0)) + [0, 0, 0, 7])
    }

    static let authentication = Extension(
        number: 51, bytes: [0, 4] + [UInt8](repeating: 0x11, count: 22))
}

struct IPHeader {
    var isIPv4: Bool
    var source: Address
    var destination: Address
    /// Upper-layer protocol, behind any extension headers.
    var protocolNumber: UInt8
    var trafficClass: UInt8 = 0
    var ttl: UInt8 = 64
    var identification: UInt16 = 0x1234
    /// IPv4: flags and offset; don't-fragment.
    var fragment: UInt16 = 0x4000
    var flowLabel: UInt32 = 0
    /// IPv4; filled up with zeros to a multiple of 4.
    var options: [UInt8] = []
    var extensions: [Extension] = []
    // What may lie.
    var version: UInt8?
    var headerWords: UInt8?
    /// The total length (IPv4) or payload length (IPv6) field.
    var lengthField: UInt16?
    var checksumError: UInt16 = 0

    init(_ source: String, _ destination: String, protocolNumber: UInt8, isIPv4: Bool) {
        self.isIPv4 = isIPv4
        self.source = ip(source)
        self.destination = ip(destination)
        self.protocolNumber = protocolNumber
    }

    private func bytes(_ address: Address) -> [UInt8] {
        isIPv4 || !address.isIPv4
            ? address.bytes : [UInt8](repeating: 0, count: 10) + [255, 255] + address.bytes
    }

    var addressBytes: [UInt8] { bytes(source) + bytes(destination) }

    func packet(_ payload: [UInt8]) -> [UInt8] { isIPv4 ? packet4(payload) : packet6(payload) }

    private func packet4(_ payload: [UInt8]) -> [UInt8] {
        let options = options + [UInt8](repeating: 0, count: (4 - options.count % 4) % 4)
        let length = 20 + options.count
        var header: [UInt8] = [
            (version ?? 4) << 4 | (headerWords ?? UInt8(length / 4)), trafficClass,
        ]
        header += word(lengthField ?? UInt16(length + payload.count))
        header += word(identification) + word(fragment) + [ttl, protocolNumber, 0, 0]
        header += addressBytes + options
        let checksum = ~sum(header) ^ checksumError
        header.replaceSubrange(10..<12, with: word(checksum))
        return header + payload
    }

    private func packet6(_ payload: [UInt8]) -> [UInt8] {
        var chain: [UInt8] = []
        for (index, header) in extensions.enumerated() {
            let next = index + 1 < extensions.count ? extensions[index + 1].number : protocolNumber
            chain += [next] + header.bytes.dropFirst()
        }
        let first = UInt32(version ?? 6) << 28 | UInt32(trafficClass) << 20 | flowLabel
        return word(UInt16(first >> 16)) + word(UInt16(first & 0xffff))
            + word(lengthField ?? UInt16(chain.count + payload.count))
            + [extensions.first?.number ?? protocolNumber, ttl] + addressBytes + chain + payload
    }

    /// The checksum of an upper-layer packet whose checksum field holds zero.
    func checksum(_ upper: [UInt8]) -> UInt16 {
        let count = word(UInt16(upper.count >> 16)) + word(UInt16(upper.count & 0xffff))
        return ~sum(addressBytes + count + [0, 0, 0, protocolNumber] + upper)
    }

    /// Whether the upper-layer checksum at `offset` of `upper` holds.
    func isChecksumGood(_ upper: [UInt8]) -> Bool { checksum(upper) == 0 }
}

struct TCPHeader {
    var sourcePort: UInt16 = 40000
    var destinationPort: UInt16 = 80
    var flags: UInt8 = 0x10
    /// Filled up with zeros (end of options) to a multiple of 4.
    var options: [UInt8] = []
    var headerWords: UInt8?
    var checksumError: UInt16 = 0
    var payload: [UInt8] = []
    var sequence: UInt32 = 0x0001_0203
    var acknowledgement: UInt32 = 0x0405_0607
    var window: UInt16 = 0xfaf0
    var urgent: UInt16 = 0

    static let syn: UInt8 = 0x02

    static func syn(_ options: [UInt8]) -> TCPHeader {
        TCPHeader(flags: syn, options: options)
    }

    func segment(_ header: IPHeader) -> [UInt8] {
        let options = options + [UInt8](repeating: 0, count: (4 - options.count % 4) % 4)
        let words = headerWords ?? UInt8(5 + options.count / 4)
        var bytes = word(sourcePort) + word(destinationPort)
        bytes += wide(sequence) + wide(acknowledgement) + [words << 4, flags] + word(window)
        bytes += [0, 0] + word(urgent) + options + payload
        bytes.replaceSubrange(16..<18, with: word(header.checksum(bytes) ^ checksumError))
        return bytes
    }
}

func mss(_ value: UInt16) -> [UInt8] { [2, 4] + word(value) }

func udp(
    _ header: IPHeader, from source: UInt16 = 40000, to destination: UInt16, _ payload: [UInt8]
) -> [UInt8] {
    var bytes = word(source) + word(destination) + word(UInt16(8 + payload.count)) + [0, 0]
    bytes += payload
    bytes.replaceSubrange(6..<8, with: word(header.checksum(bytes)))
    return bytes
}

/// An ICMP or ICMPv6 message.
func icmp(_ header: IPHeader, type: UInt8, code: UInt8 = 0, _ body: [UInt8]) -> [UInt8] {
    var bytes = [type, code, 0, 0, 0, 0, 0x05, 0xb4] + body
    bytes.replaceSubrange(2..<4, with: word(header.isIPv4 ? ~sum(bytes) : header.checksum(bytes)))
    return bytes
}

/// A packet in a packet, as the tests' tunnel takes it.
struct Encapsulated {
    var mode: Mode
    var outer: IPHeader
    var inner: IPHeader
    /// Behind the inner header (and its extension headers).
    var payload: [UInt8]
    /// Behind the outer packet: what Ethernet fills a short frame up with.
    var padding: [UInt8] = []

    /// From an allowed remote to `local`; inside, an acknowledgement from a client to a pod.
    init(_ mode: Mode) {
        self.mode = mode
        let number: UInt8 = mode.innerIsIPv4 ? 4 : 41
        outer =
            mode.outerIsIPv4
            ? IPHeader("198.51.100.1", "192.0.2.2", protocolNumber: number, isIPv4: true)
            : IPHeader("2001:db8:5::1", "2001:db8::2", protocolNumber: number, isIPv4: false)
        inner =
            mode.innerIsIPv4
            ? IPHeader("203.0.113.7", "10.2.1.9", protocolNumber: 6, isIPv4: true)
            : IPHeader("2001:db8:c::7", "2001:db8:2::9", protocolNumber: 6, isIPv4: false)
        payload = []
        carry(TCPHeader(payload: [1, 2, 3, 4, 5, 6, 7, 8, 9]))
    }

    /// With an inner packet of a multiple of 8 bytes, as a fragment that is not the last carries.
    static func even(_ mode: Mode) -> Encapsulated {
        Encapsulated(mode).with {
            $0.carry(TCPHeader(payload: [UInt8](repeating: 1, count: $0.inner.isIPv4 ? 8 : 4)))
        }
    }

    mutating func carry(_ header: TCPHeader) {
        inner.protocolNumber = 6
        payload = header.segment(inner)
    }

    /// What the outer header carries.
    var innerPacket: [UInt8] { inner.packet(payload) }
    var packet: [UInt8] { outer.packet(innerPacket) + padding }
    /// Bytes before the inner packet.
    var outerLength: Int { packet.count - padding.count - innerPacket.count }

    /// The same, after a change.
    func with(_ change: (inout Encapsulated) -> Void) -> Encapsulated {
        var copy = self
        change(&copy)
        return copy
    }
}
