// A map of BPF programs as a value.

/// The entries of one map, as bytes. Values have 32 bits.
public struct FilterMap: Sendable, Equatable {
    public enum Kind: Sendable {
        /// The key begins with the number of bits that count, in 32 bits of host order
        /// (linux/bpf.h `struct bpf_lpm_trie_key`).
        case longestPrefix
        case exact
    }

    public let kind: Kind
    /// At most 15 bytes, for `bpftool map`.
    public let name: String
    public let keyBytes: Int
    public private(set) var keys: [UInt8] = []
    public private(set) var values: [UInt32] = []

    public var isEmpty: Bool { values.isEmpty }

    /// - Parameter dataBytes: bytes of a key, without the number of bits that count.
    public init(_ kind: Kind, _ name: String, dataBytes: Int) {
        self.kind = kind
        self.name = name
        keyBytes = dataBytes + (kind == .longestPrefix ? 4 : 0)
    }

    /// - Parameters:
    ///   - bits: of `data` that count; ignored where all do.
    ///   - data: the parts of the key, in order.
    public mutating func add(bits: Int = 0, _ data: [UInt8]..., value: UInt32 = 1) {
        if kind == .longestPrefix { keys += Self.bytes(of: UInt32(truncatingIfNeeded: bits)) }
        for part in data { keys += part }
        values.append(value)
        assert(keys.count == values.count * keyBytes)
    }

    /// A number as it lies in memory.
    public static func bytes(of value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
}
