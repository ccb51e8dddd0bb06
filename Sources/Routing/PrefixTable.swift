// Longest-prefix match as an immutable multibit trie with strides of 8 bits.
// Built once by a writer, read through a trivially copyable `View`; never changed after that.

import IP

/// Maps addresses to 31-bit values. The memory lives as long as the instance.
public final class PrefixTable: @unchecked Sendable {
    // @unchecked: `nodes` is written only in `init`.

    /// Marks an entry as a child rather than a value; the other bits are then the index of the
    /// child's first entry, a multiple of 256.
    @usableFromInline static let child: UInt32 = 1 << 31

    public let view: View
    private let nodes: UnsafeMutablePointer<UInt32>

    /// Bytes held by the trie.
    public let byteCount: Int

    /// Paints the prefixes in the given order: a later one overwrites every address that it
    /// covers. Sorted by length this is longest-prefix match; tables painted one after the
    /// other give the later table's *any* match precedence, as routing rules do.
    public init(painting entries: some Sequence<(Prefix, UInt32)>) {
        var builder = Builder()
        for (prefix, value) in entries { builder.paint(prefix, value) }
        byteCount = builder.nodes.count * MemoryLayout<UInt32>.stride
        nodes = .allocate(capacity: builder.nodes.count)
        nodes.initialize(from: builder.nodes, count: builder.nodes.count)
        view = View(nodes: UnsafePointer(nodes))
    }

    /// Longest-prefix match over entries in any order.
    public convenience init(longestMatch entries: [(Prefix, UInt32)]) {
        self.init(painting: entries.sorted { $0.0.length < $1.0.length })
    }

    deinit { nodes.deallocate() }

    /// What a reader holds: one pointer. Valid while the table lives.
    public struct View: @unchecked Sendable, BitwiseCopyable {
        // Node 0 is the IPv4 root, node 1 the IPv6 root.
        @usableFromInline let nodes: UnsafePointer<UInt32>

        @inlinable init(nodes: UnsafePointer<UInt32>) { self.nodes = nodes }

        /// The value of the longest prefix that holds the address; 0 when none does.
        @inlinable @inline(__always)
        public func lookup(ipv4 address: UInt32) -> UInt32 {
            var entry = nodes[Int(address >> 24)]
            if entry & PrefixTable.child == 0 { return entry }
            entry = step(entry, UInt64(address >> 16))
            if entry & PrefixTable.child == 0 { return entry }
            entry = step(entry, UInt64(address >> 8))
            if entry & PrefixTable.child == 0 { return entry }
            return step(entry, UInt64(address))
        }

        @inlinable @inline(__always)
        public func lookup(_ address: Address) -> UInt32 {
            address.isIPv4 ? lookup(ipv4: address.ipv4) : lookup(ipv6: address)
        }

        @inlinable
        public func lookup(ipv6 address: Address) -> UInt32 {
            var entry = nodes[256 &+ Int(address.high >> 56)]
            var bits = address.high
            var level = 7
            while entry & PrefixTable.child != 0 && level != 0 {
                bits = bits &<< 8
                entry = step(entry, bits &>> 56)
                level &-= 1
            }
            bits = address.low
            while entry & PrefixTable.child != 0 {
                entry = step(entry, bits &>> 56)
                bits = bits &<< 8
            }
            return entry
        }

        @inlinable @inline(__always)
        func step(_ entry: UInt32, _ bits: UInt64) -> UInt32 {
            nodes[Int(entry & ~PrefixTable.child) | Int(truncatingIfNeeded: bits & 255)]
        }
    }

    private struct Builder {
        var nodes = [UInt32](repeating: 0, count: 512)
        private var free: [Int] = []

        mutating func paint(_ prefix: Prefix, _ value: UInt32) {
            precondition(value & PrefixTable.child == 0, "values have 31 bits")
            let address = prefix.address
            var node = prefix.isIPv4 ? 0 : 1
            var depth = 0
            while true {
                let byte =
                    prefix.isIPv4
                    ? Int(address.ipv4 >> UInt32(24 - depth) & 255)
                    : Int(
                        (depth < 64
                            ? address.high >> UInt64(56 - depth)
                            : address.low >> UInt64(120 - depth)) & 255)
                let remaining = prefix.length - depth
                if remaining <= 8 {
                    for index in byte..<(byte + 1 << (8 - remaining)) {
                        release(nodes[node * 256 + index])
                        nodes[node * 256 + index] = value
                    }
                    return
                }
                node = child(of: node, at: byte)
                depth += 8
            }
        }

        private mutating func child(of node: Int, at byte: Int) -> Int {
            let entry = nodes[node * 256 + byte]
            if entry & PrefixTable.child != 0 { return Int(entry & ~PrefixTable.child) / 256 }
            let new: Int
            if let reused = free.popLast() {
                new = reused
                for index in 0..<256 { nodes[new * 256 + index] = entry }
            } else {
                new = nodes.count / 256
                nodes.append(contentsOf: repeatElement(entry, count: 256))
            }
            nodes[node * 256 + byte] = UInt32(new * 256) | PrefixTable.child
            return new
        }

        private mutating func release(_ entry: UInt32) {
            guard entry & PrefixTable.child != 0 else { return }
            let node = Int(entry & ~PrefixTable.child) / 256
            for index in 0..<256 { release(nodes[node * 256 + index]) }
            free.append(node)
        }
    }
}

/// For each distinct prefix: the items of all prefixes that cover it, ascending. What a table
/// of ordered rules ("first match counts") is built from. O(n log n) plus the output.
public func coveringItems(_ rules: [(prefix: Prefix, item: Int)]) -> [(Prefix, [Int])] {
    let order = rules.sorted { Prefix.isBefore($0.prefix, $1.prefix) }
    var result: [(Prefix, [Int])] = []
    // Indices into `result` of the prefixes that enclose the current one, outermost first.
    var enclosing: [Int] = []
    for rule in order {
        if let last = result.last, last.0 == rule.prefix {
            result[result.count - 1].1.append(rule.item)
            continue
        }
        while let top = enclosing.last, !result[top].0.covers(rule.prefix) { enclosing.removeLast() }
        let inherited = enclosing.last.map { result[$0].1 } ?? []
        result.append((rule.prefix, inherited + [rule.item]))
        enclosing.append(result.count - 1)
    }
    return result.map { ($0.0, $0.1.sorted()) }
}

/// How many items `coveringItems` of these prefixes would hold in all: each distinct prefix has its own
/// and those of every prefix around it. O(n log n).
public func coveringCount(_ prefixes: [Prefix]) -> Int {
    let order = prefixes.sorted(by: Prefix.isBefore)
    var total = 0
    // The prefixes that enclose the current one, outermost first, and the items down to each.
    var enclosing: [(prefix: Prefix, count: Int)] = []
    for prefix in order {
        while let top = enclosing.last, !top.prefix.covers(prefix) { enclosing.removeLast() }
        if let top = enclosing.last, top.prefix == prefix {
            enclosing[enclosing.count - 1].count += 1
            total += 1
        } else {
            let count = (enclosing.last?.count ?? 0) + 1
            enclosing.append((prefix, count))
            total += count
        }
    }
    return total
}

extension Prefix {
    /// By family, address and length: a prefix stands right before those within it.
    fileprivate static func isBefore(_ left: Prefix, _ right: Prefix) -> Bool {
        if left.isIPv4 != right.isIPv4 { return left.isIPv4 }
        if left.address.high != right.address.high { return left.address.high < right.address.high }
        if left.address.low != right.address.low { return left.address.low < right.address.low }
        return left.length < right.length
    }
}
