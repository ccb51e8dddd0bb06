// The engine's list of system calls: its program, and its table in docs/sandbox.md.
// `SHUCK_WRITE=1 swift test --filter SandboxListTests` writes the table.

import Foundation
import LinuxIO
import Testing

@testable import Daemon

@Suite struct SandboxListTests {
    /// What the filter says of a call, by an interpreter of the few instructions that it is made of.
    private static func verdict(_ filter: SystemCallFilter, _ number: UInt32, _ arguments: [UInt64] = [])
        -> UInt32
    {
        var data = [UInt8](repeating: 0, count: 64)
        func store(_ value: some FixedWidthInteger, at offset: Int) {
            withUnsafeBytes(of: value.littleEndian) {
                data.replaceSubrange(offset..<offset + $0.count, with: $0)
            }
        }
        store(number, at: 0)
        store(SystemCallFilter.architecture, at: 4)
        for (index, argument) in arguments.enumerated() { store(argument, at: 16 + 8 * index) }
        let program = filter.program
        var (place, accumulator) = (0, UInt32(0))
        while true {
            let word = program[place]
            let (value, then, otherwise) = (
                UInt32(word >> 32), Int(word >> 16 & 0xff), Int(word >> 24 & 0xff)
            )
            place += 1
            switch word & 0xffff {
            case 0x20:
                accumulator = data[Int(value)..<Int(value) + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) }
            case 0x15: place += accumulator == value ? then : otherwise
            case 0x45: place += accumulator & value != 0 ? then : otherwise
            default: return value
            }
        }
    }

    private static let (allowed, refused): (UInt32, UInt32) = (0x7fff_0000, 0x0005_0001)

    @Test func eachRule() {
        let filter = SystemCallFilter([
            ("read", .always), ("clone3", .never(errno: ENOSYS)), ("prctl", .argument(0, isOneOf: [15, 29])),
            ("mmap", .argumentWithout(2, bits: 4)), ("clone", .argumentWith(0, bits: 0x10000)),
        ])
        func number(_ name: String) -> UInt32 { SystemCallFilter.number(name)! }
        #expect(Self.verdict(filter, number("read")) == Self.allowed)
        #expect(Self.verdict(filter, number("write")) == Self.refused)
        #expect(Self.verdict(filter, number("clone3")) == 0x0005_0000 | UInt32(ENOSYS))
        for (value, isAllowed) in [(15, true), (29, true), (0, false), (22, false)] as [(UInt64, Bool)] {
            #expect((Self.verdict(filter, number("prctl"), [value]) == Self.allowed) == isAllowed)
        }
        for (value, isAllowed) in [(3, true), (7, false), (4, false), (0, true)] as [(UInt64, Bool)] {
            #expect((Self.verdict(filter, number("mmap"), [0, 0, value]) == Self.allowed) == isAllowed)
        }
        for (value, isAllowed) in [(0x3d0f00, true), (17, false)] as [(UInt64, Bool)] {
            #expect((Self.verdict(filter, number("clone"), [value]) == Self.allowed) == isAllowed)
        }
        // The 32-bit calls of x86-64 have a bit of their own.
        #expect(Self.verdict(filter, number("read") | 0x4000_0000) == Self.refused)
    }

    @Test func eachCallIsNamedOnceWithItsReason() {
        #expect(Set(Sandbox.calls.map(\.name)).count == Sandbox.calls.count)
        #expect(Sandbox.calls.allSatisfy { !$0.reason.isEmpty })
        #if arch(x86_64)
            // It has also those that others lack.
            #expect(Sandbox.calls.allSatisfy { SystemCallFilter.number($0.name) != nil })
        #endif
        for name in [
            "socket", "connect", "bind", "execve", "fork", "ptrace", "bpf", "io_uring_setup", "setns",
        ] {
            #expect(!Sandbox.calls.contains { $0.name == name })
        }
    }

    @Test func theTableIsThatOfTheReference() throws {
        let file = URL(filePath: #filePath).appending(path: "../../../docs/sandbox.md").standardized
        let text = try String(contentsOf: file, encoding: .utf8)
        let (start, end) = ("<!-- calls -->\n", "<!-- end of calls -->")
        let first = try #require(text.range(of: start)).upperBound
        let last = try #require(text.range(of: end)).lowerBound
        let table =
            "| system call | what for |\n| --- | --- |\n"
            + Sandbox.calls.map { "| `\($0.name)` | \($0.reason) |\n" }.joined()
        if ProcessInfo.processInfo.environment["SHUCK_WRITE"] != nil {
            try (text[..<first] + table + text[last...]).write(to: file, atomically: true, encoding: .utf8)
        } else {
            #expect(
                text[first..<last] == table, "SHUCK_WRITE=1 swift test --filter SandboxListTests writes it")
        }
    }
}
