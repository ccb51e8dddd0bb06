// The spellings of values: words, durations, sizes, ports, CPU lists. Text to value and back, without
// positions and messages.

import Forwarding
import IP

extension ReversePathMode {
    /// The word for it in a configuration.
    public var text: String {
        self == .looseNoDefault ? "loose-no-default" : String(describing: self)
    }
}

extension MSSClamp {
    /// `off`, `auto` or a number of bytes.
    public var text: String {
        switch self {
        case .off: "off"
        case .auto: "auto"
        case .fixed(let bytes): "\(bytes)"
        }
    }
}

package enum ValueSyntax {
    /// The booleans of YAML 1.1 (yaml.org/type/bool.html), without its `y` and `n`.
    static func boolean(_ text: String) -> Bool? {
        let lower = text.lowercased()
        guard text == lower || text == text.uppercased() || text.dropFirst() == lower.dropFirst()
        else { return nil }
        switch lower {
        case "on", "yes", "true": return true
        case "off", "no", "false": return false
        default: return nil
        }
    }

    // MARK: Durations and sizes

    /// The largest first, so that a text is the shortest.
    private typealias Units = [(name: String, size: Int)]

    private static let durationUnits: Units = [
        ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1),
    ]
    private static let sizeUnits: Units = [
        ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1), ("B", 1),
    ]

    /// `30s`, `5ms`, `0us`, or `0` alone; nil for anything else.
    static func duration(_ text: String) -> Duration? {
        text == "0" ? .zero : quantity(text, durationUnits).map { .microseconds($0) }
    }

    static func durationText(_ duration: Duration) -> String {
        self.text(Int(duration.nanoseconds / 1000), durationUnits)
    }

    /// `4MiB`, or a number of bytes; nil for anything else.
    static func size(_ text: String) -> Int? { quantity(text, sizeUnits) }

    static func sizeText(_ bytes: Int) -> String { text(bytes, sizeUnits) }

    private static func quantity(_ text: String, _ units: Units) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count)
        guard let number = decimal(digits), let size = units.first(where: { $0.name == unit })?.size
        else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: size)
        return overflow ? nil : product
    }

    private static func text(_ quantity: Int, _ units: Units) -> String {
        let unit = units.first { quantity == 0 ? $0.size == 1 : quantity.isMultiple(of: $0.size) }!
        return "\(quantity / unit.size)\(unit.name)"
    }

    // MARK: Ports and CPUs

    /// `80` or `8000-8010`.
    static func ports(_ text: String) -> ClosedRange<UInt16>? {
        guard let range = range(text), range.lowerBound >= 1, range.upperBound <= 65535 else {
            return nil
        }
        return UInt16(range.lowerBound)...UInt16(range.upperBound)
    }

    /// The kernel's own bound on CONFIG_NR_CPUS.
    static let cpuMax = 8191

    /// `0-3,8` (cpuset(7), "List format") in rising order; nil when it is wrong or repeats a CPU.
    static func cpus(_ text: String) -> [Int]? {
        var cpus: [Int] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let range = range(part), range.upperBound <= cpuMax else { return nil }
            cpus += range
        }
        return Set(cpus).count == cpus.count ? cpus.sorted() : nil
    }

    static func cpusText(_ cpus: [Int]) -> String {
        merged(cpus.map { $0...$0 }).map(rangeText).joined(separator: ",")
    }

    /// Ranges in rising order; those that overlap or touch become one.
    static func merged<Number: FixedWidthInteger>(
        _ ranges: [ClosedRange<Number>]
    ) -> [ClosedRange<Number>] {
        var merged: [ClosedRange<Number>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last,
                range.lowerBound <= last.upperBound || range.lowerBound - 1 == last.upperBound
            {
                merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        return merged
    }

    /// `80` or `8000-8010`.
    static func rangeText(_ range: ClosedRange<some FixedWidthInteger>) -> String {
        range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
    }

    private static func range(_ text: some StringProtocol) -> ClosedRange<Int>? {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { decimal($0) }
        switch ends.count {
        case 1: return ends[0].map { $0...$0 }
        case 2:
            guard let first = ends[0], let last = ends[1], first <= last else { return nil }
            return first...last
        default: return nil
        }
    }

    // MARK: Likely meanings

    /// The candidate that is likely meant by `word`: similar, or begun by it.
    package static func nearest(_ word: String, among candidates: [String]) -> String? {
        let bound = min(3, max(1, word.count / 3))
        let near = candidates.map { ($0, distance(word.lowercased(), $0.lowercased())) }
            .filter { $0.1 <= bound }.min { $0.1 < $1.1 }?.0
        return near ?? candidates.first { word.count > 2 && $0.hasPrefix(word) }
    }

    /// Damerau-Levenshtein distance: insertions, deletions, changes, and swaps of neighbours.
    private static func distance(_ left: String, _ right: String) -> Int {
        // Keys are short: a long word is no slip for one.
        let (a, b) = (Array(left.unicodeScalars.prefix(40)), Array(right.unicodeScalars))
        var rows = [Array(0...b.count)]
        for i in 1..<(a.count + 1) {
            var row = [i]
            for j in 1..<(b.count + 1) {
                let change = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
                var best = min(change, rows[i - 1][j] + 1, row[j - 1] + 1)
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    best = min(best, rows[i - 2][j - 2] + 1)
                }
                row.append(best)
            }
            rows.append(row)
        }
        return rows[a.count][b.count]
    }

    // MARK: Files

    /// Permission bits as chmod(1) takes them: three octal digits, a 0 before them or not.
    static func permissions(_ text: String) -> UInt32? {
        let digits = text.utf8.count == 4 && text.hasPrefix("0") ? text.dropFirst() : text[...]
        guard digits.utf8.count == 3, digits.utf8.allSatisfy({ (0x30...0x37).contains($0) }) else {
            return nil
        }
        return UInt32(digits, radix: 8)
    }

    static func permissionsText(_ mode: UInt32) -> String { padded(String(mode, radix: 8), to: 4) }

    /// With zeros in front.
    static func padded(_ digits: String, to count: Int) -> String {
        String(repeating: "0", count: max(count - digits.utf8.count, 0)) + digits
    }

    /// Letters, digits and a few others.
    static func isName(_ text: String, with others: String = "_.-") -> Bool {
        text.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20) || others.utf8.contains($0)
        }
    }

    /// A group's name as groupadd(8) permits it, or its number.
    static func isGroup(_ text: String) -> Bool {
        (1...32).contains(text.utf8.count) && isName(text) && !text.hasPrefix("-")
    }
}

extension Duration {
    /// Whole nanoseconds; for the lengths that a configuration may hold.
    package var nanoseconds: UInt64 {
        UInt64(components.seconds) * 1_000_000_000 + UInt64(components.attoseconds / 1_000_000_000)
    }
}
