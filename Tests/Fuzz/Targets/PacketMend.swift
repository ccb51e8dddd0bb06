// Finds the headers of a packet in a packet and makes their lengths and checksums true again.

struct PacketMend {
    var bytes: [UInt8]
    /// Where the packet begins.
    let start: Int

    /// Where headers begin: outer, its extension headers, inner, its extension headers, transport.
    var headers: [Int] {
        var found = [start]
        var offset = start
        for _ in 0..<2 {
            guard let next = chain(at: offset, &found), next < bytes.count else { break }
            offset = next
        }
        return found
    }

    /// Where the inner packet begins; nil without one.
    var inner: Int? {
        var found: [Int] = []
        return chain(at: start, &found).flatMap { $0 < bytes.count ? $0 : nil }
    }

    /// Appends where the headers behind the IP header at `offset` begin.
    /// - Returns: where the last of them begins.
    private func chain(at offset: Int, _ found: inout [Int]) -> Int? {
        guard offset < bytes.count else { return nil }
        if bytes[offset] >> 4 == 4 {
            let next = offset + Int(bytes[offset] & 15) * 4
            if next < bytes.count { found.append(next) }
            return next
        }
        guard bytes[offset] >> 4 == 6, offset + 40 <= bytes.count else { return nil }
        var number = bytes[offset + 6]
        var next = offset + 40
        while next + 8 <= bytes.count, [0, 43, 44, 60].contains(number), found.count < 40 {
            found.append(next)
            number = bytes[next]
            next += number == 44 ? 8 : (Int(bytes[next + 1]) + 1) * 8
        }
        if next < bytes.count { found.append(next) }
        return next
    }

    mutating func mendAll() {
        if let inner { mend(at: inner) }
        mend(at: start)
    }

    /// The IP header at `offset` gets the length of all that follows, and its checksum.
    mutating func mend(at offset: Int) {
        let length = bytes.count - offset
        guard length >= 20, length < 65536 else { return }
        if bytes[offset] >> 4 == 6 {
            guard length >= 40 else { return }
            set(length - 40, at: offset + 4)
        } else if bytes[offset] >> 4 == 4 {
            set(length, at: offset + 2)
            set(0, at: offset + 10)
            let end = min(offset + max(Int(bytes[offset] & 15) * 4, 20), bytes.count)
            var sum = 0
            for index in stride(from: offset, to: end - 1, by: 2) {
                sum += Int(bytes[index]) << 8 | Int(bytes[index + 1])
            }
            while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
            set(~sum & 0xffff, at: offset + 10)
        }
    }

    private mutating func set(_ value: Int, at offset: Int) {
        bytes[offset] = UInt8(value >> 8 & 255)
        bytes[offset + 1] = UInt8(value & 255)
    }
}
