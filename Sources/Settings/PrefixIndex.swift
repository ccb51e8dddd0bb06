// A list of prefixes that finds those around an address without a look at each.

import IP

struct PrefixIndex {
    let prefixes: [Prefix]
    /// Of equal prefixes the first.
    private var indices: [Prefix: Int] = [:]
    /// Lengths that occur, by whether the prefix is IPv4.
    private var lengths: [Bool: Set<Int>] = [:]

    init(_ prefixes: [Prefix], where isMeant: (Prefix) -> Bool = { _ in true }) {
        self.prefixes = prefixes
        for (index, prefix) in prefixes.enumerated() where isMeant(prefix) {
            if indices[prefix] == nil { indices[prefix] = index }
            lengths[prefix.isIPv4, default: []].insert(prefix.length)
        }
    }

    /// Indices of the prefixes that cover this one.
    func covering(_ prefix: Prefix) -> [Int] {
        (lengths[prefix.isIPv4] ?? []).filter { $0 <= prefix.length }.compactMap { length in
            Prefix(prefix.address, length: length).flatMap { indices[$0] }
        }
    }

    /// The narrower of two prefixes that overlap, one in each list.
    func overlap(_ other: PrefixIndex, where isMeant: (Prefix) -> Bool = { _ in true }) -> Prefix? {
        prefixes.first { isMeant($0) && !other.covering($0).isEmpty }
            ?? other.prefixes.first { isMeant($0) && !covering($0).isEmpty }
    }
}
