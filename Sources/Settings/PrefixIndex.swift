// Lists of prefixes by length: what covers an address is found without a look at each of them.

import IP

struct PrefixIndex {
    private var places: [Prefix: Int] = [:]
    private var lengthsIPv4: Set<Int> = []
    private var lengthsIPv6: Set<Int> = []

    init(_ prefixes: [Prefix], where isMeant: (Prefix) -> Bool = { _ in true }) {
        for (place, prefix) in prefixes.enumerated() where isMeant(prefix) {
            if places[prefix] == nil { places[prefix] = place }
            if prefix.isIPv4 {
                lengthsIPv4.insert(prefix.length)
            } else {
                lengthsIPv6.insert(prefix.length)
            }
        }
    }

    /// Places in the list of the prefixes that cover this one; of equal prefixes the first.
    func covering(_ prefix: Prefix) -> [Int] {
        (prefix.isIPv4 ? lengthsIPv4 : lengthsIPv6).compactMap { length in
            guard length <= prefix.length else { return nil }
            return Prefix(prefix.address, length: length).flatMap { places[$0] }
        }
    }
}
