// Compares shuck with the model for as long as is asked, on every core.
//   model [--minutes N | --seconds N] [--seed S] | --world S

import Glibc
import Model

func fail(_ message: String) -> Never {
    print("model: \(message)")
    exit(2)
}

var seconds = 60.0
var seed = UInt64.random(in: .min ... .max)
var world: UInt64?
var arguments = CommandLine.arguments.dropFirst()

func number(_ text: String?) -> UInt64 {
    guard let text else { fail("a number is missing") }
    let value = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    guard let value else { fail("\(text) is no number") }
    return value
}

while let argument = arguments.popFirst() {
    switch argument {
    case "--minutes": seconds = 60 * Double(number(arguments.popFirst()))
    case "--seconds": seconds = Double(number(arguments.popFirst()))
    case "--seed": seed = number(arguments.popFirst())
    case "--world": world = number(arguments.popFirst())
    default: fail("unknown argument \(argument)")
    }
}

/// Worlds from `first` on, every `step`-th, until the time is over.
func compare(first: UInt64, step: UInt64, until end: ContinuousClock.Instant) async -> (Tally, UInt64) {
    let trial = Trial()
    var next = first
    while ContinuousClock.now < end {
        do {
            try trial.run(world: next)
        } catch {
            print(error.description)
            exit(1)
        }
        next &+= step
    }
    return (trial.tally, next)
}

/// One task for each of `firsts`.
func compare(
    firsts: [UInt64], until end: ContinuousClock.Instant
) async -> [(index: Int, tally: Tally, next: UInt64)] {
    let step = UInt64(firsts.count)
    return await withTaskGroup(of: (index: Int, tally: Tally, next: UInt64).self) { group in
        for (index, first) in firsts.enumerated() {
            group.addTask {
                let (tally, next) = await compare(first: first, step: step, until: end)
                return (index, tally, next)
            }
        }
        var results: [(index: Int, tally: Tally, next: UInt64)] = []
        for await result in group { results.append(result) }
        return results
    }
}

if let world {
    do {
        try Trial().run(world: world)
    } catch {
        print(error.description)
        exit(1)
    }
    print("world 0x\(String(world, radix: 16)): no difference")
    exit(0)
}

let cores = UInt64(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
print("seed 0x\(String(seed, radix: 16)), \(cores) cores, \(Int(seconds)) s")
let start = ContinuousClock.now
let end = start.advanced(by: .seconds(seconds))
var total = Tally()
var firsts = (0..<cores).map { seed &+ $0 }
while ContinuousClock.now < end {
    let pause = min(end, ContinuousClock.now.advanced(by: .seconds(60)))
    let results = await compare(firsts: firsts, until: pause)
    for (index, tally, next) in results {
        total.add(tally)
        firsts[index] = next
    }
    let spent = (ContinuousClock.now - start) / .seconds(1)
    print("\(total.frames) packets, \(Int(Double(total.frames) / spent)) a second: no difference")
    fflush(nil)
}
for row in total.rows { print("\(String(row.count).padded(12))  \(row.name)") }

extension String {
    func padded(_ width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }
}
