// Longest-prefix match as an immutable multibit trie with strides of 8 bits.
// Built once by a writer, read through a trivially copyable `View`; never changed after that.

import IP

/// Maps addresses to 31-bit values. The memory lives as long as the instance.
public final class PrefixTable: @unchecked Sendable {
    // @unchecked: the memory is written only in `init`.

    /// Marks an entry as a child rather than a value; the other bits are then the index of the
    /// child's first entry, a multiple of 256.
    @usableFromInline static let child: UInt32 = 1 << 31

    public let view: View
    private let memory = StableMemory()

    /// Longest-prefix match over entries in any order.
    public init(longestMatch entries: [(Prefix, UInt32)]) {
        var builder = Builder()
        // A longer prefix overwrites what it covers.
        for (prefix, value) in entries.sorted(by: { $0.0.length < $1.0.length }) {
            builder.paint(prefix, value)
        }
        view = View(nodes: memory.copy(builder.nodes))
    }

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

        /// No longer prefix has been painted before.
        mutating func paint(_ prefix: Prefix, _ value: UInt32) {
            precondition(value & PrefixTable.child == 0, "values have 31 bits")
            let address = prefix.address
            // IPv4 is in the last 32 of 128 bits.
            var depth = prefix.isIPv4 ? 96 : 0
            var left = prefix.length
            var node = prefix.isIPv4 ? 0 : 256
            while true {
                let word = depth < 64 ? address.high : address.low
                let first = node + Int(word >> UInt64(56 - depth % 64) & 255)
                if left <= 8 {
                    for index in first..<first + 1 << (8 - left) { nodes[index] = value }
                    return
                }
                node = child(at: first)
                depth += 8
                left -= 8
            }
        }

        private mutating func child(at index: Int) -> Int {
            let entry = nodes[index]
            if entry & PrefixTable.child != 0 { return Int(entry & ~PrefixTable.child) }
            nodes[index] = UInt32(nodes.count) | PrefixTable.child
            nodes.append(contentsOf: repeatElement(entry, count: 256))
            return nodes.count - 256
        }
    }
}

/// For each distinct prefix: the items of all prefixes that cover it, ascending, each once. What a table
/// of ordered rules ("first match counts") is built from. O(n log n) plus the output.
public func coveringItems(_ rules: [(prefix: Prefix, item: Int)]) -> [(Prefix, [Int])] {
    let order = rules.sorted { $0.prefix < $1.prefix }
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
    return result.map { ($0.0, Set($0.1).sorted()) }
}

/// How many items `coveringItems` of these prefixes would hold in all: each distinct prefix has its own
/// and those of every prefix around it. O(n log n).
public func coveringCount(_ prefixes: [Prefix]) -> Int {
    let order = prefixes.sorted()
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
