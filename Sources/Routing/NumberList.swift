// Lists of CPUs, nodes and interrupts as the kernel writes them.

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
