// Builds packets byte by byte; any field can be made to lie.
// Shares nothing with the code under test: its own layout, its own checksum, libc's address parser.

import IP

public func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

public func wide(_ value: UInt32) -> [UInt8] { word(UInt16(value >> 16)) + word(UInt16(value & 0xffff)) }

/// The one's complement sum of RFC 1071, two bytes at a time; an odd byte counts as the high one.
public func sum(_ bytes: [UInt8]) -> UInt16 {
    var total: UInt32 = 0
    for (index, byte) in bytes.enumerated() {
        total += index % 2 == 0 ? UInt32(byte) * 256 : UInt32(byte)
        if total > 0xffff { total = total - 0x10000 + 1 }
    }
    return UInt16(total)
}

/// An IPv6 extension header. Its first byte is filled in when the chain is laid.
public struct Extension: Sendable {
    public var number: UInt8
    public var bytes: [UInt8]

    public init(number: UInt8, bytes: [UInt8]) {
        self.number = number
        self.bytes = bytes
    }

    public static let hopByHop: UInt8 = 0
    public static let destination: UInt8 = 60

    /// Hop-by-hop or destination options, padded with PadN to a multiple of 8.
    public static func options(_ number: UInt8, _ options: [UInt8]) -> Extension {
        var bytes: [UInt8] = [0, 0] + options
        let missing = (8 - bytes.count % 8) % 8
        if missing == 1 { bytes += [0] }
        if missing > 1 {
            bytes += [1, UInt8(missing - 2)] + [UInt8](repeating: 0, count: missing - 2)
        }
        bytes[1] = UInt8(bytes.count / 8 - 1)
        return Extension(number: number, bytes: bytes)
    }

    public static func routing(type: UInt8 = 0, segmentsLeft: UInt8) -> Extension {
        Extension(
            number: 43,
            bytes: [0, 2, type, segmentsLeft, 0, 0, 0, 0] + [UInt8](repeating: 0x20, count: 16))
    }

    /// `offset` in units of 8 bytes.
    public static func fragment(offset: UInt16, more: Bool, reserved: UInt16 = 0) -> Extension {
        Extension(
            number: 44,
            bytes: [0, 0] + word(offset << 3 | reserved << 1 | (more ? 1 : 0)) + [0, 0, 0, 7])
    }

    public static let authentication = Extension(
        number: 51, bytes: [0, 4] + [UInt8](repeating: 0x11, count: 22))
}

public struct IPHeader: Sendable {
    public var isIPv4: Bool
    public var source: Address
    public var destination: Address
    /// Upper-layer protocol, behind any extension headers.
    public var protocolNumber: UInt8
    public var trafficClass: UInt8 = 0
    public var ttl: UInt8 = 64
    public var identification: UInt16 = 0x1234
    /// IPv4: flags and offset; don't-fragment.
    public var fragment: UInt16 = 0x4000
    public var flowLabel: UInt32 = 0
    /// IPv4; filled up with zeros to a multiple of 4.
    public var options: [UInt8] = []
    public var extensions: [Extension] = []
    // What may lie.
    public var version: UInt8?
    public var headerWords: UInt8?
    /// The total length (IPv4) or payload length (IPv6) field.
    public var lengthField: UInt16?
    public var checksumError: UInt16 = 0

    public init(_ source: String, _ destination: String, protocolNumber: UInt8, isIPv4: Bool) {
        self.isIPv4 = isIPv4
        self.source = ip(source)
        self.destination = ip(destination)
        self.protocolNumber = protocolNumber
    }

    /// - Parameters: addresses of 4 or of 16 bytes.
    public init(from source: [UInt8], to destination: [UInt8], protocolNumber: UInt8) {
        isIPv4 = source.count == 4
        guard let source = Address(bytes: source), let destination = Address(bytes: destination) else {
            preconditionFailure("an address has 4 or 16 bytes")
        }
        self.source = source
        self.destination = destination
        self.protocolNumber = protocolNumber
    }

    private func bytes(_ address: Address) -> [UInt8] {
        isIPv4 || !address.isIPv4
            ? address.bytes : [UInt8](repeating: 0, count: 10) + [255, 255] + address.bytes
    }

    public var addressBytes: [UInt8] { bytes(source) + bytes(destination) }

    public func packet(_ payload: [UInt8]) -> [UInt8] { isIPv4 ? packet4(payload) : packet6(payload) }

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
    public func checksum(_ upper: [UInt8]) -> UInt16 {
        let count = word(UInt16(upper.count >> 16)) + word(UInt16(upper.count & 0xffff))
        return ~sum(addressBytes + count + [0, 0, 0, protocolNumber] + upper)
    }

    /// Whether the upper-layer checksum at `offset` of `upper` holds.
    public func isChecksumGood(_ upper: [UInt8]) -> Bool { checksum(upper) == 0 }
}

public struct TCPSegment: Sendable {
    public var sourcePort: UInt16
    public var destinationPort: UInt16
    public var flags: UInt8
    /// Filled up with zeros (end of options) to a multiple of 4.
    public var options: [UInt8]
    public var headerWords: UInt8?
    public var checksumError: UInt16
    public var payload: [UInt8]
    public var sequence: UInt32
    public var acknowledgement: UInt32
    public var window: UInt16
    public var urgent: UInt16

    /// By default an acknowledgement.
    public init(
        sourcePort: UInt16 = 40000, destinationPort: UInt16 = 80, flags: UInt8 = 0x10, options: [UInt8] = [],
        headerWords: UInt8? = nil, checksumError: UInt16 = 0, payload: [UInt8] = [],
        sequence: UInt32 = 0x0001_0203, acknowledgement: UInt32 = 0x0405_0607, window: UInt16 = 0xfaf0,
        urgent: UInt16 = 0
    ) {
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.flags = flags
        self.options = options
        self.headerWords = headerWords
        self.checksumError = checksumError
        self.payload = payload
        self.sequence = sequence
        self.acknowledgement = acknowledgement
        self.window = window
        self.urgent = urgent
    }

    public static let syn: UInt8 = 0x02

    public static func syn(_ options: [UInt8]) -> TCPSegment {
        TCPSegment(flags: syn, options: options)
    }

    public func segment(_ header: IPHeader) -> [UInt8] {
        let options = options + [UInt8](repeating: 0, count: (4 - options.count % 4) % 4)
        let words = headerWords ?? UInt8(5 + options.count / 4)
        var bytes = word(sourcePort) + word(destinationPort)
        bytes += wide(sequence) + wide(acknowledgement) + [words << 4, flags] + word(window)
        bytes += [0, 0] + word(urgent) + options + payload
        bytes.replaceSubrange(16..<18, with: word(header.checksum(bytes) ^ checksumError))
        return bytes
    }
}

public func mss(_ value: UInt16) -> [UInt8] { [2, 4] + word(value) }

public func udp(
    _ header: IPHeader, from source: UInt16 = 40000, to destination: UInt16, _ payload: [UInt8]
) -> [UInt8] {
    var bytes = word(source) + word(destination) + word(UInt16(8 + payload.count)) + [0, 0]
    bytes += payload
    bytes.replaceSubrange(6..<8, with: word(header.checksum(bytes)))
    return bytes
}

/// An ICMP or ICMPv6 message.
public func icmp(_ header: IPHeader, type: UInt8, code: UInt8 = 0, _ body: [UInt8]) -> [UInt8] {
    var bytes = [type, code, 0, 0, 0, 0, 0x05, 0xb4] + body
    bytes.replaceSubrange(2..<4, with: word(header.isIPv4 ? ~sum(bytes) : header.checksum(bytes)))
    return bytes
}
