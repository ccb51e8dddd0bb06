// Part of Control (Supervisor.swift): another configuration under a running daemon, all of it or none. The
// answer says what is in force.

import Forwarding
import HostPlan
import LinuxIO
import Logging
import Settings

extension Control {
    /// Loads, checks, opens what is new, publishes, closes what is gone.
    func reload() -> ReloadOutcome {
        // What has not started cannot reload for systemd. READY comes with the status.
        if hasForwarded { ServiceNotifier.reloading() }
        notifiedStatus = ""
        let (texts, loaded, problems) = ConfigurationFiles.loadWithTexts(path)
        for problem in problems { log.log(level: level(problem), "\(problem)") }
        let errors = problems.filter { $0.severity == .error }.map(\.description)
        let outcome =
            if let loaded, errors.isEmpty {
                apply(loaded, texts)
            } else {
                ReloadOutcome.refused(errors)
            }
        report.lastReloadSuccessful = outcome.isApplied
        report.lastReloadProblems = outcome.isApplied ? [] : outcome.lines
        report.lastReloadUnix = Host.unixSeconds()
        if outcome.isApplied {
            report.configurations += 1
            report.lastAppliedUnix = report.lastReloadUnix
        } else {
            let reasons = outcome.lines.joined(separator: "; ")
            log.error("reload refused, the old configuration goes on: \(reasons)")
        }
        tell()
        return outcome
    }

    private func level(_ problem: Problem) -> Logger.Level {
        problem.severity == .error ? .error : .warning
    }

    private func apply(_ next: Configuration, _ texts: [HandOver.File]) -> ReloadOutcome {
        let old = configuration
        let restarts = next.changesNeedingRestart(from: old)
        guard restarts.isEmpty else {
            return .refused(
                restarts.map { "\($0): changes only with a restart (systemctl restart shuck)" })
        }
        let outcome: ReloadOutcome
        do {
            outcome = try takeUp(next, texts)
        } catch {
            let failure = error as? PlanFailure
            if let failure { plumbing.note(failure.left) }
            return .refused(((failure?.cause ?? error) as? HostProblem)?.lines ?? ["\(error)"])
        }
        guard outcome.isApplied else { return outcome }
        LogSettings.apply(next.log)
        for line in next.differences(from: old) { log.notice("reload: \(line)") }
        log.notice("reload applied", metadata: ["generation": "\(engine.state.generation)"])
        for line in outcome.lines { log.warning("reload: \(line)") }
        return outcome
    }

    private static let withoutEngine = ReloadOutcome(
        isApplied: true, lines: ["the engine has ended, and the next one starts with it"])

    /// - Throws: when something cannot be had; then all is as it was.
    private func takeUp(_ next: Configuration, _ texts: [HandOver.File]) throws -> ReloadOutcome {
        let (before, reportBefore) = (plumbing, report)
        let links = try netlink.links()
        var facts = HostFacts.read(for: next, cpus: cpus, links: links)
        facts.addPermissions()
        let advice = try next.checked(on: facts)
        let counters = try makeCounters(next)
        var plumbing = before
        let done = try plumbing.reach(next, facts, .reload, beside: configuration)
        report.warnings = Self.notes(advice)
        var provision = self.provision
        (provision.configuration, provision.files, provision.plumbing) = (next, texts, plumbing)
        provision.report.replyTable = plumbing.replyTable?.name
        for (worker, new) in counters.enumerated() { provision.memories[worker].counters = new }
        let outcome: ReloadOutcome
        do {
            outcome = engine.hasEnded ? Self.withoutEngine : try engine.take(provision)
        } catch {
            report = reportBefore
            throw PlanFailure(cause: error, left: plumbing.undo(done))
        }
        guard outcome.isApplied else {
            report = reportBefore
            self.plumbing.note(plumbing.undo(done))
            return outcome
        }
        let isForEngine = !engine.hasEnded
        if isForEngine {
            superseded.append(
                Superseded(
                    sequence: engine.sequence, plumbing: before, counters: memories.map(\.counters),
                    configuration: configuration))
        }
        (self.plumbing, configuration, files) = (plumbing, next, texts)
        (memories, reachedLinks, isUnsettled) = (provision.memories, links, true)
        // Whoever asked finds the host as it is from now on, where no worker is late.
        if isForEngine && outcome.lines.isEmpty { engine.awaitSettled() }
        if !isForEngine { startWithAnother(than: before) }
        letGo()
        logArrivals(unlike: before)
        return outcome
    }
}
