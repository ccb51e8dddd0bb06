// Outer fragments kept until their datagram is whole, in one worker's own memory.
// All memory is allocated once. A quota for each remote bounds a flood from one source; of a flood from
// many, fair eviction takes the oldest datagrams and those of the networks that hold most.

import IP

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
    /// Table of the VRF that the fragment came in by; 0: none (net/ipv4/ip_fragment.c `ip_find`).
    var vrf: UInt32 = 0
    /// IPv4: the protocol number. IPv6: `ipv6`, for there it is not part of the key.
    var protocolNumber: UInt16

    static let ipv6: UInt16 = 256
}

/// Fragments that wait for the rest of their datagram. One worker's; not thread-safe.
public final class Reassembler {
    /// Datagrams that never became whole, by cause. Grow only.
    public struct Failures: BitwiseCopyable, Sendable, Equatable {
        /// Two fragments claimed the same bytes, or two ends (RFC 5722), or one was malformed.
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
        /// Of the payload alone. In the cells of the first fragment its header stands before it.
        var length: UInt32
        var cell: UInt32
        var next: UInt32
    }

    private struct Datagram {
        var key: DatagramKey
        /// Nanoseconds at which the first of its fragments came.
        var arrival: UInt64 = 0
        var remote: UInt32 = none
        var bucketNext: UInt32 = none
        /// Neighbours in order of arrival, among all and among those of the remote.
        var older: UInt32 = none
        var newer: UInt32 = none
        var olderOfRemote: UInt32 = none
        var newerOfRemote: UInt32 = none
        var firstPiece: UInt32 = none
        var lastPiece: UInt32 = none
        /// Of a refused datagram the one cell that it is charged for, so that no datagram is free.
        var refusedCell: UInt32 = none
        var pieces: UInt32 = 0
        var received: UInt32 = 0
        /// Bytes of the whole payload; `unknown` until the last fragment came.
        var total: UInt32 = unknown
        /// 0: the first fragment has not come.
        var headerLength: UInt16 = 0
        var nextHeaderAt: UInt16 = 0
        var nextHeader: UInt8 = 0
        /// Bit n: a fragment with ECN codepoint n came.
        var codepoints: UInt8 = 0

        static let unknown = UInt32.max

        /// Whatever else comes of it is refused until its time is over (RFC 5722 §4).
        var isRefused: Bool { refusedCell != none }
    }

    private struct Remote {
        var source: Address
        var bucketNext: UInt32
        var cells: UInt32 = 0
        var oldest: UInt32 = none
        var newest: UInt32 = none
        /// Index of its network's count of cells.
        var network: UInt32 = 0
    }

    private static let none = UInt32.max
    /// A fragment without payload to speak of takes one cell, a full one of Ethernet six.
    private static let cellBytes = 256
    /// Of a cell with its share of the bookkeeping.
    static let bytesPerCell =
        cellBytes + MemoryLayout<UInt32>.stride + MemoryLayout<Piece>.stride
        + MemoryLayout<Datagram>.stride + MemoryLayout<Remote>.stride
        + 4 * MemoryLayout<UInt32>.stride
    /// One datagram of 64 KB always fits, its header and a half-filled cell a piece included.
    private static let cellsMin = 65_536 / cellBytes + Limits.fragments + 3
    /// Counters of cells by network. Networks whose hashes collide share one, and so a fair share.
    private static let networkCount = 1024
    /// How many of the oldest datagrams are compared before one is evicted.
    private static let evictionWindow = 8

    public private(set) var failures = Failures()
    private let timeout: UInt64
    /// Cells that one remote may hold.
    private let quota: UInt32
    private let cells: UnsafeMutableRawPointer
    private let cellNext: UnsafeMutablePointer<UInt32>
    private let pieces: UnsafeMutablePointer<Piece>
    private let datagrams: UnsafeMutablePointer<Datagram>
    private let remotes: UnsafeMutablePointer<Remote>
    private let datagramBuckets: UnsafeMutablePointer<UInt32>
    private let remoteBuckets: UnsafeMutablePointer<UInt32>
    private let networkCells: UnsafeMutablePointer<UInt32>
    private let bucketMask: UInt64
    /// Whole datagrams of the batch in work. Pages that were never needed are never touched.
    private let staging: UnsafeMutableRawPointer
    private var staged = 0

    private var freeCell: UInt32 = 0
    private var freeCells: UInt32
    private var freePiece: UInt32 = 0
    private var freeDatagram: UInt32 = 0
    private var freeRemote: UInt32 = 0
    private var oldest = none
    private var newest = none
    private let hashSeed: UInt64

    /// - Parameter memory: bytes for fragments and what describes them; raised to what one
    ///   datagram of 64 KB needs.
    /// - Parameter timeout: nanoseconds from a datagram's first fragment on.
    /// - Parameter seed: of the hash, so that nobody outside knows which datagrams share a bucket.
    /// - Parameter batch: frames of a batch, each of which may complete a datagram.
    public init(memory: Int, timeout: UInt64, seed: UInt64, batch: Int = Limits.batch) {
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
        datagramBuckets = .allocate(capacity: buckets)
        remoteBuckets = .allocate(capacity: buckets)
        networkCells = .allocate(capacity: Self.networkCount)
        staging = .allocate(byteCount: batch * Self.stagedBytes, alignment: 64)
        datagramBuckets.initialize(repeating: Self.none, count: buckets)
        remoteBuckets.initialize(repeating: Self.none, count: buckets)
        networkCells.initialize(repeating: 0, count: Self.networkCount)
        freeCells = UInt32(count)
        hashSeed = seed
        let nobody = Address(high: 0, low: 0)
        let noKey = DatagramKey(
            source: nobody, destination: nobody, identification: 0, protocolNumber: 0)
        for index in 0..<count {
            let next = index + 1 < count ? UInt32(index + 1) : Self.none
            cellNext[index] = next
            (pieces + index).initialize(to: Piece(offset: 0, length: 0, cell: 0, next: next))
            (datagrams + index).initialize(to: Datagram(key: noKey, bucketNext: next))
            (remotes + index).initialize(to: Remote(source: nobody, bucketNext: next))
        }
    }

    deinit {
        cells.deallocate()
        cellNext.deallocate()
        pieces.deallocate()
        datagrams.deallocate()
        remotes.deallocate()
        datagramBuckets.deallocate()
        remoteBuckets.deallocate()
        networkCells.deallocate()
        staging.deallocate()
    }

    /// Whether no fragment is held.
    public var isEmpty: Bool { oldest == Self.none }

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
            failures.overlap &+= 1
            refuse(index)
            return .refused(.fragmentOverlap)
        case .behind(let piece):
            guard datagram.pointee.pieces < UInt32(Limits.fragments) else {
                failures.memory &+= 1
                // Were it forgotten, those that still come could make another datagram of its key.
                refuse(index)
                return .refused(.fragmentMemoryLimit)
            }
            guard keep(fragment, index, behind: piece) else {
                giveUp(index)
                return .refused(.fragmentMemoryLimit)
            }
        }
        guard datagram.pointee.received == datagram.pointee.total else { return .held }
        let outcome = join(datagram)
        remove(index)
        return outcome
    }

    /// Whatever else comes of this datagram is refused.
    /// - Parameter opens: also where nothing of it has come yet.
    func refuse(_ key: DatagramKey, opens: Bool, now: UInt64) {
        expire(now: now)
        let bucket = Int(hash(key) & bucketMask)
        var index = find(key, bucket)
        if index == Self.none, opens, let new = open(key, bucket, now) { index = new }
        guard index != Self.none, !datagrams[Int(index)].isRefused else { return }
        failures.overlap &+= 1
        guard datagrams[Int(index)].pieces > 0 || makeRoom(1, for: index) else {
            return remove(index)
        }
        refuse(index)
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
                // The same bytes as the last fragment that before were not the last: an end that
                // the kernel would have taken note of (`ip_frag_queue` sets LAST_IN first).
                return fragment.moreFragments || fragment.end == Int(total) ? .duplicate : .overlap
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
        let header = fragment.header.count
        let bytes = header &+ fragment.payload.count
        let count = (bytes &+ Self.cellBytes &- 1) / Self.cellBytes
        guard makeRoom(UInt32(count), for: index) else { return false }
        var first = Self.none
        for _ in 0..<count { first = takeCell(datagram, before: first) }
        fill(first, from: 0, fragment.header)
        fill(first, from: header, fragment.payload)
        let piece = freePiece
        freePiece = pieces[Int(piece)].next
        let next =
            previous == Self.none
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
        if fragment.offset == 0 {
            datagram.pointee.headerLength = UInt16(header)
            datagram.pointee.nextHeaderAt = UInt16(fragment.nextHeaderAt)
            datagram.pointee.nextHeader = fragment.nextHeader
        }
        return true
    }

    /// Writes into a chain of cells, from an offset in it on.
    private func fill(_ first: UInt32, from start: Int, _ bytes: Bytes) {
        var cell = first
        var offset = start
        while offset >= Self.cellBytes {
            cell = cellNext[Int(cell)]
            offset &-= Self.cellBytes
        }
        var done = 0
        while done < bytes.count {
            let count = min(Self.cellBytes &- offset, bytes.count &- done)
            (cells + Int(cell) &* Self.cellBytes + offset).copyMemory(
                from: bytes.base + done, byteCount: count)
            cell = cellNext[Int(cell)]
            offset = 0
            done &+= count
        }
    }

    /// Header and pieces side by side, with lengths and checksum of the whole.
    private func join(_ datagram: UnsafePointer<Datagram>) -> Outcome {
        let headerLength = Int(datagram.pointee.headerLength)
        let isIPv4 = datagram.pointee.key.protocolNumber != DatagramKey.ipv6
        let length = headerLength &+ Int(datagram.pointee.total)
        guard (isIPv4 ? length : length &- IPv6Header.byteCount) <= 65_535 else {
            return .refused(.invalidHeader)
        }
        guard let congestion = Self.congestion(datagram.pointee.codepoints) else {
            return .refused(.tunnelECN)
        }
        let whole = staging + staged
        staged &+= (length &+ 63) & ~63
        assert(staged <= Limits.batch * Self.stagedBytes)
        var offset = 0
        var piece = datagram.pointee.firstPiece
        while piece != Self.none {
            var cell = pieces[Int(piece)].cell
            var left = Int(pieces[Int(piece)].length)
            if pieces[Int(piece)].offset == 0 { left &+= headerLength }
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
            whole.storeBytes(
                of: datagram.pointee.nextHeader, toByteOffset: Int(datagram.pointee.nextHeaderAt),
                as: UInt8.self)
            Self.finishIPv6(whole, length, congestion)
        }
        return .whole(UnsafeRawPointer(whole), length)
    }

    private static func finishIPv4(
        _ whole: UnsafeMutableRawPointer, _ headerLength: Int, _ length: Int, _ congestion: UInt8
    ) {
        let (header, writer) = (Bytes(whole, count: length).ipv4, IPv4Writer(whole))
        writer.set(typeOfService: header.typeOfService | congestion)
        writer.set(totalLength: UInt16(length))
        // Reserved bit and DF stay, MF and the offset go.
        writer.set(fragment: header.fragment & ~(IPv4Header.moreFragments | IPv4Header.offsetMask))
        writer.setHeaderChecksum(headerLength: headerLength)
    }

    private static func finishIPv6(
        _ whole: UnsafeMutableRawPointer, _ length: Int, _ congestion: UInt8
    ) {
        let (header, writer) = (Bytes(whole, count: length).ipv6, IPv6Writer(whole))
        writer.set(trafficClass: header.trafficClass | congestion)
        writer.set(payloadLength: UInt16(length &- IPv6Header.byteCount))
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
    fileprivate static let stagedBytes = (65_535 + IPv6Header.byteCount + 63) & ~63

    private func hash(_ key: DatagramKey) -> UInt64 {
        let source = mix(mix(hashSeed ^ key.source.high) ^ key.source.low)
        let addresses = mix(mix(source ^ key.destination.high) ^ key.destination.low)
        return mix(addresses ^ (UInt64(key.identification) << 16 | UInt64(key.protocolNumber)))
    }

    private func mix(_ value: UInt64) -> UInt64 {
        let product = (value ^ value >> 32).multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
        return product.high ^ product.low
    }

    private func open(_ key: DatagramKey, _ bucket: Int, _ now: UInt64) -> UInt32? {
        // There are as many of them as cells, and each in use has one. First, for each remote
        // has a datagram: with one of these free, one of those is.
        guard freeDatagram != Self.none || evictForAnother(than: Self.none) else { return nil }
        let remote = remote(key.source)
        let taken = freeDatagram
        let datagram = datagrams + Int(taken)
        freeDatagram = datagram.pointee.bucketNext
        datagram.pointee = Datagram(key: key, arrival: now, remote: remote)
        datagram.pointee.bucketNext = datagramBuckets[bucket]
        datagramBuckets[bucket] = taken
        datagram.pointee.older = newest
        if newest != Self.none { datagrams[Int(newest)].newer = taken } else { oldest = taken }
        newest = taken
        let owner = remotes + Int(remote)
        let last = owner.pointee.newest
        datagram.pointee.olderOfRemote = last
        if last != Self.none {
            datagrams[Int(last)].newerOfRemote = taken
        } else {
            owner.pointee.oldest = taken
        }
        owner.pointee.newest = taken
        return taken
    }

    /// The caller has made room. Counts the cell for its remote and its network.
    private func takeCell(
        _ datagram: UnsafeMutablePointer<Datagram>, before next: UInt32
    ) -> UInt32 {
        let cell = freeCell
        freeCell = cellNext[Int(cell)]
        freeCells &-= 1
        cellNext[Int(cell)] = next
        let remote = remotes + Int(datagram.pointee.remote)
        remote.pointee.cells &+= 1
        networkCells[Int(remote.pointee.network)] &+= 1
        return cell
    }

    private func giveCells(_ datagram: UnsafeMutablePointer<Datagram>, _ first: UInt32) {
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
        let remote = remotes + Int(datagram.pointee.remote)
        remote.pointee.cells &-= count
        networkCells[Int(remote.pointee.network)] &-= count
    }

    /// Evicts others until there are so many cells, of the memory and of the remote's quota.
    private func makeRoom(_ count: UInt32, for index: UInt32) -> Bool {
        let remote = remotes + Int(datagrams[Int(index)].remote)
        while remote.pointee.cells &+ count > quota {
            var victim = remote.pointee.oldest
            if victim == index { victim = datagrams[Int(index)].newerOfRemote }
            guard victim != Self.none else { return false }
            giveUp(victim)
        }
        while freeCells < count {
            guard evictForAnother(than: index) else { return false }
        }
        return true
    }

    /// Of the oldest ones, that whose network holds most, then that whose remote does, then the
    /// oldest. Nobody's datagram goes before its turn: whoever completes it in the time in which a
    /// flood fills the memory is not touched, from however many sources the flood comes. Those of
    /// a network or remote that holds less than the flood's are passed over even then.
    private func evictForAnother(than index: UInt32) -> Bool {
        var chosen = Self.none
        var most: UInt64 = 0
        var candidate = oldest
        var left = Self.evictionWindow
        while candidate != Self.none, left > 0 {
            if candidate != index {
                let remote = remotes + Int(datagrams[Int(candidate)].remote)
                let weight =
                    UInt64(networkCells[Int(remote.pointee.network)]) << 32
                    | UInt64(remote.pointee.cells)
                if weight > most {
                    chosen = candidate
                    most = weight
                }
                left &-= 1
            }
            candidate = datagrams[Int(candidate)].newer
        }
        guard chosen != Self.none else { return false }
        giveUp(chosen)
        return true
    }

    private func giveUp(_ index: UInt32) {
        if !datagrams[Int(index)].isRefused { failures.memory &+= 1 }
        remove(index)
    }

    /// Keeps only the key and one cell, so that what still comes is known. The caller has made room
    /// where it holds none.
    private func refuse(_ index: UInt32) {
        let datagram = datagrams + Int(index)
        freePieces(datagram)
        datagram.pointee.refusedCell = takeCell(datagram, before: Self.none)
    }

    private func freePieces(_ datagram: UnsafeMutablePointer<Datagram>) {
        var piece = datagram.pointee.firstPiece
        while piece != Self.none {
            let next = pieces[Int(piece)].next
            giveCells(datagram, pieces[Int(piece)].cell)
            pieces[Int(piece)].next = freePiece
            freePiece = piece
            piece = next
        }
        datagram.pointee.firstPiece = Self.none
        datagram.pointee.lastPiece = Self.none
    }

    private func remove(_ index: UInt32) {
        let datagram = datagrams + Int(index)
        freePieces(datagram)
        giveCells(datagram, datagram.pointee.refusedCell)
        let older = datagram.pointee.older
        let newer = datagram.pointee.newer
        if older != Self.none { datagrams[Int(older)].newer = newer } else { oldest = newer }
        if newer != Self.none { datagrams[Int(newer)].older = older } else { newest = older }
        unlink(index, datagramBuckets + Int(hash(datagram.pointee.key) & bucketMask))
        leaveRemote(datagram)
        datagram.pointee.bucketNext = freeDatagram
        freeDatagram = index
    }

    private func unlink(_ index: UInt32, _ bucket: UnsafeMutablePointer<UInt32>) {
        let next = datagrams[Int(index)].bucketNext
        guard bucket.pointee != index else {
            bucket.pointee = next
            return
        }
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
        // The /64 of an IPv6 source, the /24 of an IPv4 one: who may spoof one address of it mostly
        // may spoof all.
        let network = mix(hashSeed ^ source.high ^ (source.isIPv4 ? source.low >> 8 : 0))
        remotes[Int(index)] = Remote(
            source: source, bucketNext: remoteBuckets[bucket],
            network: UInt32(truncatingIfNeeded: network) & UInt32(Self.networkCount - 1))
        remoteBuckets[bucket] = index
        return index
    }

    /// One datagram fewer of its remote; the last one takes the remote along.
    private func leaveRemote(_ datagram: UnsafePointer<Datagram>) {
        let index = datagram.pointee.remote
        let remote = remotes + Int(index)
        let older = datagram.pointee.olderOfRemote
        let newer = datagram.pointee.newerOfRemote
        if older != Self.none {
            datagrams[Int(older)].newerOfRemote = newer
        } else {
            remote.pointee.oldest = newer
        }
        if newer != Self.none {
            datagrams[Int(newer)].olderOfRemote = older
        } else {
            remote.pointee.newest = older
        }
        guard remote.pointee.oldest == Self.none else { return }
        let source = remote.pointee.source
        let bucket = Int(mix(hashSeed ^ source.high ^ mix(source.low)) & bucketMask)
        var previous = Self.none
        var current = remoteBuckets[bucket]
        while current != index {
            previous = current
            current = remotes[Int(current)].bucketNext
        }
        let next = remote.pointee.bucketNext
        if previous == Self.none {
            remoteBuckets[bucket] = next
        } else {
            remotes[Int(previous)].bucketNext = next
        }
        remote.pointee.bucketNext = freeRemote
        freeRemote = index
    }
}
