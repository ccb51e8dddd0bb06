// Lays packets into one array, front to back; lengths and checksums are filled in afterwards.

import IP

struct PacketWriter {
    var bytes: [UInt8] = []

    struct Header {
        var isIPv4: Bool
        var start: Int
        /// Behind options; extension headers count as payload.
        var end: Int
    }

    mutating func put(_ value: Int) {
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }

    mutating func set(_ value: Int, at offset: Int) {
        bytes[offset] = UInt8(truncatingIfNeeded: value >> 8)
        bytes[offset + 1] = UInt8(truncatingIfNeeded: value)
    }

    mutating func put(_ address: Address, isIPv4: Bool) {
        if isIPv4 {
            put(Int(address.ipv4 >> 16))
            put(Int(address.ipv4 & 0xffff))
            return
        }
        for half in [address.high, address.low] {
            for shift in [48, 32, 16, 0] { put(Int(truncatingIfNeeded: half >> UInt64(shift))) }
        }
    }

    mutating func putHeader(
        isIPv4: Bool, from source: Address, to destination: Address, number: UInt8,
        trafficClass: UInt8, ttl: UInt8, fragment: Int, options: [UInt8]
    ) -> Header {
        let start = bytes.count
        if isIPv4 {
            bytes.append(0x45 + UInt8(options.count / 4))
            bytes.append(trafficClass)
            put(0)
            put(0x1234)
            put(fragment)
            bytes.append(ttl)
            bytes.append(number)
            put(0)
        } else {
            bytes.append(0x60 | trafficClass >> 4)
            bytes.append(trafficClass << 4 | 7)
            put(0x89ab)
            put(0)
            bytes.append(number)
            bytes.append(ttl)
        }
        put(source, isIPv4: isIPv4)
        put(destination, isIPv4: isIPv4)
        if isIPv4 { bytes += options }
        return Header(isIPv4: isIPv4, start: start, end: bytes.count)
    }

    /// Gives the header the length of what has been put behind it, and its checksum.
    mutating func close(_ header: Header) {
        if header.isIPv4 {
            set(bytes.count - header.start, at: header.start + 2)
            sumHeader(at: header.start)
        } else {
            set(bytes.count - header.start - 40, at: header.start + 4)
        }
    }

    /// The checksum of an IPv4 header, if there is room for one.
    mutating func sumHeader(at start: Int) {
        guard start + 20 <= bytes.count else { return }
        let end = start + Int(bytes[start] & 15) * 4
        guard end >= start + 20, end <= bytes.count else { return }
        set(0, at: start + 10)
        set(0xffff - onesComplementSum(bytes[start..<end]), at: start + 10)
    }

    /// The checksum of an upper layer that begins at `start`, behind `header`.
    mutating func sumUpper(
        _ header: Header, number: UInt8, at start: Int, checksumAt place: Int, pseudoOnly: Bool
    ) {
        let addresses =
            header.isIPv4
            ? header.start + 12..<header.start + 20 : header.start + 8..<header.start + 40
        let length = bytes.count - start
        set(0, at: place)
        let hasPseudoHeader = number != 1
        var sum = pseudoOnly ? 0 : onesComplementSum(bytes[start...])
        if hasPseudoHeader {
            sum += onesComplementSum(bytes[addresses]) + Int(number) + length % 65536 + length / 65536
        }
        while sum > 0xffff { sum = sum % 65536 + sum / 65536 }
        set(pseudoOnly ? sum : 0xffff - sum, at: place)
    }
}
