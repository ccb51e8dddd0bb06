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
    /// - Parameter rest: with what is counted elsewhere.
    func begin(where rest: HandOver.Rest, _ offer: Predecessor.Offer) throws {
        report.goOn(from: rest.report)
        try begin(
            adminSocket: offer.adminSocket, listener: offer.handOverListener, from: rest.count)
        plumbing.takeOverGuards()
    }

    /// Takes up the configuration on disk, where that is not in force.
    func reloadIfChanged() {
        let wanted = ConfigurationFiles.loadWithTexts(path).files
        if wanted.map(\.text) != files.map(\.text) { _ = reload() }
    }
}

extension SupervisorReport {
    /// - Parameter old: of the process before.
    fileprivate mutating func goOn(from old: SupervisorReport) {
        var next = old
        next.handOvers += 1
        (next.configurationFile, next.warnings) = (configurationFile, warnings)
        (next.host, next.isStopping) = (host, isStopping)
        (next.processID, next.replyTable) = (processID, replyTable)
        (next.logFailure, next.logLinesDropped) = (logFailure, logLinesDropped)
        self = next
    }
}
