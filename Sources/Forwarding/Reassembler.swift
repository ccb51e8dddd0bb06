// Outer fragments kept until their datagram is whole, in one worker's own memory.
// All memory is allocated once; a quota for each remote keeps a flood from starving the others.

import Routing

/// One outer fragment that the judge has found well-formed and ours.
struct Fragment {
    var key: DatagramKey
    /// Of the payload, in bytes from the datagram's first one.
    var offset: Int
    var payload: Bytes
    /// RFC 791 §3.1 MF, RFC 8200 §4.5 M.
    var moreFragments: Bool
    /// The two ECN bits of this fragment's outer header.
    var ecn: UInt8
    /// Of the first fragment: the outer header, for IPv6 the unfragmentable part. Else empty.
    var header: Bytes
    /// IPv6: the byte of `header` that names the fragment header, and what takes its place.
    var nextHeaderAt: Int
    var nextHeader: UInt8

    @inline(__always)
    var end: Int { offset &+ payload.count }
}

/// What fragments of one datagram share: RFC 791 §3.2 for IPv4, RFC 8200 §4.5 for IPv6.
struct DatagramKey: BitwiseCopyable, Equatable {
    var source: Address
    var destination: Address
    var identification: UInt32
    /// IPv4: the protocol number. IPv6: `ipv6`, for there it is not part of the key.
    var protocolNumber: UInt16

    static let ipv6: UInt16 = 256
}

/// Fragments that wait for the rest of their datagram. One worker's; not thread-safe.
public final class Reassembler {
    /// Datagrams that never became whole, by cause. Grow only.
    public struct Failures: BitwiseCopyable, Sendable, Equatable {
        /// Two fragments claimed the same bytes, or two ends (RFC 5722).
        public var overlap: UInt64 = 0
        /// Given up for want of memory, of the remote's quota, or for too many fragments.
        public var memory: UInt64 = 0
        public var timeout: UInt64 = 0
        @inlinable
        public init() {}
    }

    enum Outcome: Equatable {
        case held
        case refused(DropReason)
        /// Whole: so many bytes, in memory that stays until `recycle`.
        case whole(UnsafeRawPointer, Int)
    }

    private struct Piece {
        var offset: UInt32
        var length: UInt32
        var cell: UInt32
        var next: UInt32
    }

    private struct Datagram {
        var key: DatagramKey
        /// Nanoseconds at which the first of its fragments came.
        var arrival: UInt64
        var remote: UInt32
        var bucketNext: UInt32
        /// Neighbours in order of arrival.
        var older: UInt32
        var newer: UInt32
        /// Where it stands among those that are in use.
        var place: UInt32
        var firstPiece: UInt32
        var lastPiece: UInt32
        /// Holds the header once the first fragment has come.
        var headerCell: UInt32
        var pieces: UInt32
        var cells: UInt32
        var received: UInt32
        /// Bytes of the whole payload; `unknown` until the last fragment came.
        var total: UInt32
        /// 0: the first fragment has not come.
        var headerLength: UInt16
        /// Bit n: a fragment with ECN codepoint n came.
        var codepoints: UInt8
        /// Overlapped: whatever else comes of it is refused until its time is over (RFC 5722 §4).
        var isRefused: Bool

        static let unknown = UInt32.max
    }

    private struct Remote {
        var source: Address
        var bucketNext: UInt32
        var cells: UInt32
        var datagrams: UInt32
    }

    private static let none = UInt32.max
    private static let cellBytes = 512
    /// Of a cell with its share of the bookkeeping.
    private static let bytesPerCell = cellBytes + 2 * MemoryLayout<UInt32>.stride
        + MemoryLayout<Piece>.stride + MemoryLayout<Datagram>.stride
        + MemoryLayout<Remote>.stride + 4 * MemoryLayout<UInt32>.stride
    /// One datagram of 64 KB always fits, its header and a half-filled cell a piece included.
    private static let cellsMin = 65_536 / cellBytes + Limits.fragments + 1

    public private(set) var failures = Failures()
    private let timeout: UInt64
    /// Cells that one remote may hold.
    private let quota: UInt32
    private let cells: UnsafeMutableRawPointer
    private let cellNext: UnsafeMutablePointer<UInt32>
    private let pieces: UnsafeMutablePointer<Piece>
    private let datagrams: UnsafeMutablePointer<Datagram>
    private let remotes: UnsafeMutablePointer<Remote>
    private let used: UnsafeMutablePointer<UInt32>
    private let datagramBuckets: UnsafeMutablePointer<UInt32>
    private let remoteBuckets: UnsafeMutablePointer<UInt32>
    private let bucketMask: UInt64
    /// Whole datagrams of the batch in work. Pages that were never needed are never touched.
    private let staging: UnsafeMutableRawPointer
    private var staged = 0

    private var freeCell: UInt32 = 0
    private var freeCells: UInt32
    private var freePiece: UInt32 = 0
    private var freeDatagram: UInt32 = 0
    private var freeRemote: UInt32 = 0
    private var usedCount: UInt32 = 0
    private var oldest = none
    private var newest = none
    private let hashSeed: UInt64
    private var random: UInt64

    /// - Parameter memory: bytes for fragments and what describes them; raised to what one
    ///   datagram of 64 KB needs.
    /// - Parameter timeout: nanoseconds from a datagram's first fragment on.
    /// - Parameter seed: of the choice of what is evicted, and of the hash.
    public init(memory: Int, timeout: UInt64, seed: UInt64) {
        let count = max(memory / Self.bytesPerCell, Self.cellsMin)
        self.timeout = timeout
        quota = UInt32(max(count / 8, Self.cellsMin))
        var buckets = 1
        while buckets < count { buckets *= 2 }
        bucketMask = UInt64(buckets - 1)
        cells = .allocate(byteCount: count * Self.cellBytes, alignment: 64)
        cellNext = .allocate(capacity: count)
        pieces = .allocate(capacity: count)
        datagrams = .allocate(capacity: count)
        remotes = .allocate(capacity: count)
        used = .allocate(capacity: count)
        datagramBuckets = .allocate(capacity: buckets)
        remoteBuckets = .allocate(capacity: buckets)
        staging = .allocate(byteCount: Limits.batch * Self.stagedBytes, alignment: 64)
        datagramBuckets.initialize(repeating: Self.none, count: buckets)
        remoteBuckets.initialize(repeating: Self.none, count: buckets)
        freeCells = UInt32(count)
        hashSeed = seed | 1
        random = seed | 1
        for index in 0..<count {
            let next = index + 1 < count ? UInt32(index + 1) : Self.none
            cellNext[index] = next
            (pieces + index).initialize(to: Piece(offset: 0, length: 0, cell: 0, next: next))
            (datagrams + index).initialize(to: Self.free(next))
            (remotes + index).initialize(
                to: Remote(source: Address(high: 0, low: 0), bucketNext: next, cells: 0, datagrams: 0))
        }
    }

    deinit {
        cells.deallocate()
        cellNext.deallocate()
        pieces.deallocate()
        datagrams.deallocate()
        remotes.deallocate()
        used.deallocate()
        datagramBuckets.deallocate()
        remoteBuckets.deallocate()
        staging.deallocate()
    }

    private static func free(_ next: UInt32) -> Datagram {
        let key = DatagramKey(
            source: Address(high: 0, low: 0), destination: Address(high: 0, low: 0),
            identification: 0, protocolNumber: 0)
        return Datagram(
            key: key, arrival: 0, remote: none, bucketNext: next, older: none, newer: none,
            place: 0, firstPiece: none, lastPiece: none, headerCell: none, pieces: 0, cells: 0,
            received: 0, total: Datagram.unknown, headerLength: 0, codepoints: 0, isRefused: false)
    }

    /// Whether no fragment is held.
    public var isEmpty: Bool { usedCount == 0 }

    /// Nanoseconds at which the oldest datagram is given up; nil when none is held.
    public var deadline: UInt64? {
        oldest == Self.none ? nil : datagrams[Int(oldest)].arrival &+ timeout
    }

    /// Gives up what has waited too long.
    public func expire(now: UInt64) {
        while oldest != Self.none {
            let datagram = datagrams + Int(oldest)
            // An arrival after `now` is a capture whose clock went back.
            guard now >= datagram.pointee.arrival,
                now &- datagram.pointee.arrival >= timeout
            else { return }
            if !datagram.pointee.isRefused { failures.timeout &+= 1 }
            remove(oldest)
        }
    }

    /// Ends the life of the datagrams that became whole since the last call.
    func recycle() { staged = 0 }
}

// MARK: - One fragment

extension Reassembler {
    /// Keeps a fragment, or makes the whole of those that came.
    func insert(_ fragment: Fragment, now: UInt64) -> Outcome {
        expire(now: now)
        let bucket = Int(hash(fragment.key) & bucketMask)
        var index = find(fragment.key, bucket)
        if index == Self.none {
            guard let new = open(fragment.key, bucket, now) else {
                return .refused(.fragmentMemoryLimit)
            }
            index = new
        }
        let datagram = datagrams + Int(index)
        if datagram.pointee.isRefused { return .refused(.fragmentOverlap) }
        switch place(fragment, datagram) {
        case .duplicate: return .refused(.duplicateFragment)
        case .overlap:
            refuse(index)
            return .refused(.fragmentOverlap)
        case .behind(let piece):
            guard datagram.pointee.pieces < UInt32(Limits.fragments),
                keep(fragment, index, behind: piece)
            else {
                failures.memory &+= 1
                remove(index)
                return .refused(.fragmentMemoryLimit)
            }
        }
        guard datagram.pointee.received == datagram.pointee.total else { return .held }
        let outcome = join(datagram)
        remove(index)
        return outcome
    }

    /// Whatever else comes of this datagram, of which there are fragments, is refused.
    func refuse(_ key: DatagramKey) {
        let index = find(key, Int(hash(key) & bucketMask))
        if index != Self.none, !datagrams[Int(index)].isRefused { refuse(index) }
    }

    private func find(_ key: DatagramKey, _ bucket: Int) -> UInt32 {
        var index = datagramBuckets[bucket]
        while index != Self.none, datagrams[Int(index)].key != key {
            index = datagrams[Int(index)].bucketNext
        }
        return index
    }

    private enum Position {
        case duplicate, overlap
        /// `none`: before all others.
        case behind(UInt32)
    }

    /// Where among the pieces it goes, if nowhere it meets another's bytes.
    private func place(_ fragment: Fragment, _ datagram: UnsafePointer<Datagram>) -> Position {
        let last = datagram.pointee.lastPiece
        let end = last == Self.none ? 0 : Int(pieces[Int(last)].offset &+ pieces[Int(last)].length)
        let total = datagram.pointee.total
        // Two ends, or bytes behind the end (net/ipv4/ip_fragment.c `ip_frag_queue`).
        if fragment.moreFragments {
            if total != Datagram.unknown && fragment.end > Int(total) { return .overlap }
        } else if end > fragment.end || (total != Datagram.unknown && fragment.end != Int(total)) {
            return .overlap
        }
        if fragment.offset >= end { return .behind(last) }
        var previous = Self.none
        var index = datagram.pointee.firstPiece
        while index != Self.none, Int(pieces[Int(index)].offset) < fragment.offset {
            previous = index
            index = pieces[Int(index)].next
        }
        if index != Self.none {
            let next = pieces[Int(index)]
            if Int(next.offset) == fragment.offset, Int(next.length) == fragment.payload.count {
                return .duplicate
            }
            if Int(next.offset) < fragment.end { return .overlap }
        }
        if previous != Self.none {
            let piece = pieces[Int(previous)]
            if Int(piece.offset &+ piece.length) > fragment.offset { return .overlap }
        }
        return .behind(previous)
    }

    /// Copies the fragment into cells of its own; false when there are none for it.
    private func keep(_ fragment: Fragment, _ index: UInt32, behind previous: UInt32) -> Bool {
        let datagram = datagrams + Int(index)
        let count = (fragment.payload.count &+ Self.cellBytes &- 1) / Self.cellBytes
        guard makeRoom(UInt32(count), for: index) else { return false }
        var first = Self.none
        // From the last cell to the first, so that each knows its next.
        for place in stride(from: count - 1, through: 0, by: -1) {
            let cell = takeCell(datagram)
            let start = place &* Self.cellBytes
            (cells + Int(cell) &* Self.cellBytes).copyMemory(
                from: fragment.payload.base + start,
                byteCount: min(Self.cellBytes, fragment.payload.count &- start))
            cellNext[Int(cell)] = first
            first = cell
        }
        let piece = freePiece
        freePiece = pieces[Int(piece)].next
        let next = previous == Self.none
            ? datagram.pointee.firstPiece : pieces[Int(previous)].next
        pieces[Int(piece)] = Piece(
            offset: UInt32(fragment.offset), length: UInt32(fragment.payload.count), cell: first,
            next: next)
        if previous == Self.none {
            datagram.pointee.firstPiece = piece
        } else {
            pieces[Int(previous)].next = piece
        }
        if next == Self.none { datagram.pointee.lastPiece = piece }
        datagram.pointee.pieces &+= 1
        datagram.pointee.received &+= UInt32(fragment.payload.count)
        datagram.pointee.codepoints |= 1 << (fragment.ecn & 3)
        if !fragment.moreFragments { datagram.pointee.total = UInt32(fragment.end) }
        if fragment.offset == 0 { keepHeader(fragment, datagram) }
        return true
    }

    private func keepHeader(_ fragment: Fragment, _ datagram: UnsafeMutablePointer<Datagram>) {
        assert(fragment.header.count <= Self.cellBytes)
        let cell = cells + Int(datagram.pointee.headerCell) &* Self.cellBytes
        cell.copyMemory(from: fragment.header.base, byteCount: fragment.header.count)
        if fragment.key.protocolNumber == DatagramKey.ipv6 {
            cell.storeBytes(
                of: fragment.nextHeader, toByteOffset: fragment.nextHeaderAt, as: UInt8.self)
        }
        datagram.pointee.headerLength = UInt16(fragment.header.count)
    }

    /// Header and pieces side by side, with lengths and checksum of the whole.
    private func join(_ datagram: UnsafePointer<Datagram>) -> Outcome {
        let headerLength = Int(datagram.pointee.headerLength)
        let isIPv4 = datagram.pointee.key.protocolNumber != DatagramKey.ipv6
        let length = headerLength &+ Int(datagram.pointee.total)
        guard (isIPv4 ? length : length &- 40) <= 65_535 else { return .refused(.invalidHeader) }
        guard let congestion = Self.congestion(datagram.pointee.codepoints) else {
            return .refused(.tunnelECN)
        }
        let whole = staging + staged
        staged &+= (length &+ 63) & ~63
        assert(staged <= Limits.batch * Self.stagedBytes)
        whole.copyMemory(
            from: cells + Int(datagram.pointee.headerCell) &* Self.cellBytes,
            byteCount: headerLength)
        var offset = headerLength
        var piece = datagram.pointee.firstPiece
        while piece != Self.none {
            var cell = pieces[Int(piece)].cell
            var left = Int(pieces[Int(piece)].length)
            while left > 0 {
                let count = min(left, Self.cellBytes)
                (whole + offset).copyMemory(
                    from: cells + Int(cell) &* Self.cellBytes, byteCount: count)
                cell = cellNext[Int(cell)]
                offset &+= count
                left &-= count
            }
            piece = pieces[Int(piece)].next
        }
        if isIPv4 {
            Self.finishIPv4(whole, headerLength, length, congestion)
        } else {
            Self.finishIPv6(whole, length, congestion)
        }
        return .whole(UnsafeRawPointer(whole), length)
    }

    private static func finishIPv4(
        _ whole: UnsafeMutableRawPointer, _ headerLength: Int, _ length: Int, _ congestion: UInt8
    ) {
        let tos = whole.load(fromByteOffset: 1, as: UInt8.self)
        whole.storeBytes(of: tos | congestion, toByteOffset: 1, as: UInt8.self)
        whole.storeBigEndian(UInt16(length), at: 2)
        let flags = whole.load(fromByteOffset: 6, as: UInt16.self).bigEndian
        // Reserved bit and DF stay, MF and the offset go.
        whole.storeBigEndian(flags & 0xc000, at: 6)
        whole.storeBigEndian(0, at: 10)
        let sum = Bytes(whole, count: headerLength).onesComplementSum(length: headerLength)
        whole.storeBytes(of: ~sum, toByteOffset: 10, as: UInt16.self)
    }

    private static func finishIPv6(
        _ whole: UnsafeMutableRawPointer, _ length: Int, _ congestion: UInt8
    ) {
        let second = whole.load(fromByteOffset: 1, as: UInt8.self)
        whole.storeBytes(of: second | congestion << 4, toByteOffset: 1, as: UInt8.self)
        whole.storeBigEndian(UInt16(length &- 40), at: 4)
    }

    /// RFC 3168 §5.3, as the kernel's `ip_frag_ecn_table`: the ECN bits to set beside those of
    /// the first fragment; nil when capable and not capable fragments are mixed.
    private static func congestion(_ codepoints: UInt8) -> UInt8? {
        if codepoints == 0b0001 { return 0 }
        if codepoints & 0b0001 != 0 { return nil }
        return codepoints & 0b1000 != 0 ? 3 : 0
    }
}

// MARK: - Memory

extension Reassembler {
    /// Upper bound of a whole datagram: the longest payload behind the longest header.
    fileprivate static let stagedBytes = (65_535 + 40 + 63) & ~63

    private func hash(_ key: DatagramKey) -> UInt64 {
        let source = mix(mix(hashSeed ^ key.source.high) ^ key.source.low)
        let addresses = mix(mix(source ^ key.destination.high) ^ key.destination.low)
        return mix(addresses ^ (UInt64(key.identification) << 16 | UInt64(key.protocolNumber)))
    }

    private func mix(_ value: UInt64) -> UInt64 {
        let product = (value ^ value >> 32).multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
        return product.high ^ product.low
    }

    /// xorshift64, Marsaglia 2003.
    private func nextRandom(below bound: UInt32) -> UInt32 {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return UInt32(truncatingIfNeeded: random >> 32) % bound
    }

    private func open(_ key: DatagramKey, _ bucket: Int, _ now: UInt64) -> UInt32? {
        // There are as many of them as cells, and each in use has one. First, for each remote
        // has a datagram: with one of these free, one of those is.
        guard freeDatagram != Self.none || evictForAnother(than: Self.none) else { return nil }
        let remote = remote(key.source)
        let taken = freeDatagram
        let datagram = datagrams + Int(taken)
        freeDatagram = datagram.pointee.bucketNext
        datagram.pointee = Self.free(datagramBuckets[bucket])
        datagram.pointee.key = key
        datagram.pointee.arrival = now
        datagram.pointee.remote = remote
        datagram.pointee.older = newest
        if newest != Self.none { datagrams[Int(newest)].newer = taken } else { oldest = taken }
        newest = taken
        datagram.pointee.place = usedCount
        used[Int(usedCount)] = taken
        usedCount &+= 1
        datagramBuckets[bucket] = taken
        remotes[Int(remote)].datagrams &+= 1
        guard makeRoom(1, for: taken) else {
            remove(taken)
            return nil
        }
        datagram.pointee.headerCell = takeCell(datagram)
        return taken
    }

    private func takeCell(_ datagram: UnsafeMutablePointer<Datagram>) -> UInt32 {
        let cell = freeCell
        freeCell = cellNext[Int(cell)]
        freeCells &-= 1
        datagram.pointee.cells &+= 1
        remotes[Int(datagram.pointee.remote)].cells &+= 1
        return cell
    }

    private func giveCells(_ first: UInt32) -> UInt32 {
        var cell = first
        var count: UInt32 = 0
        while cell != Self.none {
            let next = cellNext[Int(cell)]
            cellNext[Int(cell)] = freeCell
            freeCell = cell
            count &+= 1
            cell = next
        }
        freeCells &+= count
        return count
    }

    /// Evicts others until there are so many cells, of the memory and of the remote's quota.
    private func makeRoom(_ count: UInt32, for index: UInt32) -> Bool {
        let remote = datagrams[Int(index)].remote
        while remotes[Int(remote)].cells &+ count > quota {
            guard evict(of: remote, notThis: index) else { return false }
        }
        while freeCells < count {
            guard evictForAnother(than: index) else { return false }
        }
        return true
    }

    /// A random one, so that a flood cannot know which: what is soon whole mostly stays. A
    /// remote whose datagrams are hard to meet among all is refused instead.
    private func evict(of remote: UInt32, notThis index: UInt32) -> Bool {
        for _ in 0..<32 {
            let candidate = used[Int(nextRandom(below: usedCount))]
            if candidate != index, datagrams[Int(candidate)].remote == remote {
                giveUp(candidate)
                return true
            }
        }
        return false
    }

    /// Of some random ones, that whose remote holds most.
    private func evictForAnother(than index: UInt32) -> Bool {
        var chosen = Self.none
        var most: UInt32 = 0
        for _ in 0..<8 {
            let candidate = used[Int(nextRandom(below: usedCount))]
            let weight = remotes[Int(datagrams[Int(candidate)].remote)].cells
            if candidate != index, weight > most {
                chosen = candidate
                most = weight
            }
        }
        guard chosen != Self.none else { return false }
        giveUp(chosen)
        return true
    }

    private func giveUp(_ index: UInt32) {
        if !datagrams[Int(index)].isRefused { failures.memory &+= 1 }
        remove(index)
    }

    /// Keeps only the key and the header's cell, so that what still comes is known.
    private func refuse(_ index: UInt32) {
        failures.overlap &+= 1
        let datagram = datagrams + Int(index)
        datagram.pointee.isRefused = true
        freePieces(datagram)
    }

    private func freePieces(_ datagram: UnsafeMutablePointer<Datagram>) {
        var piece = datagram.pointee.firstPiece
        var count: UInt32 = 0
        while piece != Self.none {
            let next = pieces[Int(piece)].next
            count &+= giveCells(pieces[Int(piece)].cell)
            pieces[Int(piece)].next = freePiece
            freePiece = piece
            piece = next
        }
        datagram.pointee.firstPiece = Self.none
        datagram.pointee.lastPiece = Self.none
        datagram.pointee.cells &-= count
        remotes[Int(datagram.pointee.remote)].cells &-= count
    }

    private func remove(_ index: UInt32) {
        let datagram = datagrams + Int(index)
        freePieces(datagram)
        if datagram.pointee.headerCell != Self.none {
            cellNext[Int(datagram.pointee.headerCell)] = Self.none
            remotes[Int(datagram.pointee.remote)].cells &-= giveCells(datagram.pointee.headerCell)
        }
        let older = datagram.pointee.older
        let newer = datagram.pointee.newer
        if older != Self.none { datagrams[Int(older)].newer = newer } else { oldest = newer }
        if newer != Self.none { datagrams[Int(newer)].older = older } else { newest = older }
        usedCount &-= 1
        let moved = used[Int(usedCount)]
        used[Int(datagram.pointee.place)] = moved
        datagrams[Int(moved)].place = datagram.pointee.place
        unlink(index, datagramBuckets + Int(hash(datagram.pointee.key) & bucketMask))
        releaseRemote(datagram.pointee.remote)
        datagram.pointee.bucketNext = freeDatagram
        freeDatagram = index
    }

    private func unlink(_ index: UInt32, _ bucket: UnsafeMutablePointer<UInt32>) {
        let next = datagrams[Int(index)].bucketNext
        guard bucket.pointee != index else { return bucket.pointee = next }
        var before = bucket.pointee
        while datagrams[Int(before)].bucketNext != index {
            before = datagrams[Int(before)].bucketNext
        }
        datagrams[Int(before)].bucketNext = next
    }

    private func remote(_ source: Address) -> UInt32 {
        let bucket = Int(mix(hashSeed ^ source.high ^ mix(source.low)) & bucketMask)
        var index = remoteBuckets[bucket]
        while index != Self.none, remotes[Int(index)].source != source {
            index = remotes[Int(index)].bucketNext
        }
        if index != Self.none { return index }
        index = freeRemote
        freeRemote = remotes[Int(index)].bucketNext
        remotes[Int(index)] = Remote(
            source: source, bucketNext: remoteBuckets[bucket], cells: 0, datagrams: 0)
        remoteBuckets[bucket] = index
        return index
    }

    /// One datagram fewer; the last one takes its remote along.
    private func releaseRemote(_ index: UInt32) {
        remotes[Int(index)].datagrams &-= 1
        guard remotes[Int(index)].datagrams == 0 else { return }
        let source = remotes[Int(index)].source
        let bucket = Int(mix(hashSeed ^ source.high ^ mix(source.low)) & bucketMask)
        var previous = Self.none
        var current = remoteBuckets[bucket]
        while current != index {
            previous = current
            current = remotes[Int(current)].bucketNext
        }
        let next = remotes[Int(index)].bucketNext
        if previous == Self.none {
            remoteBuckets[bucket] = next
        } else {
            remotes[Int(previous)].bucketNext = next
        }
        remotes[Int(index)].bucketNext = freeRemote
        freeRemote = index
    }
}
