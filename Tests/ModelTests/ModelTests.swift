// The model and shuck must give the same answer to every random frame.

import Model
import TestPackets
import Testing

@Suite("Model")
struct ModelTests {
    @Test("worlds that are always the same", arguments: UInt64(1)...64)
    func known(seed: UInt64) {
        compare(world: seed)
    }

    /// A million frames; with `SHUCK_SEED=random` ones that no run before has seen.
    @Test("many worlds")
    func unknown() throws {
        let seed = try TestPackets.Random.seed(usually: 0x7368_7563)
        print("model: worlds from 0x\(String(seed, radix: 16))")
        for index in 0..<256 { compare(world: seed &+ UInt64(index)) }
    }

    private func compare(world seed: UInt64) {
        do {
            try Trial().run(world: seed)
        } catch {
            Issue.record("\(error.description)")
        }
    }
}
