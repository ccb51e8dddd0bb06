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

    /// Bytes that are no UTF-8, a control character, and a carriage return within a line.
    @Test(arguments: [[0xff, 0xfe, 0x00], [0x1b, 0x5b], [0x61, 0x0d, 0x62]] as [[UInt8]])
    func whatIsNoNameIsRefusedWithItsLine(line: [UInt8]) throws {
        let shell = try Shell()
        let bytes = Array("a b\r\n\n".utf8) + line
        try shell.write("resume", bytes)
        #expect { _ = try ResumeFile(shell.path("resume")) } throws: {
            "\($0)".contains("resume:3: this is not the name of a tuple")
        }
        #expect(try shell.read("resume") == bytes)
    }

    /// A device that never ends, a pipe to which nothing writes, and a file of more than the limit.
    @Test func whatIsNoRegularFileOrHasNoEndIsRefused() throws {
        let shell = try Shell()
        _ = try shell.script("truncate -s 65M long; mkfifo pipe")
        for path in ["/dev/full", shell.path("pipe")] {
            #expect { _ = try ResumeFile(path) } throws: { "\($0)".contains("\(path) is no regular file") }
        }
        #expect { _ = try ResumeFile(shell.path("long")) } throws: { "\($0)".contains("File too large") }
    }
}
