// The engine's process: it does what its supervisor tells it, and says how it is.

import Foundation
import Glibc
import LinuxIO
import Logging
import NIOCore

public enum EngineProgram {
    /// Serves one supervisor until that one closes the connection or is gone.
    /// To be called on the main thread before any other exists.
    /// - Parameters:
    ///   - connection: the descriptor of a `HandOverSocket`.
    ///   - parent: the supervisor, with which this process ends.
    /// - Returns: an exit code: 0 nothing was left to do, 1 the supervisor was not understood.
    public static func run(connection: Int32, parent: Int32) -> Int32 {
        guard (try? Host.endWithParent(parent)) != nil else { return 0 }
        Timing.checkRelations()
        let refusal = Sandbox.giveUpPrivileges()
        NIOSingletons.groupLoopCountSuggestion = 1
        Host.nameThread("shuck-engine")
        signal(SIGPIPE, SIG_IGN)
        defer { LogSink.standardError.finish(seconds: Timing.logSeconds) }
        LoggingSystem.bootstrap { _ in LineLogHandler() }
        do {
            // The supervisor may be busy for long, opening a hundred devices.
            let link = EngineLink(
                HandOverSocket(adopting: Descriptor(connection)), patience: Timing.engineStartMilliseconds)
            let side = EngineSide(link, refusal)
            try side.loop()
            return 0
        } catch let error as SystemError where [EPIPE, ECONNRESET].contains(error.errno) {
            // The supervisor has closed the connection while this one spoke.
            return 0
        } catch {
            Logger(label: "shuck").critical("the engine does not understand its supervisor: \(error)")
            return 1
        }
    }
}

/// The engine's end of the connection. One thread only.
final class EngineSide {
    private let link: EngineLink
    private var taken = TakenParts()
    private var engine: Engine?
    private var reloads: [UInt64: EventLoopPromise<ReloadOutcome>] = [:]
    private var reloadsAsked: UInt64 = 0
    private var said = EngineState()
    private var countDue: UInt64 = 0
    private var tickDue: UInt64 = 0

    /// Stages of the sandbox that the host refuses.
    private let refusals: [String]

    init(_ link: EngineLink, _ refusal: String?) {
        self.link = link
        refusals = refusal.map { [$0] } ?? []
    }

    /// - Throws: when the other end is not understood.
    func loop() throws {
        while true {
            let ready = Host.waitReadable(
                [
                    link.descriptor, engine?.notices.descriptor ?? -1,
                    engine?.admin.wakeup.descriptor.number ?? -1,
                ], milliseconds: link.hasInbox ? 0 : engine?.patience ?? -1)
            if ready[0] || link.hasInbox {
                // poll(2) may fail before the first piece is taken.
                guard let order = try link.hear(EngineOrder.self, milliseconds: Timing.handOverMilliseconds)
                else { return }
                engine?.snapshot.supervisorPulse.beat()
                try obey(order)
            }
            guard let engine, engine.hasStarted else { continue }
            for request in engine.turn(isTold: ready[1], isAsked: ready[2]) {
                if case .reload(let promise) = request { try askForReload(promise) }
            }
            try report(engine)
        }
    }

    private func askForReload(_ promise: EventLoopPromise<ReloadOutcome>) throws {
        reloadsAsked += 1
        reloads[reloadsAsked] = promise
        try link.say(EngineWord.reload(reloadsAsked))
    }

    /// Says how it is: at each tick, and when that has changed.
    private func report(_ engine: Engine) throws {
        let now = Host.monotonicNanoseconds()
        let state = engine.state
        let isTick = now >= tickDue
        // What it does not take now it is told at the next turn.
        guard isTick || state != said || engine.hasFolded, link.isTaken else { return }
        var count: EngineCount?
        if engine.hasFolded || now >= countDue {
            count = engine.count(engine.cpuNanoseconds, isWhole: false)
            countDue = now + Timing.countNanoseconds
            engine.hasFolded = false
        }
        if isTick { tickDue = now + Timing.tickNanoseconds }
        said = state
        try link.say(EngineWord.state(state), document: count)
    }

    // MARK: orders

    private func obey(_ order: EngineLink.Heard<EngineOrder>) throws {
        switch order.message {
        case .provision(let purpose):
            try provide(purpose, try order.read(ProvisionDocument.self), order.descriptors)
        case .life: break
        case .end(let ending):
            guard let engine else { throw HostProblem(description: "an end before a start") }
            let cpuNanoseconds = engine.cpuNanoseconds
            // Another process is about to answer.
            if ending == .handedOver { engine.stopServing() }
            let left = engine.end(ending)
            engine.stopServing()
            try answer(
                EngineAnswer(left: left, count: engine.count(cpuNanoseconds, isWhole: true)))
        case .reloaded(let number):
            reloads.removeValue(forKey: number)?.succeed(try order.read(ReloadOutcome.self))
        }
    }

    private func provide(
        _ purpose: EngineOrder.Purpose, _ document: ProvisionDocument, _ descriptors: [Descriptor]
    ) throws {
        let provision: Provision
        let next: TakenParts
        do {
            let missing: [Int]
            (provision, next, missing) = try taken.provision(
                document, descriptors, isPartly: !purpose.isAnswered)
            if !missing.isEmpty { try link.say(EngineWord.missing(missing)) }
        } catch {
            guard purpose.isAnswered else { throw error }
            return try answer(EngineAnswer(failure: Self.lines(error)))
        }
        do {
            var outcome: ReloadOutcome?
            switch purpose {
            case .prepare:
                LogSettings.apply(provision.configuration.log)
                engine = try Engine(provision, cpus: provision.cpus)
                engine?.note(refusals: refusals)
            case .start: try engine?.start(provision, document.sequence)
            case .serve:
                guard let socket = provision.adminSocket else {
                    throw HostProblem(description: "no admin socket to answer on")
                }
                try engine?.serve(
                    provision.configuration.admin, on: socket, port: provision.adminPort)
                engine?.note(provision, document.sequence)
            case .take:
                outcome = try engine?.take(provision, document.sequence)
                if outcome?.isApplied ?? false { LogSettings.apply(provision.configuration.log) }
            case .follow: engine?.follow(provision, document.sequence)
            case .note: engine?.note(provision, document.sequence)
            }
            if outcome?.isApplied ?? true { taken = next }
            guard purpose.isAnswered else { return }
            try answer(EngineAnswer(outcome: outcome, fallbacks: engine?.fallbacks ?? []))
        } catch {
            guard purpose.isAnswered else { throw error }
            try answer(EngineAnswer(failure: Self.lines(error)))
        }
    }

    private func answer(_ answer: EngineAnswer) throws {
        try link.say(EngineWord.answer, document: answer)
    }

    private static func lines(_ error: any Error) -> [String] {
        (error as? HostProblem)?.lines ?? ["\(error)"]
    }
}

extension EngineOrder.Purpose {
    fileprivate var isAnswered: Bool {
        switch self {
        case .prepare, .start, .serve, .take: true
        case .follow, .note: false
        }
    }
}
