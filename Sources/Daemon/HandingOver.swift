// Part of Control (Supervisor.swift): another process takes over. It prepares itself while workers forward
// here; at a batch border they end, and it goes on at the slots where they stopped.

import Forwarding
import Glibc
import HostPlan
import LinuxIO
import Logging

/// The process that wants to take over.
struct Successor {
    let socket: HandOverSocket
    /// It must have taken over by then.
    let deadline = Host.monotonicNanoseconds() + Timing.successorNanoseconds
    /// 0 before it said.
    var processID: Int32 = 0
    /// What it was offered: when that changes before it is ready, it is offered anew.
    var offered: Plumbing?
    var files: [HandOver.File] = []
    /// Whoever asked for an upgrade waits for this.
    var upgrade: UpgradeRequest?
}

extension Control {
    /// A process that wants to take over; one at a time. One that has not done so in time makes way.
    func acceptSuccessor() {
        guard let socket = handOverListener?.accept() else { return }
        if let successor, successor.deadline < Host.monotonicNanoseconds() {
            dropSuccessor("it was not ready in time")
        }
        guard successor == nil else {
            try? socket.say(.refuse("another process is about to take over"))
            return
        }
        successor = Successor(socket: socket)
    }

    /// Hears what it says, and answers.
    /// - Returns: the exit code when it has taken over and this process has nothing left to do.
    func serveSuccessor() -> Int32? {
        guard let socket = successor?.socket else { return nil }
        do {
            switch try socket.hear(milliseconds: 0)?.message {
            case .ask(HandOver.format, _, let processID):
                successor?.processID = processID
                try offer(to: socket)
            case .ask(let format, let version, _):
                let reason = """
                    shuck \(Build.version) hands over in format \(HandOver.format), and the next one, \
                    \(version), takes over in format \(format): stop the one and start the other
                    """
                try socket.say(.refuse(reason))
                dropSuccessor(reason)
            case .ready:
                guard let offered = successor?.offered, offered.isSame(as: plumbing),
                    successor?.files == files, superseded.isEmpty
                else {
                    try offer(to: socket)
                    return nil
                }
                return try handOver(to: socket)
            case .upgrade:
                successor = nil
                upgrade(for: socket)
            case .refuse(let reason): dropSuccessor(reason)
            // One that said nothing has only looked who listens.
            case nil where successor?.processID == 0 && successor?.upgrade == nil: successor = nil
            case nil: dropSuccessor("it has ended")
            case .offer, .descriptors, .go, .forwarding, .prepared:
                dropSuccessor("it said what it may not say")
            }
        } catch {
            dropSuccessor("\(error)")
        }
        return nil
    }

    private func dropSuccessor(_ reason: String) {
        log.error("another process did not take over: \(reason)")
        if let upgrade = successor?.upgrade { upgrade.fail(reason) }
        successor = nil
    }

    private func offer(to socket: HandOverSocket) throws {
        letGo()
        guard let (document, descriptors) = description() else { return }
        try socket.say(.offer(descriptors: descriptors.count), document: document)
        try socket.say(descriptors: descriptors.map(\.number))
        successor?.offered = plumbing
        successor?.files = files
    }

    /// What is held, as values, and its descriptors in their order.
    func description() -> (document: HandOver, descriptors: [Descriptor])? {
        guard let adminSocket, let handOverListener else { return nil }
        let (held, surplus, descriptors) = plumbing.pieces
        let document = HandOver(
            processID: getpid(), version: Build.version, files: files, held: held, surplus: surplus)
        return (
            document, [lock.descriptor, adminSocket.descriptor, handOverListener.descriptor] + descriptors
        )
    }

    // MARK: the change

    /// Ends the workers at their next batch border and says where they stopped.
    /// - Returns: the exit code once the other one forwards, or when workers cannot be started here again;
    ///   nil: they run here again.
    private func handOver(to socket: HandOverSocket) throws -> Int32? {
        if engine.hasEnded { return try handOverWithoutEngine(to: socket) }
        if let reason = engine.state.stillWorker.map({ "\($0) stands still" }) {
            try socket.say(.refuse(reason))
            dropSuccessor(reason)
            return nil
        }
        let request = successor?.upgrade
        guard let (left, count) = engine.end(.handedOver) else {
            // Another one is started on the same rings.
            let reason = "the engine ended"
            try socket.say(.refuse(reason))
            dropSuccessor(reason)
            return nil
        }
        request?.succeed()
        // The other process listens there itself.
        if let adminPort { shutdown(adminPort.number, Int32(SHUT_RDWR)) }
        adminPort = nil
        do {
            guard left.isEmpty else {
                throw HostProblem(description: "\(left[0]) stands still and did not end")
            }
            try socket.say(.go, document: HandOver.Rest(count: count, report: report))
            try hearThatItForwards(socket)
        } catch let reason {
            do {
                try resume(behind: count)
            } catch {
                dropSuccessor("\(reason)")
                log.critical("workers could not be started again: \(error); stopping")
                stop()
                return 1
            }
            throw reason
        }
        return concludeHandOver(socket, request)
    }

    /// The engine has ended, and how it ended has been taken down: the other process goes on there.
    private func handOverWithoutEngine(to socket: HandOverSocket) throws -> Int32? {
        let request = successor?.upgrade
        request?.succeed()
        if let adminPort { shutdown(adminPort.number, Int32(SHUT_RDWR)) }
        try socket.say(.go, document: HandOver.Rest(count: engineLeft ?? countOfEnded(), report: report))
        try hearThatItForwards(socket)
        return concludeHandOver(socket, request)
    }

    private func concludeHandOver(_ socket: HandOverSocket, _ request: UpgradeRequest?) -> Int32 {
        log.notice("handed over", metadata: ["to": "process \(successor?.processID ?? 0)"])
        // Restarted, this process must not take up what the other one has.
        store?.clear()
        engine.finish()
        guard request != nil else { return 0 }
        becomeBinaryOnDisk(socket)
        return 1
    }

    private func hearThatItForwards(_ socket: HandOverSocket) throws {
        while let (message, _) = try socket.hear(milliseconds: Timing.takeOverMilliseconds) {
            if case .forwarding = message { return }
            if case .refuse(let reason) = message { throw HostProblem(description: reason) }
        }
        throw HostProblem(description: "it ended before it forwarded")
    }

    /// Ends the workers.
    /// - Returns: what was counted, and what has not ended.
    func endWorkers(_ ending: Assignment.Ending) -> (count: EngineCount, left: [String]) {
        if let (left, count) = engine.end(ending) { return (count, left) }
        engine.finish()
        return (countOfEnded(), ["the engine"])
    }

    /// The other process has failed after workers had ended here. How far it came nobody knows, so rings are
    /// opened anew: what waited in the old ones is lost.
    private func resume(behind count: EngineCount) throws {
        var count = count
        for interface in plumbing.interfaces {
            for (worker, ring) in interface.rings.enumerated() {
                count.ringDrops[worker, default: 0] += ring.droppedByKernel()
            }
        }
        plumbing.forgetRings()
        let facts = HostFacts.read(for: configuration, cpus: cpus, links: try netlink.links())
        _ = try plumbing.reach(configuration, facts, .follow)
        engine.finish()
        superseded = []
        engine = try EngineProcess()
        try engine.prepare(provision)
        try startEngine(from: count)
        do {
            adminPort = try configuration.admin.listen.map { try AdminListener.open($0) }
        } catch {
            // The other process may still have it.
            log.error("\(error); the admin endpoint answers on its socket alone")
        }
        try engine.serve(provision)
        keepStored()
        log.warning("workers run here again, on new rings")
    }
}
