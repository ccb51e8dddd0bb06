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
            do {
                try input.withUnsafeBytes { bytes throws(Violation) in try target.run(bytes) }
            } catch {
                Issue.record("\(file.lastPathComponent): \(error)")
            }
        }
    }
}
