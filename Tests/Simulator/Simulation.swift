// Runs worlds, and makes a world that shows a finding smaller.

public enum Simulation {
    public static func run(_ scenario: Scenario) throws(Finding) -> World.Summary {
        var world = World(scenario)
        return try world.run()
    }

    /// A scenario with fewer frames and faults that shows a finding too, not always the same one.
    /// - Parameter runs: worlds to be tried at most.
    public static func shrunk(
        _ scenario: Scenario, _ finding: Finding, runs: Int = 2000
    ) -> (scenario: Scenario, finding: Finding) {
        var shrinking = Shrinking(best: scenario, finding: finding, left: runs)
        shrinking.best.isVerbose = false
        shrinking.best.frames = finding.frames
        shrinking.shrink(\.absentFaults) { $0.faults }
        shrinking.shrink(\.absentFrames) { Array(1...max(1, $0.frames)) }
        shrinking.shrink(\.absentFaults) { $0.faults }
        shrinking.best.frames = min(shrinking.best.frames, shrinking.finding.frames)
        return (shrinking.best, shrinking.finding)
    }
}

/// Leaves out ever smaller parts of what happens, as long as something is still found.
private struct Shrinking {
    var best: Scenario
    var finding: Finding
    var left: Int

    /// - Parameter numbers: of what happened up to a finding.
    mutating func shrink(_ absent: WritableKeyPath<Scenario, Set<Int>>, _ numbers: (Finding) -> [Int]) {
        var size = max(1, numbers(finding).count / 2)
        while true {
            var start = 0
            while true {
                let present = numbers(finding).filter { !best[keyPath: absent].contains($0) }
                guard start < present.count else { break }
                guard left > 0 else { return }
                var candidate = best
                candidate[keyPath: absent].formUnion(present[start..<min(start + size, present.count)])
                // What is left moves to where that was.
                if !isFound(candidate) { start += size }
            }
            if size == 1 { return }
            size = max(1, size / 2)
        }
    }

    private mutating func isFound(_ candidate: Scenario) -> Bool {
        left -= 1
        do throws(Finding) {
            _ = try Simulation.run(candidate)
            return false
        } catch {
            best = candidate
            finding = error
            best.frames = min(best.frames, error.frames)
            return true
        }
    }
}
