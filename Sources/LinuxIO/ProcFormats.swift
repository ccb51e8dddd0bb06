// How the kernel writes interrupts and the nodes of a process's pages: texts only, no files.

/// What /proc/interrupts says of an interrupt.
package struct InterruptCount: Equatable, Sendable {
    /// Since the host started, on all CPUs.
    package var count: UInt64
    /// As its driver calls it, such as eth0-TxRx-3; with several drivers, all of them.
    package var name: String

    /// - Returns: the lines of these interrupts, by number.
    package static func parse(_ text: String, of wanted: Set<Int>) -> [Int: InterruptCount] {
        let lines = text.split(separator: "\n")
        // A column a CPU that is online.
        guard let columns = lines.first?.split(separator: " ").count else { return [:] }
        var found: [Int: InterruptCount] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":"),
                let number = Int(line[..<colon].drop { $0 == " " }), wanted.contains(number)
            else { continue }
            let words = line[line.index(after: colon)...].split(separator: " ")
            let count = words.prefix(columns).reduce(UInt64(0)) { $0 &+ (UInt64($1) ?? 0) }
            found[number] = InterruptCount(count: count, name: name(words.dropFirst(columns)))
        }
        return found
    }

    /// The drivers' names stand last, with commas between; how many words describe the
    /// controller before them differs between architectures.
    private static func name(_ words: ArraySlice<Substring>) -> String {
        var names: [Substring] = []
        for word in words.reversed() {
            if !names.isEmpty && !word.hasSuffix(",") { break }
            names.insert(word, at: 0)
        }
        return names.joined(separator: " ")
    }
}

/// What /proc/PID/numa_maps says of memory (Documentation/filesystems/proc.rst).
enum NumaMaps {
    /// - Parameter starts: the first addresses of mappings.
    /// - Returns: pages by node, of those mappings that are there, by first address.
    static func parse(_ text: String, of starts: Set<UInt>) -> [UInt: [Int: Int]] {
        var found: [UInt: [Int: Int]] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let first = words.first, let start = UInt(first, radix: 16),
                starts.contains(start)
            else { continue }
            var nodes: [Int: Int] = [:]
            for word in words where word.first == "N" {
                let pair = word.dropFirst().split(separator: "=")
                guard pair.count == 2, let node = Int(pair[0]), let pages = Int(pair[1]) else {
                    continue
                }
                nodes[node] = pages
            }
            found[start] = nodes
        }
        return found
    }
}
