// Longest-prefix match that one writer changes in place while readers go on: a trie of a wide root and
// fixed strides, every entry one word that is loaded and stored whole.

import Synchronization

/// One word of the trie. Either a child (top bit, and the index of its first entry), or the length
/// of the prefix that painted it and that prefix's 23-bit value; 0: no prefix.
@usableFromInline
enum TrieEntry {
    @usableFromInline static let child: UInt32 = 1 << 31
    @usableFromInline static let lengthShift: UInt32 = 23
    @usableFromInline static let valueMask: UInt32 = 1 << 23 - 1

    @inline(__always)
    static func leaf(length: Int, value: UInt32) -> UInt32 {
        precondition(value <= valueMask, "values have 23 bits")
        return UInt32(length) << lengthShift | value
    }

    @inline(__always)
    static func length(_ entry: UInt32) -> Int { Int(entry >> lengthShift & 255) }
}

/// The memory of a trie's nodes: readers of an older generation keep it after it was outgrown.
final class TrieMemory: @unchecked Sendable {
    // @unchecked: words are only loaded and stored whole.
    let words: UnsafeMutablePointer<UInt32>
    let capacity: Int

    init(capacity: Int) {
        words = .allocate(capacity: capacity)
        self.capacity = capacity
    }

    deinit { words.deallocate() }
}

/// One family's trie. IPv4 descends by bytes, IPv6 by four bits: its long prefixes stand alone, and
/// a node of 16 entries is one cache line.
@usableFromInline
struct RouteTrie {
    let isIPv4: Bool
    let rootBits: Int
    let stride: Int
    private(set) var memory: TrieMemory
    private var used: Int
    /// Nodes that can be used again; and those that readers may still stand in.
    private var free: [Int] = []
    private var retired: [Int] = []

    /// - Parameter rootBits: 8 or 16, for IPv4 also 24; 2^rootBits words are touched at once.
    init(isIPv4: Bool, rootBits: Int) {
        self.isIPv4 = isIPv4
        self.rootBits = rootBits
        stride = isIPv4 ? 8 : 4
        used = 1 << rootBits
        memory = TrieMemory(capacity: used + (1 << stride) * 4)
        memory.words.initialize(repeating: 0, count: used)
    }

    var view: View {
        View(words: UnsafePointer(memory.words), shift: UInt32(isIPv4 ? 32 - rootBits : rootBits))
    }

    /// Bytes that were ever written.
    var byteCount: Int { used * 4 }

    /// What a reader holds: the memory must outlive it.
    @usableFromInline
    struct View: @unchecked Sendable, BitwiseCopyable {
        @usableFromInline let words: UnsafePointer<UInt32>
        /// IPv4: bits below the root's; IPv6: the root's own bits.
        @usableFromInline let shift: UInt32

        @usableFromInline init(words: UnsafePointer<UInt32>, shift: UInt32) {
            self.words = words
            self.shift = shift
        }

        /// Acquiring: a child's words were stored before the word that leads to it.
        @inlinable @inline(__always)
        func word(_ index: Int) -> UInt32 {
            UnsafeRawPointer(words + index).assumingMemoryBound(to: Atomic<UInt32>.self)
                .pointee.load(ordering: .acquiring)
        }

        /// The word of the longest prefix that holds the address.
        @inlinable @inline(__always)
        func find(ipv4 address: UInt32) -> UInt32 {
            var shift = shift
            var entry = word(Int(address &>> shift))
            while entry & TrieEntry.child != 0 {
                shift &-= 8
                entry = word(Int(entry & ~TrieEntry.child) | Int(address &>> shift & 255))
            }
            return entry
        }

        @inlinable @inline(__always)
        func find(ipv6 address: Address) -> UInt32 {
            var entry = word(Int(truncatingIfNeeded: address.high &>> UInt64(64 &- shift)))
            var bits = address.high &<< UInt64(shift)
            var left = Int32(64) &- Int32(shift)
            while entry & TrieEntry.child != 0 {
                if left == 0 {
                    bits = address.low
                    left = 64
                }
                entry = word(
                    Int(entry & ~TrieEntry.child) | Int(truncatingIfNeeded: bits &>> 60))
                bits = bits &<< 4
                left &-= 4
            }
            return entry
        }
    }

    // MARK: the writer

    @inline(__always)
    private func load(_ index: Int) -> UInt32 { memory.words[index] }

    @inline(__always)
    private func store(_ index: Int, _ word: UInt32) {
        UnsafeRawPointer(memory.words + index).assumingMemoryBound(to: Atomic<UInt32>.self)
            .pointee.store(word, ordering: .releasing)
    }

    /// `count` bits of the prefix's address from bit `depth` on, as an index.
    @inline(__always)
    private func bits(_ address: Address, from depth: Int, count: Int) -> Int {
        if isIPv4 { return Int(address.ipv4 >> UInt32(32 - depth - count)) & (1 << count - 1) }
        let word = depth < 64 ? address.high : address.low
        return Int(truncatingIfNeeded: word >> UInt64(64 - depth % 64 - count)) & (1 << count - 1)
    }

    /// Gives all addresses whose longest prefix is this one the value: a new prefix or a new value.
    mutating func set(_ prefix: Prefix, _ value: UInt32) {
        let new = TrieEntry.leaf(length: prefix.length, value: value)
        let place = descend(prefix, creating: true)!
        for index in place.range { paint(index, new) { TrieEntry.length($0) <= prefix.length } }
    }

    /// Takes a prefix out. `outer` is the longest of those that hold it, and its value; nil: none.
    mutating func remove(_ prefix: Prefix, outer: (length: Int, value: UInt32)?) {
        guard let place = descend(prefix, creating: false) else { return }
        let new = outer.map { TrieEntry.leaf(length: $0.length, value: $0.value) } ?? 0
        for index in place.range {
            paint(index, new) { TrieEntry.length($0) == prefix.length }
        }
        collapse(place.path)
    }

    private struct Place {
        var range: Range<Int>
        /// From the root down: the word that leads to each node.
        var path: [(word: Int, node: Int, depth: Int)]
    }

    private mutating func descend(_ prefix: Prefix, creating: Bool) -> Place? {
        var path: [(word: Int, node: Int, depth: Int)] = []
        var (node, depth, width) = (0, 0, rootBits)
        while true {
            let remaining = prefix.length - depth
            if remaining <= width {
                let first = node + bits(prefix.address, from: depth, count: width)
                return Place(range: first..<first + 1 << (width - max(remaining, 0)), path: path)
            }
            let word = node + bits(prefix.address, from: depth, count: width)
            var entry = load(word)
            if entry & TrieEntry.child == 0 {
                guard creating else { return nil }
                entry = UInt32(allocate(filledWith: entry)) | TrieEntry.child
                store(word, entry)
            }
            node = Int(entry & ~TrieEntry.child)
            depth += width
            width = stride
            path.append((word, node, depth))
        }
    }

    private func paint(_ index: Int, _ new: UInt32, where isOurs: (UInt32) -> Bool) {
        let entry = load(index)
        if entry & TrieEntry.child == 0 {
            if isOurs(entry) { store(index, new) }
            return
        }
        let node = Int(entry & ~TrieEntry.child)
        for index in node..<node + 1 << stride { paint(index, new, where: isOurs) }
    }

    /// Nodes that say the same everywhere become the word that leads to them.
    private mutating func collapse(_ path: [(word: Int, node: Int, depth: Int)]) {
        for step in path.reversed() {
            let first = load(step.node)
            guard first & TrieEntry.child == 0, TrieEntry.length(first) <= step.depth else {
                return
            }
            for index in step.node + 1..<step.node + 1 << stride where load(index) != first {
                return
            }
            store(step.word, first)
            retired.append(step.node)
        }
    }

    private mutating func allocate(filledWith entry: UInt32) -> Int {
        let count = 1 << stride
        let node: Int
        if let reused = free.popLast() {
            node = reused
        } else {
            if used + count > memory.capacity { grow() }
            node = used
            used += count
        }
        precondition(node < Int(TrieEntry.child), "a trie of 8 GiB")
        (memory.words + node).update(repeating: entry, count: count)
        return node
    }

    private mutating func grow() {
        move(to: max(memory.capacity + memory.capacity / 2, memory.capacity + 4 << stride))
    }

    /// Readers keep the old memory as it is: who asks for `view` next has the new one.
    mutating func detach() { move(to: memory.capacity) }

    private mutating func move(to capacity: Int) {
        let larger = TrieMemory(capacity: capacity)
        larger.words.initialize(from: memory.words, count: used)
        memory = larger
        // Nobody reads them in the new memory, yet.
        free += retired
        retired = []
    }

    /// To be called when every reader has begun anew since the last change.
    mutating func reclaim() {
        free += retired
        retired = []
    }
}
