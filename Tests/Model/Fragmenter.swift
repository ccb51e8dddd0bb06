// Cuts packets into outer fragments: mostly well, at times twice, overlapping, or not to the end.

extension PacketGenerator {
    /// A packet in pieces, in order.
    public mutating func nextFragments() -> [Arrival] { cut(nextWhole()) }

    /// The packet in pieces, in order. Empty where it has no header to cut behind.
    mutating func cut(_ arrival: Arrival) -> [Arrival] {
        let bytes = arrival.bytes
        let isIPv4 = arrival.etherType == 0x0800
        guard bytes.count > (isIPv4 ? 28 : 48) else { return [] }
        var header = isIPv4 ? min(20, bytes.count) : 40
        var namedAt = 6
        if isIPv4 {
            header = min(max(Int(bytes[0] & 15) * 4, 20), bytes.count - 1)
        } else {
            // Some headers of the chain go with every fragment.
            while [0, 60, 43].contains(bytes[namedAt]), header + 16 < bytes.count, random.chance(2) {
                namedAt = header
                header += (Int(bytes[header + 1]) + 1) * 8
            }
            guard header + 8 < bytes.count else { return [] }
        }
        let identification = random.chance(3) ? random.below(16) : random.below(65536)
        let payload = Array(bytes[header...])
        var pieces: [Arrival] = []
        for range in ranges(payload.count) {
            var piece = arrival
            piece.vnet = random.percent(97) ? .init() : arrival.vnet
            let field = range.lowerBound / 8 * (isIPv4 ? 1 : 8)
            let hasMore = (range.upperBound < payload.count) != random.percent(1)
            writer.bytes = Array(bytes[..<header])
            if isIPv4 {
                writer.set(identification, at: 4)
                writer.set(field | (hasMore ? 0x2000 : 0), at: 6)
            } else {
                writer.bytes += [bytes[namedAt], 0, 0, 0, 0, 0, 0, 0]
                writer.bytes[namedAt] = 44
                writer.set(field | (hasMore ? 1 : 0), at: header + 2)
                writer.set(identification, at: header + 6)
            }
            let place = isIPv4 ? 1 : 0
            if random.percent(4) {
                if isIPv4 {
                    writer.bytes[place] ^= random.byte() & 3
                } else {
                    writer.bytes[1] ^= random.byte() & 0x30
                }
            }
            writer.bytes += payload[range]
            writer.set(writer.bytes.count - (isIPv4 ? 0 : 40), at: isIPv4 ? 2 : 4)
            if isIPv4 { writer.sumHeader(at: 0) }
            piece.bytes = writer.bytes
            pieces.append(piece)
        }
        return pieces
    }

    private mutating func ranges(_ count: Int) -> [Range<Int>] {
        let isFine = random.chance(count > 512 ? 3 : 40)
        let step = isFine ? 8 : 8 * (1 + random.below(count > 600 ? 60 : 8))
        var ranges: [Range<Int>] = []
        var start = 0
        while start < count {
            var end = min(start + step, count)
            // Beyond the next one's start, or before it.
            if random.percent(2) { end = min(max(end + 8 * (random.below(5) - 2), start + 1), count) }
            ranges.append(start..<end)
            start += step
        }
        return ranges
    }

    /// One of the fragments that wait, and what else happens to it.
    mutating func nextFragment() -> Arrival {
        let place = random.chance(2) ? 0 : random.below(waiting.count)
        let arrival = waiting[place]
        switch random.below(40) {
        case 0: break  // It comes again.
        case 1: waiting.removeAll()  // The rest is lost.
        default: waiting.remove(at: place)
        }
        return arrival
    }
}
