// Outer fragments, the slow way: a list of pieces for each datagram, put together when all are there.

import Forwarding

struct Reassembly {
    enum Outcome {
        case held
        case refused(DropReason)
        case whole([UInt8])
    }

    private struct Datagram {
        var arrival: UInt64
        var pieces: [OuterFragment] = []
        /// Overlapped: what still comes of it is refused.
        var isRefused = false
    }

    private var datagrams: [[UInt8]: Datagram] = [:]
    let timeout: UInt64
    private(set) var failures = Reassembler.Failures()

    init(timeout: UInt64) { self.timeout = timeout }

    mutating func expire(now: UInt64) {
        if datagrams.isEmpty { return }
        for (key, datagram) in datagrams where now - datagram.arrival >= timeout {
            if !datagram.isRefused { failures.timeout += 1 }
            datagrams[key] = nil
        }
    }

    mutating func insert(_ piece: OuterFragment, now: UInt64) -> Outcome {
        var datagram = datagrams[piece.key] ?? Datagram(arrival: now)
        defer { datagrams[piece.key] = datagram }
        if datagram.isRefused { return .refused(.fragmentOverlap) }
        let isDuplicate = datagram.pieces.contains {
            $0.offset == piece.offset && $0.payload.count == piece.payload.count
                && (piece.hasMore || !$0.hasMore)
        }
        let isWrong = datagram.pieces.contains { other in
            let meets = other.offset < piece.end && piece.offset < other.end && !isDuplicate
            let isBehindEnd =
                (!other.hasMore && piece.end > other.end)
                || (!piece.hasMore && other.end > piece.end)
            let isOtherEnd = !other.hasMore && !piece.hasMore && other.end != piece.end
            return meets || isBehindEnd || isOtherEnd
        }
        if isWrong {
            failures.overlap += 1
            datagram.isRefused = true
            datagram.pieces = []
            return .refused(.fragmentOverlap)
        }
        if isDuplicate { return .refused(.duplicateFragment) }
        datagram.pieces.append(piece)
        return .held
    }

    /// Whatever else comes of this datagram, of which there are pieces, is refused.
    /// - Parameter opens: also where there are none.
    mutating func refuse(_ key: [UInt8], opens: Bool, now: UInt64) {
        guard var datagram = datagrams[key] ?? (opens ? Datagram(arrival: now) : nil),
            !datagram.isRefused
        else { return }
        failures.overlap += 1
        datagram.isRefused = true
        datagram.pieces = []
        datagrams[key] = datagram
    }

    /// What the pieces of that key are together; refuses what has too many.
    mutating func complete(_ key: [UInt8]) -> Outcome {
        guard let datagram = datagrams[key] else { return .held }
        if datagram.pieces.count > 64 {
            failures.memory += 1
            datagrams[key]!.isRefused = true
            datagrams[key]!.pieces = []
            return .refused(.fragmentMemoryLimit)
        }
        let pieces = datagram.pieces.sorted { $0.offset < $1.offset }
        guard let first = pieces.first, let last = pieces.last, first.offset == 0, !last.hasMore,
            zip(pieces, pieces.dropFirst()).allSatisfy({ $0.end == $1.offset })
        else { return .held }
        datagrams[key] = nil
        let isIPv4 = key.count == 11
        let payload = pieces.flatMap(\.payload)
        var whole = first.header + payload
        // An IPv6 length leaves out the first 40 bytes, extension headers it counts.
        let length = whole.count - (isIPv4 ? 0 : 40)
        if length > 0xffff { return .refused(.invalidHeader) }
        guard let ecn = Self.congestion(pieces.map(\.ecn), first: first.ecn) else {
            return .refused(.tunnelECN)
        }
        let place = isIPv4 ? 2 : 4
        whole[place] = UInt8(length / 256)
        whole[place + 1] = UInt8(length % 256)
        if isIPv4 {
            whole[1] = whole[1] & 0xfc + ecn
            // More-fragments and the offset go; don't-fragment stays.
            whole[6] &= 0xc0
            whole[7] = 0
            whole[10] = 0
            whole[11] = 0
            let checksum = 0xffff - onesComplementSum(whole[..<first.header.count])
            whole[10] = UInt8(checksum / 256)
            whole[11] = UInt8(checksum % 256)
        } else {
            whole[1] = whole[1] & 0xcf + ecn * 16
        }
        return .whole(whole)
    }

    /// RFC 3168 §5.3: congestion of one is congestion of all, but only where all could tell.
    private static func congestion(_ marks: [UInt8], first: UInt8) -> UInt8? {
        if marks.allSatisfy({ $0 == 0 }) { return 0 }
        if marks.contains(0) { return nil }
        return marks.contains(3) ? 3 : first
    }
}
