// The file that a probe of many targets goes on from, as people and editors leave it.

import Testing

@testable import shuck

@Suite struct ResumeFileTests {
    private func names(_ shell: Shell, adding name: String) throws -> Set<String> {
        let file = try ResumeFile(shell.path("resume"))
        try file.add(name)
        return file.names
    }

    @Test(arguments: ["a b\nc d\n", "a b\nc d", "a b\r\nc d\r\n"])
    func linesEndAsTheyMay(text: String) throws {
        let shell = try Shell()
        try shell.write("resume", text)
        #expect(try names(shell, adding: "e f") == ["a b", "c d"])
        #expect(try names(shell, adding: "g h") == ["a b", "c d", "e f"])
    }

    @Test func whatIsNoTextIsRefused() throws {
        let shell = try Shell()
        try shell.write("resume", [0xff, 0xfe, 0x00])
        #expect { _ = try ResumeFile(shell.path("resume")) } throws: {
            "\($0)".contains("resume is not UTF-8 text")
        }
        #expect(try shell.read("resume") == [0xff, 0xfe, 0x00])
        #expect { _ = try ResumeFile("/dev/full") } throws: { "\($0)".contains("File too large") }
    }
}
