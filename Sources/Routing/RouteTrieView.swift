// Part of RouteTrie (RouteTrie.swift): what readers walk while one writer changes it. Every entry is one
// word that is loaded and stored whole.

import IP
import Synchronization

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
