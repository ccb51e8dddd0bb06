// What is installed and written about the configuration, against the code.

import Foundation
import Testing

@testable import Settings

@Suite struct DocumentationTests {
    private func text(of path: String) throws -> String {
        let root = URL(filePath: #filePath).appending(path: "../../..").standardized
        return try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    @Test func theInstalledExampleHasNoProblem() throws {
        let path = "tools/packaging/shuck.yaml"
        let (configuration, problems) = Configuration.load(files: [(path, try text(of: path))])
        #expect(configuration != nil)
        #expect(problems.isEmpty, "\(problems)")
    }

    @Test func everyKeyIsDescribed() throws {
        let text = try text(of: "docs/configuration.md")
        let yaml = try #require(Configuration.load(files: [("", everyKey)]).configuration).yaml
        let keys = yaml.split(separator: "\n").compactMap { line -> String? in
            let words = line.drop { $0 == " " || $0 == "-" }
            guard words.first?.isLetter == true, let colon = words.firstIndex(of: ":") else {
                return nil
            }
            return String(words[..<colon])
        }
        #expect(Set(keys).count > 40)
        for key in Set(keys) where !["eth0", "bond1.20", "fragments"].contains(key) {
            #expect(text.contains("`\(key)`") || text.contains(".\(key)`"), "\(key)")
        }
    }
}
