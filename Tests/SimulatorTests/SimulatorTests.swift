// Simulated worlds whose invariants hold, and worlds with a faulty worker that must be noticed.

import Simulator
import TestPackets
import Testing

@Suite("Simulator")
struct SimulatorTests {
    @Test("worlds that are always the same", arguments: UInt64(1)...6)
    func known(seed: UInt64) throws {
        let summary = try Simulation.run(Scenario(seed: seed, frames: 4_000))
        #expect(summary.frames == 4_000 && summary.steps > 60)
    }

    @Test("a world whose fragments do not fit")
    func evictions() throws {
        #expect(try Simulation.run(Scenario(seed: 5, frames: 4_000)).evicted > 0)
    }

    @Test("worlds from another seed")
    func unknown() throws {
        let seed = try TestPackets.Random.seed(usually: 0x7369_6d75)
        print("simulator: worlds from 0x\(String(seed, radix: 16))")
        var total = World.Summary()
        for index in 0..<16 {
            total.add(try Simulation.run(Scenario(seed: seed &+ UInt64(index), frames: 4_000)))
        }
        // What is not covered proves nothing.
        #expect(total.crashes > 0 && total.reloads > 0 && total.routeChanges > 0 && total.joined > 0)
        #expect(total.failedWrites > 0 && total.whole > 0 && total.overflows > 0)
        #expect(total.nested > 0 && total.setbacks > 0)
    }

    @Test("a faulty worker is noticed, and the world made smaller", arguments: Sabotage.allCases)
    func sabotage(_ sabotage: Sabotage) {
        // The first world that needs few frames for it, and others in case that changes.
        let first: UInt64 =
            switch sabotage {
            case .earlyRelease, .staleGeneration, .countedTwice: 1
            case .bucketsOfItsOwn: 9
            case .refusedJoinDelivered, .reorderedAfterRefusal: 0xe
            case .unrepairedCounters: 0x14
            case .losesInOneStep: 0x792
            }
        for seed in first...(first + 60) {
            var scenario = Scenario(seed: seed, frames: 10_000)
            scenario.sabotage = sabotage
            do throws(Finding) {
                _ = try Simulation.run(scenario)
            } catch {
                let (small, finding) = Simulation.shrunk(scenario, error, runs: 6)
                #expect(finding.frames <= error.frames && !finding.events.isEmpty)
                // The same again.
                do throws(Finding) {
                    _ = try Simulation.run(small)
                    Issue.record("the smaller world shows nothing")
                } catch {
                    #expect(error.text == finding.text && error.step == finding.step)
                }
                return
            }
        }
        Issue.record("\(sabotage) is not noticed")
    }
}
