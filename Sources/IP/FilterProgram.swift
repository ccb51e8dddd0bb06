// A BPF program as a value: what one room generates and another loads.

/// Instructions of eBPF (linux/bpf.h `struct bpf_insn`), 8 bytes each as they lie in memory.
public struct FilterProgram: Sendable, Equatable {
    /// An instruction that waits for a map's descriptor.
    public struct Reference: Sendable, Equatable {
        /// Index into `words`.
        public var at: Int
        /// Index into `maps`.
        public var map: Int

        public init(at: Int, map: Int) {
            self.at = at
            self.map = map
        }
    }

    public var words: [UInt64]
    public var references: [Reference]
    public var maps: [FilterMap]

    public init(words: [UInt64], references: [Reference] = [], maps: [FilterMap] = []) {
        self.words = words
        self.references = references
        self.maps = maps
    }
}
