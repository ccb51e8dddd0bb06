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
    /// What memory a datagram takes, for whom.
    private struct Charge {
        let key: [UInt8]
        let remote: Int
        let network: Int
        var cells = 0
    }

    /// In the order in which they were opened.
    private var charges: [Charge] = []
    /// Numbers of remotes and networks.
    private var numbers: [ArraySlice<UInt8>: Int] = [:]
    let timeout: UInt64
    /// Pieces of 256 bytes that fit; nil: as many as there are.
    let cells: Int?
    private(set) var failures = Reassembler.Failures()

    init(timeout: UInt64, cells: Int? = nil) {
        self.timeout = timeout
        self.cells = cells
    }

    /// The oldest go first; where the clock went back, one that is not due keeps those behind it.
    mutating func expire(now: UInt64) {
        while let key = charges.first?.key, let datagram = datagrams[key], now >= datagram.arrival,
            now - datagram.arrival >= timeout
        {
            if !datagram.isRefused { failures.timeout += 1 }
            remove(key)
        }
    }

    mutating func insert(_ piece: OuterFragment, now: UInt64) -> Outcome {
        expire(now: now)
        open(piece.key, now)
        let datagram = datagrams[piece.key]!
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
            refuse(piece.key)
            return .refused(.fragmentOverlap)
        }
        if isDuplicate { return .refused(.duplicateFragment) }
        if datagram.pieces.count == 64 {
            failures.memory += 1
            refuse(piece.key)
            return .refused(.fragmentMemoryLimit)
        }
        let header = piece.offset == 0 ? piece.header.count : 0
        let count = (header + piece.payload.count + 255) / 256
        guard makeRoom(count, for: piece.key) else {
            giveUp(piece.key)
            return .refused(.fragmentMemoryLimit)
        }
        charges[place(piece.key)].cells += count
        datagrams[piece.key]!.pieces.append(piece)
        return .held
    }

    // MARK: Memory

    private func place(_ key: [UInt8]) -> Int { charges.firstIndex { $0.key == key }! }

    private mutating func number(_ prefix: ArraySlice<UInt8>) -> Int {
        if let number = numbers[prefix] { return number }
        numbers[prefix] = numbers.count
        return numbers.count - 1
    }

    private func cells(where isCounted: (Charge) -> Bool) -> Int {
        charges.reduce(0) { $0 + (isCounted($1) ? $1.cells : 0) }
    }

    private mutating func open(_ key: [UInt8], _ now: UInt64) {
        guard datagrams[key] == nil else { return }
        // No more datagrams than cells.
        if datagrams.count == cells { _ = evict(otherThan: []) }
        datagrams[key] = Datagram(arrival: now)
        let isIPv4 = key.count == 11
        charges.append(
            Charge(
                key: key, remote: number(key[..<(isIPv4 ? 4 : 16)]),
                network: number(key[..<(isIPv4 ? 3 : 8)])))
    }

    private mutating func remove(_ key: [UInt8]) {
        datagrams[key] = nil
        charges.remove(at: place(key))
    }

    /// Keeps the key alone, in a cell.
    private mutating func refuse(_ key: [UInt8]) {
        datagrams[key]!.isRefused = true
        datagrams[key]!.pieces = []
        charges[place(key)].cells = 1
    }

    private mutating func giveUp(_ key: [UInt8]) {
        if !datagrams[key]!.isRefused { failures.memory += 1 }
        remove(key)
    }

    /// A remote may have an eighth of the cells, or one datagram of 64 KB.
    private mutating func makeRoom(_ count: Int, for key: [UInt8]) -> Bool {
        guard let cells else { return true }
        let remote = charges[place(key)].remote
        while self.cells(where: { $0.remote == remote }) + count > max(cells / 8, 323) {
            guard let victim = charges.first(where: { $0.key != key && $0.remote == remote }) else {
                return false
            }
            giveUp(victim.key)
        }
        while self.cells(where: { _ in true }) + count > cells {
            guard evict(otherThan: key) else { return false }
        }
        return true
    }

    /// Of the eight oldest the first whose network, then whose remote, has most.
    private mutating func evict(otherThan key: [UInt8]) -> Bool {
        var chosen: [UInt8]?
        var most = (0, 0)
        for candidate in charges.lazy.filter({ $0.key != key }).prefix(8) {
            let weight = (
                cells { $0.network == candidate.network }, cells { $0.remote == candidate.remote }
            )
            if weight > most { (chosen, most) = (candidate.key, weight) }
        }
        guard let chosen else { return false }
        giveUp(chosen)
        return true
    }

    /// Whatever else comes of this datagram, of which there are pieces, is refused.
    /// - Parameter opens: also where there are none.
    mutating func refuse(_ key: [UInt8], opens: Bool, now: UInt64) {
        expire(now: now)
        if opens { open(key, now) }
        guard let datagram = datagrams[key], !datagram.isRefused else { return }
        failures.overlap += 1
        guard !datagram.pieces.isEmpty || makeRoom(1, for: key) else { return remove(key) }
        refuse(key)
    }

    /// What the pieces of that key are together.
    mutating func complete(_ key: [UInt8]) -> Outcome {
        guard let datagram = datagrams[key] else { return .held }
        let pieces = datagram.pieces.sorted { $0.offset < $1.offset }
        guard let first = pieces.first, let last = pieces.last, first.offset == 0, !last.hasMore,
            zip(pieces, pieces.dropFirst()).allSatisfy({ $0.end == $1.offset })
        else { return .held }
        remove(key)
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
