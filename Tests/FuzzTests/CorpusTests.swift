// Replays the fuzzers' inputs without libFuzzer: what they once began with, and what was once found.

import Foundation
import FuzzTargets
import Testing

@Suite("Corpus")
struct CorpusTests {
    @Test("every input of every target", arguments: FuzzTargets.all.keys.sorted())
    func corpus(name: String) throws {
        let directory = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Fuzz/corpus/\(name)")
        let files = try FileManager.default.contentsOfDirectory(
            at: directory, includingPropertiesForKeys: nil)
        #expect(!files.isEmpty)
        let target = FuzzTargets.all[name]!.init()
        for file in files {
            let input = [UInt8](try Data(contentsOf: file))
            let violation = input.withUnsafeBytes { bytes -> Violation? in
                do throws(Violation) {
                    try target.run(bytes)
                    return nil
                } catch {
                    return error
                }
            }
            if let violation { Issue.record("\(file.lastPathComponent): \(violation)") }
        }
    }
}
