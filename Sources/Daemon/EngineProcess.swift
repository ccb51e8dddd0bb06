// The engine as its supervisor sees it: a child process, what it is told, and what it has said of itself.

import Foundation
import Glibc
import LinuxIO
import Logging

/// The control thread's alone. Waits for the engine no longer than `Timing` says.
final class EngineProcess {
    let processID: pid_t
    private let link: EngineLink
    private(set) var state = EngineState()
    /// What it had counted when it last said so, without what its counters hold.
    var count: EngineCount
    /// What it runs with instead of what was asked for.
    private(set) var fallbacks: [String] = []
    /// It is gone, or does not do as it is told and has been killed.
    private(set) var hasEnded = false
    /// It could not take all of what came: that is to be provided again.
    var isMissingParts = false
    private var given = GivenParts()
    private var reloads: [UInt64] = []

    /// -1: it is gone.
    var descriptor: Int32 { hasEnded ? -1 : link.descriptor }
    /// Of the provision that it was given last.
    var sequence: UInt64 { given.sequence }

    /// Starts one, which waits to be provided.
    init() throws {
        let (here, there) = try HandOverSocket.pair()
        // What is for this process alone; and a second set of descriptors of the service manager's.
        processID = try Program.start(
            Program.itself, ["engine", "--connection", "\(Program.connection)", "--parent", "\(getpid())"],
            connection: there.descriptor,
            without: ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE", "LISTEN_FDS"])
        link = EngineLink(here, patience: Timing.engineMilliseconds)
        count = EngineCount()
    }

    deinit { kill() }

    /// Ticks of the supervisor since it last said something.
    private var silentTicks = 0

    /// To be called at each tick: one that says nothing for long is killed. Ticks are counted, and not time:
    /// both may have been stopped.
    func noteTick() {
        silentTicks += 1
        if silentTicks > Timing.silentTicks && !hasEnded {
            fail("it says nothing any more")
        }
    }

    /// It could not take all of what came, a moment ago.
    var lacksParts: Bool {
        missingNanoseconds.map { Host.monotonicNanoseconds() - $0 < 2 * Timing.controlNanoseconds } ?? false
    }
    private var missingNanoseconds: UInt64?

    /// It speaks, and none of its workers stands still.
    var isGoingOn: Bool {
        UInt64(silentTicks) * Timing.tickNanoseconds < Timing.controlNanoseconds && state.stillWorker == nil
    }

    // MARK: orders

    /// Prepares all that workers need, and starts none.
    func prepare(_ provision: Provision) throws {
        var provision = provision
        // Without CAP_NET_ADMIN it could not have their large buffers, which a storm of routes needs.
        provision.netlink = (
            try NetlinkSocket.notices().duplicate(), try NetlinkSocket().duplicate()
        )
        try done(ask(.prepare, provision, milliseconds: Timing.engineStartMilliseconds))
    }

    /// Starts workers.
    func start(_ provision: Provision) throws {
        if let before = provision.count { count = before }
        try done(ask(.start, provision, milliseconds: Timing.engineStartMilliseconds))
    }

    /// Answers on the admin socket from now on.
    func serve(_ provision: Provision) throws {
        try done(ask(.serve, provision, milliseconds: Timing.engineMilliseconds))
    }

    /// Another configuration: all of it or none.
    /// - Throws: when something cannot be had; then all is as it was.
    func take(_ provision: Provision) throws -> ReloadOutcome {
        hear()
        let before = given
        let answer = try ask(.take, provision, milliseconds: Timing.engineMilliseconds)
        if let outcome = answer.outcome, outcome.isApplied { return outcome }
        // What it did not take it has let go of.
        given = before.again(behind: given)
        if let failure = answer.failure { throw HostProblem(failure) }
        return answer.outcome ?? .refused([])
    }

    /// What was opened or went, under the same configuration.
    func follow(_ provision: Provision) { tell(.follow, provision) }

    /// What is only reported.
    func note(_ provision: Provision) { tell(.note, provision) }

    /// Ends its workers. The admin endpoint answers no more.
    /// - Returns: those that have not ended, and what was counted; nil: it does not answer.
    func end(_ ending: Assignment.Ending) -> (left: [String], count: EngineCount)? {
        do {
            try link.say(EngineOrder.end(ending))
            let answer = try awaitAnswer(milliseconds: Timing.engineMilliseconds)
            guard let count = answer.count else { return nil }
            return (answer.left, count)
        } catch {
            fail("\(error)")
            return nil
        }
    }

    func reloaded(_ number: UInt64, _ outcome: ReloadOutcome) {
        do { try link.say(EngineOrder.reloaded(number), document: outcome) } catch { fail("\(error)") }
    }

    /// Shows it that the supervisor goes on.
    func showLife() {
        guard !hasEnded, link.isTaken else { return }
        do { try link.say(EngineOrder.life) } catch { fail("\(error)") }
    }

    private func tell(_ purpose: EngineOrder.Purpose, _ provision: Provision) {
        guard !hasEnded else { return }
        do { try send(purpose, provision) } catch { fail("\(error)") }
    }

    private func ask(
        _ purpose: EngineOrder.Purpose, _ provision: Provision, milliseconds: Int32
    ) throws -> EngineAnswer {
        do {
            try send(purpose, provision)
            let answer = try awaitAnswer(milliseconds: milliseconds)
            fallbacks = answer.fallbacks
            return answer
        } catch {
            fail("\(error)")
            throw error
        }
    }

    private func done(_ answer: EngineAnswer) throws {
        if let failure = answer.failure { throw HostProblem(failure) }
    }

    private func send(_ purpose: EngineOrder.Purpose, _ provision: Provision) throws {
        let (document, descriptors, next) = given.document(provision)
        try link.say(EngineOrder.provision(purpose), document: document, descriptors: descriptors)
        given = next
    }

    // MARK: words

    /// Takes what it has said.
    func hear() {
        while !hasEnded, link.hasInbox || Host.waitReadable([link.descriptor], milliseconds: 0)[0] {
            do { _ = try hearOne(milliseconds: Timing.handOverMilliseconds) } catch { fail("\(error)") }
        }
    }

    /// Waits until it says that every worker runs on what it was given last, or a moment.
    func awaitSettled() {
        Timing.wait(nanoseconds: Timing.reloadNanoseconds) {
            hear()
            return hasEnded || state.settled >= sequence
        }
    }

    /// Numbers of reloads that somebody asked it for.
    func takeReloads() -> [UInt64] {
        defer { reloads = [] }
        return reloads
    }

    private func awaitAnswer(milliseconds: Int32) throws -> EngineAnswer {
        let deadline = Host.monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
        while true {
            let now = Host.monotonicNanoseconds()
            guard now < deadline else { throw HostProblem(description: "it does not answer") }
            // It may read a million routes: the service manager must not take that for an end.
            ServiceNotifier.keepAlive()
            let left = Int32(clamping: (deadline - now) / 1_000_000 + 1)
            let milliseconds = min(left, Int32(Timing.tickNanoseconds / 1_000_000))
            guard link.hasInbox || Host.waitReadable([link.descriptor], milliseconds: milliseconds)[0] else {
                continue
            }
            if let answer = try hearOne(milliseconds: Timing.handOverMilliseconds) { return answer }
        }
    }

    /// - Returns: an answer, when it is one.
    /// - Throws: also when it has ended.
    private func hearOne(milliseconds: Int32) throws -> EngineAnswer? {
        guard let heard = try link.hear(EngineWord.self, milliseconds: milliseconds) else {
            hasEnded = true
            throw HostProblem(description: "it has ended")
        }
        silentTicks = 0
        switch heard.message {
        case .answer: return try heard.read(EngineAnswer.self)
        case .state(let state):
            self.state = state
            if !heard.document.isEmpty { count = try heard.read(EngineCount.self) }
        case .missing(let numbers):
            given.forget(numbers)
            (isMissingParts, missingNanoseconds) = (true, Host.monotonicNanoseconds())
        case .reload(let number): reloads.append(number)
        }
        return nil
    }

    // MARK: its end

    /// Kills it, for it does not as it should.
    func fail(_ reason: String) {
        if !hasEnded { Logger(label: "shuck").error("the engine, process \(processID), is ended: \(reason)") }
        kill()
    }

    private func kill() {
        hasEnded = true
        // Reaped, its number may be another's.
        if !isGone { _ = Glibc.kill(processID, SIGKILL) }
    }

    /// How it ended, where its end was seen elsewhere.
    var seenEnd: String? { didSet { isGone = isGone || seenEnd != nil } }
    /// The process is no more.
    private var isGone = false

    /// Lets it end, and waits for that. It holds what it was given until then.
    /// - Returns: how it ended; nil: that is not known.
    @discardableResult
    func finish() -> String? {
        if !hasEnded { link.close() }
        hasEnded = true
        func hasGone() -> Bool {
            if !isGone {
                seenEnd = Program.reap(processID)
                isGone = isGone || Glibc.kill(processID, 0) != 0
            }
            return isGone
        }
        Timing.wait(nanoseconds: Timing.engineEndNanoseconds, until: hasGone)
        if isGone { return seenEnd }
        kill()
        Timing.wait(nanoseconds: Timing.engineEndNanoseconds, until: hasGone)
        return seenEnd
    }
}
