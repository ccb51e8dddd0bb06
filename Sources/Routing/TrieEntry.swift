// The words of a trie.

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
