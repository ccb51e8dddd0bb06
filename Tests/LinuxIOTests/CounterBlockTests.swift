// Counters of a worker that was killed while it counted.

import Forwarding
import Testing

@testable import Daemon
@testable import LinuxIO

@Suite struct CounterBlockTests {
    @Test func whatAKilledWorkerLeftIsReadByTheNextProcess() throws {
        let shape = CounterBlock.Shape(Policy(interfaces: [], tunnels: []))
        let block = try CounterBlock(shape: shape, cpu: 0)
        let writer = block.writer
        writer.begin()
        writer.add(.received, 7)
        writer.add(.passed, 5)
        writer.add(.dropped, 2)
        writer.add(shape.dropIndex(tunnel: Verdict.noIndex, reason: .invalidSource), 2)
        writer.end()
        // The next batch is counted by half: `received` alone.
        writer.begin()
        writer.add(.received, 64)
        let left = try CounterBlock(adopting: block.file, shape: shape)
        let values = left.read()
        #expect(values[.received] == 71)
        #expect(values.repaired[.received] == 7)
        #expect(values.repaired[.dropped] == 2 && values.repaired[.passed] == 5)
        #expect(values.repaired.values[shape.dropped...] == values.values[shape.dropped...])
    }

    /// Of another shape, it is not read beyond its end.
    @Test func memoryThatIsTooSmallIsRefused() throws {
        let memory = try NamedMemory(name: "small", byteCount: 1, cpu: 0)
        #expect(throws: SystemError.self) { try NamedMemory(adopting: memory.file, byteCount: 5000) }
    }
}
