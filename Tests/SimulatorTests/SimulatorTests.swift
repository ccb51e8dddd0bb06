// Simulated worlds whose invariants hold, and worlds with a faulty worker that must be noticed.

import TestPackets
import Testing

@testable import Forwarding
@testable import Simulator

@Suite("Simulator")
struct SimulatorTests {
    @Test("worlds that are always the same", arguments: UInt64(1)...6)
    func known(seed: UInt64) throws {
        let summary = try Simulation.run(Scenario(seed: seed, frames: 4_000))
        #expect(summary.frames == 4_000 && summary.steps > 60)
    }

    @Test("a clock that goes back no further than it had jumped, between two ICMP errors")
    func setbackAfterPause() throws {
        #expect(try Simulation.run(Scenario(seed: 0x1353_5bc, frames: 31_000)).setbacks > 0)
        // The stamp is 1045 ms ahead; of up to 1050 ms, the code waits for the clock.
        var bucket = Bucket(perSecond: 1000, burst: 50, debt: 1)
        let isGiven = bucket.give(age: 0)
        #expect(isGiven)
        bucket.pass(nanoseconds: 1_057_000_000)
        bucket.goBack(nanoseconds: 2_101_000_000)
        #expect(bucket.mayRefuse(age: 0))
        // Further ahead, it stems from before the clock went back, until the clock comes closer.
        bucket.goBack(nanoseconds: 1_000_000_000)
        #expect(!bucket.mayRefuse(age: 0))
        bucket.pass(nanoseconds: 1_500_000_000)
        #expect(bucket.mayRefuse(age: 0))
        bucket.pass(nanoseconds: 600_000_000)
        #expect(!bucket.mayRefuse(age: 0))
    }

    @Test("bounds of a bucket, where the clock jumps both ways")
    func bounds() throws {
        var random = Random(try TestPackets.Random.seed(usually: 0x6275_636b))
        let jumps = [60_000_000, 3_000_000_000, 40_000_000_000]
        var counts = (given: 0, refused: 0)
        for _ in 0..<100 {
            let tokens = ICMPErrorTokens(perSecond: 1000, burst: 50)
            defer { tokens.deallocate() }
            var bucket = Bucket(perSecond: 1000, burst: 50, debt: 1)
            var clock: UInt64 = 1_000_000_000
            for _ in 0..<2000 {
                let isJump = random.below(16) == 0
                let step = 1 + UInt64(random.below(isJump ? jumps[random.below(3)] : 300_000))
                if random.below(isJump ? 2 : 40) > 0 {
                    clock += step
                    bucket.pass(nanoseconds: step)
                } else {
                    bucket.goBack(nanoseconds: min(step, clock - 1))
                    clock -= min(step, clock - 1)
                }
                // Several jumps between two packets.
                if isJump && random.below(2) == 0 { continue }
                let age = min(UInt64(random.below(3_000_000)), clock - 1)
                if tokens.take(now: clock - age) {
                    counts.given += 1
                    let isGiven = bucket.give(age: age)
                    #expect(isGiven, "\(bucket)")
                } else {
                    counts.refused += 1
                    #expect(bucket.mayRefuse(age: age), "\(bucket)")
                }
            }
        }
        #expect(counts.given > 1000 && counts.refused > 1000, "\(counts)")
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
