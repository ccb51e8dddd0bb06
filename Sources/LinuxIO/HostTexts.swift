// How the kernel writes lists of CPUs, interrupts and the nodes of a process's pages: texts only, no files.

/// A list of numbers as sysfs and procfs write it: "0-3,8".
public enum NumberList {
    /// - Returns: ascending; empty for an empty list, nil for what is none.
    public static func parse(_ text: String) -> [Int]? {
        var numbers: Set<Int> = []
        let trimmed = text.filter { !$0.isWhitespace }
        for part in trimmed.split(separator: ",", omittingEmptySubsequences: false)
        where !trimmed.isEmpty {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1],
                0 <= first, first <= last, last < 1 << 16
            else { return nil }
            numbers.formUnion(first...last)
        }
        return numbers.sorted()
    }

    public static func text(_ numbers: some Sequence<Int>) -> String {
        var runs: [ClosedRange<Int>] = []
        for number in Set(numbers).sorted() {
            if let last = runs.last, last.upperBound + 1 == number {
                runs[runs.count - 1] = last.lowerBound...number
            } else {
                runs.append(number...number)
            }
        }
        return runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ",")
    }
}

/// What /proc/interrupts says of an interrupt.
public struct InterruptCount: Equatable, Sendable {
    /// Since the host started, on all CPUs.
    public var count: UInt64
    /// As its driver calls it, such as eth0-TxRx-3; with several drivers, all of them.
    public var name: String

    /// - Returns: the lines of these interrupts, by number.
    static func parse(_ text: String, of wanted: Set<Int>) -> [Int: InterruptCount] {
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
