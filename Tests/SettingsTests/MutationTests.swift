// Broken files of every kind: each gives a configuration or an error, and none a crash.

import Testing

@testable import Settings

/// Steele, Lea and Flood's SplitMix64: the same mutations in every run.
private struct SplitMix64: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}

@Suite struct MutationTests {
    private static let scraps: [String] = [
        "[", "]", "{", "}", ":", ": ", "- ", "\n", "  ", "\t", "\"", "'", "\\", "#", "&a ", "*a",
        "!", "|", ">", "%", "@", "?", ",", "0", "-1", "99999999999999999999", "null", "~", "::",
        "::1", "/33", "on", "<<", "---\n", "...\n", "\u{0}", "\u{feff}", "\u{e000}", "\u{f8ff}",
        "é", "\r", "\u{2028}", "name: lvs", "name: shuck0\n", "mtu: 1500", "[[[[", "{{{{", "\\x",
        "!!binary ",
    ]

    private func mutate(_ text: String, using random: inout SplitMix64) -> String {
        var scalars = Array(text.unicodeScalars)
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let at = Int.random(in: 0..<scalars.count, using: &random)
            let end = min(scalars.count, at + Int.random(in: 1...30, using: &random))
            switch Int.random(in: 0..<5, using: &random) {
            case 0: scalars.removeSubrange(at..<end)
            case 1:
                let scrap = Self.scraps.randomElement(using: &random)!
                scalars.insert(contentsOf: scrap.unicodeScalars, at: at)
            case 2:
                let to = Int.random(in: 0...scalars.count, using: &random)
                scalars.insert(contentsOf: Array(scalars[at..<end]), at: to)
            case 3: scalars.swapAt(at, Int.random(in: 0..<scalars.count, using: &random))
            default: scalars[at] = Unicode.Scalar(UInt8.random(in: 0...255, using: &random))
            }
            if scalars.isEmpty { scalars = ["x"] }
        }
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }

    @Test(arguments: 0..<10)
    func everyMutationGivesAProblemOrAConfiguration(_ seed: UInt64) {
        var random = SplitMix64(state: seed)
        for _ in 0..<300 {
            let text = mutate(everyKey, using: &random)
            let isDropIn = Bool.random(using: &random)
            let files = isDropIn ? [("main", everyKey), ("drop", text)] : [("main", text)]
            let (configuration, problems) = Configuration.load(files: files)
            let hasError = problems.contains { $0.severity == .error }
            #expect((configuration == nil) == hasError, "\(text)")
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).count
            #expect(problems.allSatisfy { $0.line >= 1 && $0.column >= 1 && $0.line <= lines + 60 })
            guard let configuration else { continue }
            // What is accepted can be written, read again and compiled.
            let again = Configuration.load(files: [("again", configuration.yaml)])
            #expect(again.configuration == configuration, "\(again.problems) \(text)")
            #expect(configuration.policy.tunnels.count == configuration.tunnels.count)
        }
    }
}
