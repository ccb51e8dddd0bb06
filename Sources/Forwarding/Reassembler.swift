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
        var offset: UInt32 = 0
        /// Of the payload alone. In the cells of the first fragment its header stands before it.
        var length: UInt32 = 0
        var cell: UInt32 = 0
    }

    private struct Datagram {
        var key: DatagramKey
        /// Nanoseconds at which the first of its fragments came.
        var arrival: UInt64 = 0
        var remote: UInt32 = none
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
        var cells: UInt32 = 0
        /// Index of its network's count of cells.
        var network: UInt32 = 0
        var datagrams = Ends()
    }

    private struct Ends {
        var oldest: UInt32 = none
        var newest: UInt32 = none
    }

    /// Neighbours in order of arrival.
    private struct Order {
        let older: UnsafeMutablePointer<UInt32>
        let newer: UnsafeMutablePointer<UInt32>

        func append(_ index: UInt32, to ends: inout Ends) {
            older[Int(index)] = ends.newest
            newer[Int(index)] = none
            if ends.newest != none { newer[Int(ends.newest)] = index } else { ends.oldest = index }
            ends.newest = index
        }

        func remove(_ index: UInt32, from ends: inout Ends) {
            let (before, after) = (older[Int(index)], newer[Int(index)])
            if before != none { newer[Int(before)] = after } else { ends.oldest = after }
            if after != none { older[Int(after)] = before } else { ends.newest = before }
        }
    }

    /// Which of so many elements are free, and chains of those that are not. All of it is behind pointers:
    /// a field of the class that changes would cost an exclusivity check each time.
    private struct Pool {
        let next: UnsafeMutablePointer<UInt32>
        private let first: UnsafeMutablePointer<UInt32>

        var free: UInt32 { first.pointee }

        /// - Parameter words: one more than elements.
        init(_ words: UnsafeMutablePointer<UInt32>, count: Int) {
            next = words
            first = words + count
            for index in 0..<count { next[index] = index + 1 < count ? UInt32(index + 1) : none }
        }

        func take() -> UInt32 {
            let index = first.pointee
            first.pointee = next[Int(index)]
            return index
        }

        func give(_ index: UInt32) {
            next[Int(index)] = first.pointee
            first.pointee = index
        }

        func take(into chain: UnsafeMutablePointer<UInt32>) -> UInt32 {
            let index = take()
            next[Int(index)] = chain.pointee
            chain.pointee = index
            return index
        }

        func give(_ index: UInt32, from chain: UnsafeMutablePointer<UInt32>) {
            var link = chain
            while link.pointee != index { link = next + Int(link.pointee) }
            link.pointee = next[Int(index)]
            give(index)
        }
    }

    private static let none = UInt32.max
    /// A fragment without payload to speak of takes one cell, a full one of Ethernet six.
    private static let cellBytes = 256
    /// Of a cell with its share of the bookkeeping.
    package static let bytesPerCell =
        cellBytes + MemoryLayout<Piece>.stride + MemoryLayout<Datagram>.stride
        + MemoryLayout<Remote>.stride + 12 * MemoryLayout<UInt32>.stride
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
    private let pieces: UnsafeMutablePointer<Piece>
    private let datagrams: UnsafeMutablePointer<Datagram>
    private let remotes: UnsafeMutablePointer<Remote>
    private let cellPool: Pool
    private let piecePool: Pool
    private let datagramPool: Pool
    private let remotePool: Pool
    private var freeCells: UInt32
    /// First of each chain of those whose hashes are alike.
    private let datagramBuckets: UnsafeMutablePointer<UInt32>
    private let remoteBuckets: UnsafeMutablePointer<UInt32>
    private let bucketMask: UInt64
    private let networkCells: UnsafeMutablePointer<UInt32>
    /// Among all datagrams, and among those of a remote.
    private let order: Order
    private let orderOfRemote: Order
    private let ends: UnsafeMutablePointer<Ends>
    /// Whole datagrams of the batch in work. Pages that were never needed are never touched.
    private let staging: UnsafeMutableRawPointer
    private var staged = 0
    private let hashSeed: UInt64
    private let memory: [UnsafeMutableRawPointer]

    /// - Parameter memory: bytes for fragments and what describes them; raised to what one
    ///   datagram of 64 KB needs.
    /// - Parameter timeout: nanoseconds from a datagram's first fragment on.
    /// - Parameter seed: of the hash, so that nobody outside knows which datagrams share a bucket.
    /// - Parameter batch: frames of a batch, each of which may complete a datagram.
    public init(memory bytes: Int, timeout: UInt64, seed: UInt64, batch: Int = Limits.batch) {
        let count = max(bytes / Self.bytesPerCell, Self.cellsMin)
        self.timeout = timeout
        quota = UInt32(max(count / 8, Self.cellsMin))
        freeCells = UInt32(count)
        hashSeed = seed
        var buckets = 1
        while buckets < count { buckets *= 2 }
        bucketMask = UInt64(buckets - 1)
        cells = .allocate(byteCount: count * Self.cellBytes, alignment: 64)
        staging = .allocate(byteCount: batch * Self.stagedBytes, alignment: 64)
        var memory = [cells, staging]
        func allocate<T>(_ count: Int, _ value: T) -> UnsafeMutablePointer<T> {
            let block = UnsafeMutablePointer<T>.allocate(capacity: count)
            block.initialize(repeating: value, count: count)
            memory.append(UnsafeMutableRawPointer(block))
            return block
        }
        let nobody = Address(high: 0, low: 0)
        let noKey = DatagramKey(
            source: nobody, destination: nobody, identification: 0, protocolNumber: 0)
        pieces = allocate(count, Piece())
        datagrams = allocate(count, Datagram(key: noKey))
        remotes = allocate(count, Remote(source: nobody))
        cellPool = Pool(allocate(count + 1, 0), count: count)
        piecePool = Pool(allocate(count + 1, 0), count: count)
        datagramPool = Pool(allocate(count + 1, 0), count: count)
        remotePool = Pool(allocate(count + 1, 0), count: count)
        order = Order(older: allocate(count, 0), newer: allocate(count, 0))
        orderOfRemote = Order(older: allocate(count, 0), newer: allocate(count, 0))
        ends = allocate(1, Ends())
        datagramBuckets = allocate(buckets, Self.none)
        remoteBuckets = allocate(buckets, Self.none)
        networkCells = allocate(Self.networkCount, 0)
        self.memory = memory
    }

    deinit { for block in memory { block.deallocate() } }

    /// Whether no fragment is held.
    public var isEmpty: Bool { ends.pointee.oldest == Self.none }

    /// Nanoseconds at which the oldest datagram is given up; nil when none is held.
    public var deadline: UInt64? {
        isEmpty ? nil : datagrams[Int(ends.pointee.oldest)].arrival &+ timeout
    }

    /// Gives up what has waited too long.
    public func expire(now: UInt64) {
        while !isEmpty {
            let datagram = datagrams + Int(ends.pointee.oldest)
            // An arrival after `now` is a capture whose clock went back.
            guard now >= datagram.pointee.arrival,
                now &- datagram.pointee.arrival >= timeout
            else { return }
            if !datagram.pointee.isRefused { failures.timeout &+= 1 }
            remove(ends.pointee.oldest)
        }
    }

    /// Ends the life of the datagrams that became whole since the last call.
    package func recycle() { staged = 0 }
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
            index = datagramPool.next[Int(index)]
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
            index = piecePool.next[Int(index)]
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
        let piece = piecePool.take()
        let next: UInt32
        if previous == Self.none {
            next = datagram.pointee.firstPiece
            datagram.pointee.firstPiece = piece
        } else {
            next = piecePool.next[Int(previous)]
            piecePool.next[Int(previous)] = piece
        }
        piecePool.next[Int(piece)] = next
        pieces[Int(piece)] = Piece(
            offset: UInt32(fragment.offset), length: UInt32(fragment.payload.count), cell: first)
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
            cell = cellPool.next[Int(cell)]
            offset &-= Self.cellBytes
        }
        var done = 0
        while done < bytes.count {
            let count = min(Self.cellBytes &- offset, bytes.count &- done)
            (cells + Int(cell) &* Self.cellBytes + offset).copyMemory(
                from: bytes.base + done, byteCount: count)
            cell = cellPool.next[Int(cell)]
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
                cell = cellPool.next[Int(cell)]
                offset &+= count
                left &-= count
            }
            piece = piecePool.next[Int(piece)]
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
        guard datagramPool.free != Self.none || evictForAnother(than: Self.none) else { return nil }
        let remote = remote(key.source)
        let index = datagramPool.take(into: datagramBuckets + bucket)
        datagrams[Int(index)] = Datagram(key: key, arrival: now, remote: remote)
        order.append(index, to: &ends.pointee)
        orderOfRemote.append(index, to: &remotes[Int(remote)].datagrams)
        return index
    }

    /// The caller has made room. Counts the cell for its remote and its network.
    private func takeCell(
        _ datagram: UnsafeMutablePointer<Datagram>, before next: UInt32
    ) -> UInt32 {
        let cell = cellPool.take()
        freeCells &-= 1
        cellPool.next[Int(cell)] = next
        let remote = remotes + Int(datagram.pointee.remote)
        remote.pointee.cells &+= 1
        networkCells[Int(remote.pointee.network)] &+= 1
        return cell
    }

    private func giveCells(_ datagram: UnsafeMutablePointer<Datagram>, _ first: UInt32) {
        var cell = first
        var count: UInt32 = 0
        while cell != Self.none {
            let next = cellPool.next[Int(cell)]
            cellPool.give(cell)
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
            var victim = remote.pointee.datagrams.oldest
            if victim == index { victim = orderOfRemote.newer[Int(index)] }
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
        var candidate = ends.pointee.oldest
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
            candidate = order.newer[Int(candidate)]
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
            let next = piecePool.next[Int(piece)]
            giveCells(datagram, pieces[Int(piece)].cell)
            piecePool.give(piece)
            piece = next
        }
        datagram.pointee.firstPiece = Self.none
        datagram.pointee.lastPiece = Self.none
    }

    private func remove(_ index: UInt32) {
        let datagram = datagrams + Int(index)
        let remote = remotes + Int(datagram.pointee.remote)
        freePieces(datagram)
        giveCells(datagram, datagram.pointee.refusedCell)
        order.remove(index, from: &ends.pointee)
        orderOfRemote.remove(index, from: &remote.pointee.datagrams)
        datagramPool.give(
            index, from: datagramBuckets + Int(hash(datagram.pointee.key) & bucketMask))
        // The last one takes the remote along.
        if remote.pointee.datagrams.oldest == Self.none {
            remotePool.give(
                datagram.pointee.remote, from: remoteBuckets + bucket(of: remote.pointee.source))
        }
    }

    private func bucket(of source: Address) -> Int {
        Int(mix(hashSeed ^ source.high ^ mix(source.low)) & bucketMask)
    }

    private func remote(_ source: Address) -> UInt32 {
        let bucket = bucket(of: source)
        var index = remoteBuckets[bucket]
        while index != Self.none, remotes[Int(index)].source != source {
            index = remotePool.next[Int(index)]
        }
        if index != Self.none { return index }
        index = remotePool.take(into: remoteBuckets + bucket)
        // The /64 of an IPv6 source, the /24 of an IPv4 one: who may spoof one address of it mostly
        // may spoof all.
        let network = mix(hashSeed ^ source.high ^ (source.isIPv4 ? source.low >> 8 : 0))
        remotes[Int(index)] = Remote(
            source: source, network: UInt32(truncatingIfNeeded: network) & UInt32(Self.networkCount - 1))
        return index
    }
}
