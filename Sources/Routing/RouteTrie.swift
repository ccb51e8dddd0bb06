// Longest-prefix match that one writer changes in place while readers go on. Copy-on-write: a node is
// complete before the one word that leads to it is stored (release), and the node that it replaces is used
// again once every reader has moved to a newer generation.

import IP
import Synchronization

/// The memory of a trie's nodes: readers of an older generation keep it after it was outgrown.
final class TrieMemory: @unchecked Sendable {
    // @unchecked: words are only loaded and stored whole; the keys of ranges are never changed.
    let words: UnsafeMutablePointer<UInt32>
    let capacity: Int
    private let bytes: UnsafeMutableRawPointer

    init(capacity: Int) {
        // Nodes begin with cache lines.
        bytes = .allocate(byteCount: capacity * 4, alignment: 64)
        words = bytes.bindMemory(to: UInt32.self, capacity: capacity)
        self.capacity = capacity
    }

    deinit { bytes.deallocate() }
}

/// One family's trie. Not thread-safe: one thread changes it.
@usableFromInline
final class RouteTrie {
    let isIPv4: Bool
    /// 8 or 16, for IPv4 also 24: it grows with what is below it.
    private(set) var rootBits = 8
    private(set) var memory: TrieMemory
    private var used = 1 << 8
    /// Nodes that can be used again, by size; and those that readers may still stand in.
    private var free = [[Int]](repeating: [], count: NodeSize.allCases.count)
    private var retired: [(size: NodeSize, node: Int)] = []

    /// What nodes there are, in words. Ranges: up to 8 and up to 16 of them.
    private enum NodeSize: Int, CaseIterable {
        case fewRanges, ranges, byte, whole

        var words: Int {
            switch self {
            case .fewRanges: 16
            case .ranges: 32
            case .byte: 256
            case .whole: 1 << 16
            }
        }
    }

    /// Words of a trie from which on its root has 16 bits and, of IPv4, 24. Half of the wider root, or
    /// less: 24 bits take the place of most nodes of a table of the Internet's size.
    private static let widening = [8: 1 << 15, 16: 1 << 23]

    init(isIPv4: Bool) {
        self.isIPv4 = isIPv4
        memory = TrieMemory(capacity: used + 1024)
        memory.words.initialize(repeating: 0, count: used)
    }

    @usableFromInline
    var view: View {
        View(
            words: UnsafePointer(memory.words), shift: UInt32((isIPv4 ? 32 : 64) - rootBits),
            done: UInt32(rootBits & 16))
    }

    /// Bytes that were ever written.
    var byteCount: Int { used * 4 }

    // MARK: prefixes

    /// What happens to the words that a prefix reaches.
    private struct Edit {
        var prefix: Prefix
        var word: UInt32
        /// Or it goes.
        var isNew: Bool

        /// Whether a word that is no child is this prefix's to change.
        @inline(__always)
        func reaches(_ leaf: UInt32) -> Bool {
            let length = TrieEntry.length(leaf)
            return isNew ? length <= prefix.length : length == prefix.length
        }
    }

    /// Gives all addresses whose longest prefix is this one the value: a new prefix or a new value.
    func set(_ prefix: Prefix, _ value: UInt32) {
        if let limit = Self.widening[rootBits], used > limit, isIPv4 || rootBits == 8 {
            rebuild(rootBits: rootBits + 8)
        }
        apply(
            Edit(
                prefix: prefix, word: TrieEntry.leaf(length: prefix.length, value: value),
                isNew: true))
    }

    /// Takes a prefix out. `outer` is the longest of those that hold it, and its value; nil: none.
    func remove(_ prefix: Prefix, outer: (length: Int, value: UInt32)?) {
        let word = outer.map { TrieEntry.leaf(length: $0.length, value: $0.value) } ?? 0
        apply(Edit(prefix: prefix, word: word, isNew: false))
    }

    private func apply(_ edit: Edit) {
        if edit.prefix.length <= rootBits {
            for index in places(edit.prefix, 0, rootBits) { paint(index, edit) }
        } else {
            change(bits(edit.prefix.address, from: 0, count: rootBits), rootBits, edit)
        }
    }

    /// - Parameters:
    ///   - index: of the word that the prefix's first `depth` bits lead to; it has more.
    private func change(_ index: Int, _ depth: Int, _ edit: Edit) {
        let entry = load(index)
        guard TrieEntry.isChild(entry) else {
            if edit.isNew { store(index, grown(entry, depth, edit)) }
            return
        }
        let form = TrieEntry.form(entry)
        if form == .ranges { return changeRanges(index, depth, edit) }
        let node = TrieEntry.node(entry)
        let width = form == .whole ? 16 : 8
        if edit.prefix.length <= depth + width {
            for place in places(edit.prefix, depth, width) { paint(node + place, edit) }
        } else {
            let place = node + bits(edit.prefix.address, from: depth, count: width)
            let before = load(place)
            change(place, depth + width, edit)
            if form == .high, edit.isNew, !isLow(before), isLow(load(place)) { makeWhole(index) }
        }
        if !edit.isNew { collapse(index, depth, edit.prefix) }
    }

    private func isLow(_ entry: UInt32) -> Bool {
        TrieEntry.isChild(entry) && TrieEntry.form(entry) == .low
    }

    private func paint(_ index: Int, _ edit: Edit) {
        let entry = load(index)
        guard TrieEntry.isChild(entry) else {
            if edit.reaches(entry) { store(index, edit.word) }
            return
        }
        for word in words(of: entry) { paint(word, edit) }
    }

    /// Indices of a node's words.
    private static func words(of entry: UInt32, _ words: Words) -> Range<Int> {
        let node = TrieEntry.node(entry)
        let first = node + TrieEntry.rangeKeys
        return switch TrieEntry.form(entry) {
        case .high, .low: node..<node + 256
        case .whole: node..<node + 1 << 16
        case .ranges: first..<first + rangeCount(words, node)
        }
    }

    private func words(of entry: UInt32) -> Range<Int> { Self.words(of: entry, memory.words) }

    /// Shrinks a node after a removal: few distinct ranges become a range node, a uniform node becomes the
    /// word that leads to it. Otherwise one surviving prefix would keep a node of 64 K words alive.
    private func collapse(_ index: Int, _ depth: Int, _ prefix: Prefix) {
        let entry = load(index)
        guard let few = fewPieces(entry, depth, prefix) else { return }
        let isOne = few.count == 1 && isLeaf(few[0].word, of: depth)
        // IPv4 has no other form.
        if isIPv4, !isOne { return }
        store(index, isOne ? few[0].word : made(few[...], depth))
        retireAll(entry)
    }

    /// The ranges of a node that a prefix went from; nil when they are not few. That is fewer than what
    /// such a node is made for, or a prefix that comes and goes would make it anew each time.
    private func fewPieces(_ entry: UInt32, _ depth: Int, _ prefix: Prefix) -> [Piece]? {
        let form = TrieEntry.form(entry)
        let words = words(of: entry)
        let limit = isIPv4 ? 1 : form == .whole ? 512 : 8
        let byte = form == .whole ? bits(prefix.address, from: depth, count: 8) : 0
        guard hasBorders(words, below: limit, near: byte) else { return nil }
        let first = Self.span(prefix, depth).lowerBound
        let step = form == .high ? 256 : 1
        var pieces: [Piece] = []
        for (place, index) in words.enumerated() {
            let word = load(index)
            let last = first + (place + 1) * step - 1
            if form == .high, TrieEntry.isChild(word) {
                guard TrieEntry.form(word) == .ranges else { return nil }
                pieces += Self.pieces(memory.words, TrieEntry.node(word), last: last)
            } else {
                pieces.append(Piece(last: last, word: word))
            }
        }
        let few = merged(pieces)
        return few.count <= limit ? few : nil
    }

    /// Whether fewer words than `limit` differ from the one before. From the byte on, to both sides: where
    /// prefixes go in order, those that are still there stand on one side.
    private func hasBorders(_ range: Range<Int>, below limit: Int, near byte: Int) -> Bool {
        let words = memory.words
        func borders(_ start: Int) -> Int {
            var count = 0
            var index = max(start, range.lowerBound &+ 1)
            while index < start &+ 256 {
                if words[index] != words[index &- 1] { count &+= 1 }
                index &+= 1
            }
            return count
        }
        var lower = range.lowerBound + byte << 8
        var upper = lower
        var count = 0
        while count < limit, lower > range.lowerBound || upper < range.upperBound {
            if upper < range.upperBound {
                count += borders(upper)
                upper += 256
            }
            if lower > range.lowerBound {
                lower -= 256
                count += borders(lower)
            }
        }
        return count < limit
    }

    /// Whether a word may stand for all that `depth` bits lead to: a longer prefix is to be found again.
    private func isLeaf(_ word: UInt32, of depth: Int) -> Bool {
        !TrieEntry.isChild(word) && TrieEntry.length(word) <= depth
    }

    /// A new node, for a prefix where one word stood for all.
    private func grown(_ entry: UInt32, _ depth: Int, _ edit: Edit) -> UInt32 {
        let end = isIPv4 ? depth + 8 : Self.end(depth)
        let inner = edit.prefix.length > end ? grown(entry, end, edit) : edit.word
        guard isIPv4 else {
            let all = Self.span(edit.prefix, depth)
            let range = keys(edit.prefix, depth)
            var pieces = [Piece(last: all.upperBound, word: entry)]
            split(&pieces, range, from: all.lowerBound)
            for place in pieces.indices where range.contains(pieces[place].last) {
                pieces[place].word = inner
            }
            return made(pieces[...], depth)
        }
        let node = allocate(.byte)
        (memory.words + node).update(repeating: entry, count: 256)
        for place in places(edit.prefix, depth, 8) { memory.words[node + place] = inner }
        return TrieEntry.child(.low, node)
    }

    // MARK: ranges of 16 bits

    /// A range of keys, from the one before on, and its word. Children stand for one key alone.
    private struct Piece: Equatable {
        var last: Int
        var word: UInt32
    }

    /// The bits that the 16 end with which `depth` is in.
    private static func end(_ depth: Int) -> Int { (depth / 16 + 1) * 16 }

    /// All keys below `depth` bits of the address: of 16 bits, or of the lower byte.
    private static func span(_ prefix: Prefix, _ depth: Int) -> ClosedRange<Int> {
        guard depth % 16 == 8 else { return 0...0xffff }
        let first = bits6(prefix.address, from: depth - 8, count: 8) << 8
        return first...first | 255
    }

    /// The keys that a prefix of more than `depth` bits is about.
    private func keys(_ prefix: Prefix, _ depth: Int) -> ClosedRange<Int> {
        let places = places(prefix, Self.end(depth) - 16, 16)
        return places.lowerBound...places.upperBound - 1
    }

    private func changeRanges(_ index: Int, _ depth: Int, _ edit: Edit) {
        let entry = load(index)
        let node = TrieEntry.node(entry)
        let all = Self.span(edit.prefix, depth)
        let old = Self.pieces(memory.words, node, last: all.upperBound)
        var new = old
        let range = keys(edit.prefix, depth)
        if edit.prefix.length > Self.end(depth) {
            let place = old.firstIndex { $0.last >= range.lowerBound }!
            if TrieEntry.isChild(old[place].word) {
                let word = node + TrieEntry.rangeKeys + place
                change(word, Self.end(depth), edit)
                new[place].word = load(word)
            } else if edit.isNew {
                split(&new, range, from: all.lowerBound)
                let inner = grown(old[place].word, Self.end(depth), edit)
                new[new.firstIndex { $0.last == range.upperBound }!].word = inner
            }
        } else {
            split(&new, range, from: all.lowerBound)
            for place in new.indices where range.contains(new[place].last) {
                if TrieEntry.isChild(new[place].word) {
                    for word in words(of: new[place].word) { paint(word, edit) }
                } else if edit.reaches(new[place].word) {
                    new[place].word = edit.word
                }
            }
        }
        put(merged(new), in: index, depth, instead: entry, old)
    }

    /// Makes the range begin and end with pieces.
    private func split(_ pieces: inout [Piece], _ range: ClosedRange<Int>, from first: Int) {
        for last in [range.lowerBound - 1, range.upperBound] where last >= first {
            let place = pieces.firstIndex { $0.last >= last }!
            if pieces[place].last != last {
                pieces.insert(Piece(last: last, word: pieces[place].word), at: place)
            }
        }
    }

    /// Neighbours that say the same become one.
    private func merged(_ pieces: [Piece]) -> [Piece] {
        var merged: [Piece] = []
        merged.reserveCapacity(pieces.count)
        for piece in pieces {
            if let last = merged.last, last.word == piece.word, !TrieEntry.isChild(piece.word) {
                merged[merged.count - 1].last = piece.last
            } else {
                merged.append(piece)
            }
        }
        return merged
    }

    private func put(
        _ new: [Piece], in index: Int, _ depth: Int, instead entry: UInt32, _ old: [Piece]
    ) {
        let first = TrieEntry.node(entry) + TrieEntry.rangeKeys
        if new.count == old.count, zip(new, old).allSatisfy({ $0.last == $1.last }) {
            for place in new.indices where new[place].word != load(first + place) {
                store(first + place, new[place].word)
            }
            if new.count > 1 || !isLeaf(new[0].word, of: depth) { return }
        }
        store(index, new.count == 1 && isLeaf(new[0].word, of: depth) ? new[0].word : made(new[...], depth))
        retire(entry)
    }

    /// A new node of these pieces, which together are all that `depth` bits lead to.
    private func made(_ pieces: ArraySlice<Piece>, _ depth: Int) -> UInt32 {
        if pieces.count <= 16 { return madeRanges(pieces) }
        let node = allocate(.byte)
        let isHigh = depth % 16 == 0
        var rest = pieces
        let byte = isHigh ? 0 : rest[rest.startIndex].last & ~255
        for place in 0..<256 {
            let last = isHigh ? place << 8 | 255 : byte | place
            let end = rest.firstIndex { $0.last >= last }!
            var part = rest[rest.startIndex...end]
            part[end].last = last
            let isOne = part.count == 1 && (!isHigh || isLeaf(part[end].word, of: depth + 8))
            let word = isOne ? part[end].word : made(part, depth + 8)
            memory.words[node + place] = word
            rest = rest[(rest[end].last == last ? end + 1 : end)...]
        }
        return TrieEntry.child(isHigh ? .high : .low, node)
    }

    private func madeRanges(_ pieces: ArraySlice<Piece>) -> UInt32 {
        let node = allocate(pieces.count <= 8 ? .fewRanges : .ranges)
        let keys = UnsafeMutableRawPointer(memory.words + node)
        for place in 0..<16 {
            // The last range, and those that are not there, end with all.
            let isEnd = place >= pieces.count - 1
            let last = isEnd ? 0xffff : pieces[pieces.startIndex + place].last
            keys.storeBytes(
                of: UInt16(last) ^ 0x8000, toByteOffset: place * 2, as: UInt16.self)
        }
        for (place, piece) in pieces.enumerated() {
            memory.words[node + TrieEntry.rangeKeys + place] = piece.word
        }
        return TrieEntry.child(.ranges, node)
    }

    private typealias Words = UnsafeMutablePointer<UInt32>

    private static func last(_ words: Words, _ node: Int, _ place: Int) -> Int {
        let keys = UnsafeRawPointer(words + node)
        return Int(keys.load(fromByteOffset: place * 2, as: UInt16.self) ^ 0x8000)
    }

    private static func rangeCount(_ words: Words, _ node: Int) -> Int {
        var count = 1
        while last(words, node, count - 1) != 0xffff { count += 1 }
        return count
    }

    private static func pieces(_ words: Words, _ node: Int, last end: Int) -> [Piece] {
        let count = rangeCount(words, node)
        return (0..<count).map {
            Piece(
                last: $0 == count - 1 ? end : last(words, node, $0),
                word: words[node + TrieEntry.rangeKeys + $0])
        }
    }

    /// Where bytes below a byte are many, 65,536 words spare a step and are at most four times as much.
    private func makeWhole(_ index: Int) {
        let entry = load(index)
        let words = words(of: entry)
        guard words.count(where: { isLow(load($0)) }) >= 64 else { return }
        let node = allocate(.whole)
        for (byte, word) in words.enumerated() { expand(load(word), memory.words, to: node + byte << 8) }
        store(index, TrieEntry.child(.whole, node))
        retireAll(entry)
    }

    /// Writes what one word leads to as 256.
    private func expand(_ entry: UInt32, _ from: Words, to place: Int) {
        let target = memory.words + place
        guard TrieEntry.isChild(entry) else {
            return target.update(repeating: entry, count: 256)
        }
        let node = TrieEntry.node(entry)
        guard TrieEntry.form(entry) == .ranges else {
            return target.update(from: from + node, count: 256)
        }
        var key = 0
        for piece in Self.pieces(from, node, last: 0xffff) {
            // Keys of a lower byte have their upper byte with them.
            let end = piece.last & 255 + 1
            (target + key).update(repeating: piece.word, count: end - key)
            key = end
        }
    }

    // MARK: words

    @inline(__always)
    private func load(_ index: Int) -> UInt32 { memory.words[index] }

    @inline(__always)
    private func store(_ index: Int, _ word: UInt32) {
        UnsafeRawPointer(memory.words + index).assumingMemoryBound(to: Atomic<UInt32>.self)
            .pointee.store(word, ordering: .releasing)
    }

    /// `count` bits of the address from bit `depth` on, as an index.
    @inline(__always)
    private func bits(_ address: Address, from depth: Int, count: Int) -> Int {
        if isIPv4 { return Int(address.ipv4 >> UInt32(32 - depth - count)) & (1 << count - 1) }
        return Self.bits6(address, from: depth, count: count)
    }

    @inline(__always)
    private static func bits6(_ address: Address, from depth: Int, count: Int) -> Int {
        let word = depth < 64 ? address.high : address.low
        return Int(truncatingIfNeeded: word >> UInt64(64 - depth % 64 - count)) & (1 << count - 1)
    }

    /// The indices of `width` bits behind `depth` that a prefix is about.
    private func places(_ prefix: Prefix, _ depth: Int, _ width: Int) -> Range<Int> {
        let count = 1 << max(depth + width - prefix.length, 0)
        let first = bits(prefix.address, from: depth, count: width) & ~(count - 1)
        return first..<first + count
    }

    // MARK: memory

    private static func size(of entry: UInt32, _ words: Words) -> NodeSize {
        switch TrieEntry.form(entry) {
        case .high, .low: .byte
        case .whole: .whole
        case .ranges: rangeCount(words, TrieEntry.node(entry)) <= 8 ? .fewRanges : .ranges
        }
    }

    /// A node, and what of the same 16 bits is below it.
    private func retireAll(_ entry: UInt32) {
        if TrieEntry.form(entry) == .high {
            for word in words(of: entry) where TrieEntry.isChild(load(word)) { retire(load(word)) }
        }
        retire(entry)
    }

    private func retire(_ entry: UInt32) {
        retired.append((Self.size(of: entry, memory.words), TrieEntry.node(entry)))
    }

    private func allocate(_ size: NodeSize) -> Int {
        if let reused = free[size.rawValue].popLast() { return reused }
        if used + size.words > memory.capacity {
            move(to: max(memory.capacity + memory.capacity / 2, used + 4 * size.words))
        }
        let node = used
        used += size.words
        precondition(used <= Int(TrieEntry.indexMask), "a trie of 2 GiB")
        return node
    }

    /// Readers keep the old memory as it is: who asks for `view` next has the new one.
    func detach() { move(to: memory.capacity) }

    private func move(to capacity: Int) {
        let larger = TrieMemory(capacity: capacity)
        larger.words.initialize(from: memory.words, count: used)
        memory = larger
        // Nobody reads them in the new memory, yet.
        reclaim()
    }

    /// To be called when every reader has begun anew since the last change.
    func reclaim() {
        for (size, node) in retired { free[size.rawValue].append(node) }
        retired = []
    }

    /// What was loaded in no order, in that of the addresses and without gaps.
    func compact() { rebuild(rootBits: rootBits) }

    /// All of it in new memory, without what is free, below a root of as many bits or of eight more.
    private func rebuild(rootBits bits: Int) {
        let old = memory
        let oldRoot = 1 << rootBits
        let isWider = bits > rootBits
        rootBits = bits
        memory = TrieMemory(capacity: 1 << bits + max(used - oldRoot, 1 << 10))
        used = 1 << bits
        free = free.map { _ in [] }
        retired = []
        let step = isWider ? 256 : 1
        for place in 0..<oldRoot {
            if isWider {
                expand(old.words[place], old.words, to: place * step)
            } else {
                memory.words[place] = old.words[place]
            }
            for word in place * step..<(place + 1) * step {
                // Copying may move the memory that is written to.
                let new = copy(memory.words[word], old.words)
                memory.words[word] = new
            }
        }
    }

    private func copy(_ entry: UInt32, _ old: Words) -> UInt32 {
        guard TrieEntry.isChild(entry) else { return entry }
        let form = TrieEntry.form(entry)
        let from = TrieEntry.node(entry)
        let words = Self.words(of: entry, old)
        let node = allocate(Self.size(of: entry, old))
        if form == .ranges {
            (memory.words + node).update(from: old + from, count: TrieEntry.rangeKeys)
        }
        for word in words {
            let new = copy(old[word], old)
            memory.words[node + word - from] = new
        }
        return TrieEntry.child(form, node)
    }
}
