// Part of Control (Supervisor.swift): it takes over from the running process, prepared while that one
// forwards.

import LinuxIO
import Logging
import Settings

extension Control {
    /// - Parameter socket: the connection to the running process.
    /// - Returns: when it forwards.
    /// - Throws: before the running process has stopped; that one goes on.
    static func takeOver(
        from socket: HandOverSocket, _ path: String, _ isStrict: Bool
    ) throws -> Control {
        let predecessor = try Predecessor(socket)
        do {
            var offer = try predecessor.offer()
            while true {
                let control = try prepared(offer, path, isStrict)
                if isStrict { try control.refuseFallbacks() }
                let (rest, next) = try predecessor.ready()
                if let rest {
                    try control.begin(where: rest, offer)
                    try predecessor.sayForwarding()
                    control.log.notice(
                        "took over",
                        metadata: [
                            "from": "process \(offer.document.processID)",
                            "version": "\(offer.document.version)",
                        ])
                    return control
                }
                if let next { offer = next }
            }
        } catch {
            predecessor.refuse("\(error)")
            throw error
        }
    }

    /// With the configuration that is in force there.
    static func prepared(
        _ offer: Predecessor.Offer, _ path: String, _ isStrict: Bool
    ) throws -> Control {
        let files = offer.document.files
        let (configuration, problems) = Configuration.load(files: files.map { ($0.name, $0.text) })
        guard let configuration else { throw HostProblem(problems.map(\.description)) }
        LogSettings.apply(configuration.log)
        return try Control(configuration, files, path: path, isStrict: isStrict, from: offer)
    }

    /// Goes on where the workers of another process stopped.
    /// - Parameter count: adds what is counted elsewhere.
    func begin(
        where rest: HandOver.Rest, _ offer: Predecessor.Offer, _ count: (inout Snapshot) -> Void = { _ in }
    ) throws {
        snapshot.continueCounting(rest)
        count(&snapshot)
        routes.count(changes: rest.routeChanges, resyncs: rest.routeResyncs)
        try begin(adminSocket: offer.adminSocket, listener: offer.handOverListener)
        snapshot.plumbing.takeOverGuards()
    }

    /// Takes up the configuration on disk, where that is not in force.
    func reloadIfChanged() {
        let wanted = ConfigurationFiles.loadWithTexts(path).files
        if wanted.map(\.text) != files.map(\.text) { _ = reload() }
    }
}

extension Snapshot {
    fileprivate mutating func continueCounting(_ rest: HandOver.Rest) {
        for count in rest.totals {
            retired[Series(metric: count.metric, labels: count.labels), default: 0] += count.value
        }
        (retiredRingDrops, retiredNanoseconds) = (rest.ringDrops, rest.cpuNanoseconds)
        (state.configurations, state.handOvers) = (rest.configurations, rest.handOvers)
        (state.repeated, state.skipped) = (rest.repeated, rest.skipped)
        (state.startedNanoseconds, state.startedUnix) = (rest.startedNanoseconds, rest.startedUnix)
        (state.lastReloadSuccessful, state.lastReloadProblems) =
            (rest.lastReloadSuccessful, rest.lastReloadProblems)
        (state.lastAppliedUnix, state.lastReloadUnix) = (rest.lastAppliedUnix, rest.lastReloadUnix)
    }
}
