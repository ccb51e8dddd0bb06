// Longest-prefix match that one writer changes in place while readers go on: what readers walk. Every
// entry is one word that is loaded and stored whole; how they change is in RouteTrieChanges.swift.

import IP
import Synchronization

/// One word of a trie. Either a child (top bit, its form, the index of its first word), or the length
/// of the prefix that painted it and that prefix's 23-bit value; 0: no prefix.
@usableFromInline
enum TrieEntry {
    @usableFromInline static let child: UInt32 = 1 << 31
    @usableFromInline static let formShift: UInt32 = 29
    @usableFromInline static let indexMask: UInt32 = 1 << 29 - 1
    @usableFromInline static let lengthShift: UInt32 = 23
    @usableFromInline static let valueMask: UInt32 = 1 << 23 - 1

    /// IPv6 descends by 16 bits, each step by a node of one of these forms or, where two bytes decide
    /// one after the other, `high` and what is below it. IPv4 descends by bytes: all its nodes are `low`.
    /// Values: the upper three bits of the words that lead to such nodes.
    @usableFromInline
    enum Form: UInt32 {
        /// 256 words by the upper byte of the 16 bits; what is below is of the same 16.
        case high = 4
        /// 256 words by the lower byte.
        case low
        /// 65,536 words.
        case whole
        /// Up to 16 ranges of the 16 bits, in order: the last value of each but the last range, in 8
        /// words, then the ranges' words. Most holders of a /32 announce a handful of prefixes: a
        /// range costs 6 bytes, and up to 8 of them are one cache line.
        case ranges
    }

    /// Words before those of the ranges.
    @usableFromInline static let rangeKeys = 8

    @inline(__always)
    static func leaf(length: Int, value: UInt32) -> UInt32 {
        precondition(value <= valueMask, "values have 23 bits")
        return UInt32(length) << lengthShift | value
    }

    /// Of a word that is no child.
    @inline(__always)
    static func length(_ entry: UInt32) -> Int { Int(entry >> lengthShift & 255) }

    @inline(__always)
    static func isChild(_ entry: UInt32) -> Bool { entry & child != 0 }

    /// Of a child.
    @inline(__always)
    static func form(_ entry: UInt32) -> Form { Form(rawValue: entry >> formShift)! }

    @inline(__always)
    static func child(_ form: Form, _ node: Int) -> UInt32 { form.rawValue << formShift | UInt32(node) }

    @inline(__always)
    static func node(_ entry: UInt32) -> Int { Int(entry & indexMask) }
}

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

extension RouteTrie {
    /// What a reader holds: the memory must outlive it.
    @usableFromInline
    struct View: @unchecked Sendable, BitwiseCopyable {
        @usableFromInline let words: UnsafePointer<UInt32>
        /// Bits below the root's, of 32 or of the upper 64.
        @usableFromInline let shift: UInt32
        /// IPv6: bits that need not be looked at again below the root, 0 or 16.
        @usableFromInline let done: UInt32

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
                entry = word(Int(entry & TrieEntry.indexMask) | Int(address &>> shift & 255))
            }
            return entry
        }

        @inlinable @inline(__always)
        func find(ipv6 address: Address) -> UInt32 {
            var entry = word(Int(truncatingIfNeeded: address.high &>> UInt64(shift)))
            var bits = address.high &<< UInt64(done)
            var left = Int32(64) &- Int32(done)
            while entry & TrieEntry.child != 0 {
                let node = Int(entry & TrieEntry.indexMask)
                let key = Int(truncatingIfNeeded: bits &>> 48)
                switch entry &>> TrieEntry.formShift {
                case TrieEntry.Form.high.rawValue:
                    entry = word(node &+ key &>> 8)
                    continue
                case TrieEntry.Form.low.rawValue: entry = word(node &+ key & 255)
                case TrieEntry.Form.whole.rawValue: entry = word(node &+ key)
                default: entry = word(node &+ TrieEntry.rangeKeys &+ range(node, key))
                }
                bits = bits &<< 16
                left &-= 16
                if left == 0 { bits = address.low }
            }
            return entry
        }

        /// Which of a node's ranges holds the key: how many of them end before it. All sixteen are
        /// compared at once, as where a search would turn cannot be foreseen. Keys are kept with the top
        /// bit turned, as processors compare sixteen bits with a sign.
        @inlinable @inline(__always)
        func range(_ node: Int, _ key: Int) -> Int {
            let lasts = UnsafeRawPointer(words + node)
            let wanted = SIMD8<Int16>(repeating: Int16(truncatingIfNeeded: key ^ 0x8000))
            let lower = lasts.load(as: SIMD8<Int16>.self) .< wanted
            let upper = lasts.load(fromByteOffset: 16, as: SIMD8<Int16>.self) .< wanted
            // -1 where it ends before.
            let sum =
                unsafeBitCast(lower, to: SIMD8<Int16>.self)
                &+ unsafeBitCast(upper, to: SIMD8<Int16>.self)
            return 0 &- Int(sum.wrappedSum())
        }
    }
}
