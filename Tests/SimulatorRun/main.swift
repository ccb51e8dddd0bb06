// Runs simulated worlds one after the other, or one again with its log.
//   simulate [--minutes N | --seconds N | --packets N] [--seed S] [--frames N] [--sabotage NAME]
//   simulate --replay SEED [--frames N] [--sabotage NAME]

import Glibc
import Simulator

func fail(_ message: String) -> Never {
    print("simulate: \(message)")
    exit(2)
}

func number(_ text: String?) -> UInt64 {
    guard let text else { fail("a number is missing") }
    let value = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    guard let value else { fail("\(text) is no number") }
    return value
}

var seconds = 60.0
var packets = Int.max
var seed = UInt64.random(in: .min ... .max)
var replayed: UInt64?
var framesPerWorld = 100_000
var sabotage: Sabotage?
var arguments = CommandLine.arguments.dropFirst()
while let argument = arguments.popFirst() {
    switch argument {
    case "--minutes": seconds = 60 * Double(number(arguments.popFirst()))
    case "--seconds": seconds = Double(number(arguments.popFirst()))
    case "--packets": (packets, seconds) = (Int(number(arguments.popFirst())), .infinity)
    case "--seed": seed = number(arguments.popFirst())
    case "--replay": replayed = number(arguments.popFirst())
    case "--frames": framesPerWorld = Int(number(arguments.popFirst()))
    case "--sabotage":
        guard let name = arguments.popFirst(), let found = Sabotage(rawValue: name) else {
            fail("--sabotage takes one of \(Sabotage.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        sabotage = found
    default: fail("unknown argument \(argument)")
    }
}

@MainActor
func scenario(_ seed: UInt64) -> Scenario {
    var scenario = Scenario(seed: seed, frames: framesPerWorld)
    scenario.sabotage = sabotage
    return scenario
}

/// The world again, then a smaller one with its whole log.
@MainActor
func replay(_ seed: UInt64) -> Never {
    let whole = scenario(seed)
    do throws(Finding) {
        let summary = try Simulation.run(whole)
        print("seed 0x\(String(seed, radix: 16)): \(summary.frames) frames, no finding")
        exit(0)
    } catch {
        print(error)
        var (small, finding) = Simulation.shrunk(whole, error)
        print("\na smaller world, of \(finding.frames - small.absentFrames.count) frames; its log:")
        small.isVerbose = true
        _ = try? Simulation.run(small)
        print(finding.text)
        exit(1)
    }
}

if let replayed { replay(replayed) }

let start = ContinuousClock.now
var elapsed: Double { (ContinuousClock.now - start) / .seconds(1) }
var total = World.Summary()
var worlds = 0
var nextReport = 60.0
print("seed 0x\(String(seed, radix: 16))")
while elapsed < seconds && total.frames < packets {
    let world = seed &+ UInt64(worlds)
    do throws(Finding) {
        total.add(try Simulation.run(scenario(world)))
    } catch {
        print(error)
        print("after \(total.frames + error.frames) frames of all worlds; repeat it:")
        print("  tools/simulate --replay 0x\(String(world, radix: 16)) --frames \(framesPerWorld)")
        exit(1)
    }
    worlds += 1
    if elapsed >= nextReport {
        nextReport += 60
        print("\(total.frames) packets, \(Int(Double(total.frames) / elapsed)) a second: no finding")
        fflush(nil)
    }
}
print(
    "\(total.frames) packets in \(worlds) worlds, \(Int(Double(total.frames) / elapsed)) a second: no finding"
)
for row in total.rows { print(row) }
