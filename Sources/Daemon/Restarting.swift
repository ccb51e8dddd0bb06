// Part of Control (Supervisor.swift): the engine has ended by itself, and another one goes on where it
// stopped.

import Forwarding
import HostPlan
import LinuxIO
import Logging

extension Control {
    /// Starts another engine; not at once where some in a row did not live long.
    func restartEngine() {
        let now = Host.monotonicNanoseconds()
        if !isEndNoted {
            noteEnd()
            isEndNoted = true
            if now - startedEngineNanoseconds > Timing.engineLifeNanoseconds {
                (shortLives, failedEngines) = (0, nil)
            }
            shortLives += 1
            if shortLives > Timing.enginesAtOnce {
                let retry = Backoff.Retry(after: failedEngines, now: now)
                (failedEngines, restart) = (retry, retry)
                log.error(
                    """
                    \(shortLives) engines in a row did not live for half a second: the next one is started \
                    in \((retry.dueNanoseconds - now) / 1_000_000) ms; what comes meanwhile waits in the rings
                    """)
            }
        }
        if let restart, restart.dueNanoseconds > now { return }
        do {
            try startAnotherEngine()
            (restart, isEndNoted) = (nil, false)
            log.notice(
                "another engine forwards",
                metadata: ["process": "\(engine.processID)", "restarts": "\(report.engineRestarts)"])
        } catch {
            log.error("no other engine could be started: \(error)")
            // Its workers may have forwarded for a while.
            if isEngineStarted { noteEnd() } else { engine.finish() }
            let retry = Backoff.Retry(after: failedEngines, now: Host.monotonicNanoseconds())
            (failedEngines, restart) = (retry, retry)
        }
    }

    /// Another configuration may be what the next engine needs: it is tried at once.
    func startWithAnother(than before: Plumbing) {
        plumbing.removeSurplus(of: before)
        (restart, shortLives, failedEngines) = (nil, 0, nil)
    }

    /// Ends an engine with a worker that goes on no more, so that another one takes what waits.
    func watchRings() {
        // A ring that the engine could not take is no worker's fault.
        guard !engine.hasEnded, !engine.lacksParts, let worker = ringWatch.look(plumbing.interfaces)
        else { return }
        engine.fail(
            """
            worker \(worker) took nothing for \(Timing.stuckLooks / 2) s from a ring that has frames; \
            another engine tries them
            """)
    }

    /// Takes down how it ended, and finds where it stopped.
    private func noteEnd() {
        let end = engine.finish() ?? "ended"
        report.lastEngineEnd = "process \(engine.processID) \(end)"
        log.error("the engine, process \(engine.processID), \(end)")
        engineLeft = countOfEnded()
        left = memories.map(\.copies)
        let (repeated, skipped) = resumeRings()
        report.repeated += repeated
        report.skipped += skipped
        engine.count = countOfEarlier()
        // No worker runs on what was before.
        for old in superseded { plumbing.removeSurplus(of: old.plumbing) }
        superseded = []
    }

    private func startAnotherEngine() throws {
        report.engineRestarts += 1
        isEngineStarted = false
        engine = try EngineProcess()
        try engine.prepare(provision)
        try startEngine(from: engineLeft)
        if adminSocket != nil { try engine.serve(provision) }
        keepStored()
    }

    /// All that an engine has counted that has ended.
    func countOfEnded() -> EngineCount {
        var count = countOfEarlier()
        count.add(memories.map { $0.counters.read().repaired }, configuration)
        return count
    }

    /// What the engine has counted without what the counters of now hold.
    func countOfEarlier() -> EngineCount {
        var count = engine.count
        // What is settled it has told with its count.
        for old in superseded where !old.counters.isEmpty && old.sequence > engine.state.settled {
            count.add(old.counters.map { $0.read() }, old.configuration)
        }
        return count
    }
}
