// The daemon at one moment, as values: whether it is ready, where it falls short of what was asked for.
// Status and metrics are made of it. Snapshot.swift reads it.

import Foundation
import HostPlan
import Settings

struct DaemonView: Sendable {
    struct Worker: Sendable {
        var number: Int
        var cpu: Int
        /// Why it ended.
        var failure: String?
        var hasEnded = false
        /// It did not look at its mailbox for so long that something must hold it.
        var isStill = false
        /// Why it goes on as it was before the last change.
        var refusal: String?
    }

    var state: DaemonState
    var interfaces: [StatusReport.Interface]
    var devices: [StatusReport.Device]
    var workers: [Worker]
    var endedWorkers: [String] = []
    var replies: StatusReport.Replies
    /// Why a part is not there, or still as it was before a change.
    var absences: [Part: String] = [:]
    /// Of plumbing and of claims.
    var otherFindings: [Finding] = []
    var uptime: Double
    var isControlStill = false
    var isSupervisorStill = false
    var logFailure: String?
    var logLinesDropped: UInt64 = 0
}

extension DaemonView {
    /// Reasons why this instance is not forwarding as asked; empty when it is.
    var unreadiness: [String] {
        (state.isStopping ? ["shuck is stopping"] : [])
            + findings.filter(\.isBlocking).map(\.description) + unhealthiness
    }

    /// Threads that ended, or that stand still.
    var unhealthiness: [String] {
        (isControlStill ? [Self.stillControl] : []) + (isSupervisorStill ? [stillSupervisor] : [])
            + endedWorkers + workers.compactMap { $0.isStill && !$0.hasEnded ? stillness($0) : nil }
    }

    private static var stillControl: String {
        """
        the engine's control thread stands still, so that routes and links wait: see what holds it (ps -L \
        -o tid,stat,wchan:20,comm -p \(getpid())), or kill \(getpid())
        """
    }

    private var stillSupervisor: String {
        """
        the control thread stands still, so that interfaces, reloads and SIGTERM wait: see what holds it \
        (ps -L -o tid,stat,wchan:20,comm -p \(state.processID)), or kill shuck
        """
    }

    private func stillness(_ worker: Worker) -> String {
        """
        worker \(worker.number) on CPU \(worker.cpu) stands still, and its frames wait until its \
        rings are full: see what holds it (ps -L -o tid,stat,wchan:20,comm -p \(getpid())), or \
        restart shuck
        """
    }

    /// What `workers.coalesce` asks for, and where a device falls short of it.
    var joining: String {
        guard state.configuration.workers.coalesce else { return "off" }
        let short = devices.filter { $0.queues > 0 && $0.joins.count < 2 }.map { device in
            "\(device.name) \(device.joins.isEmpty ? "nothing" : "\(device.joins[0]) only")"
        }
        return short.isEmpty ? "on" : "on, but \(short.joined(separator: ", "))"
    }
}

// MARK: - Findings

extension DaemonView {
    /// Everything that falls short of what was asked for.
    var findings: [Finding] {
        var all = absentInterfaces() + absentDevices() + state.host + otherFindings
        func add(
            _ what: Finding.What, _ subject: String, _ text: String, severity: Finding.Severity = .degraded
        ) {
            all.append(Finding(what: what, subject: subject, text: text, severity: severity))
        }
        // A dump after a change of links is daily business; one that is late is not.
        if let reason = state.routes.due, state.routes.age >= 1 {
            add(.routes, "mirror", "routes are being read again for more than a second: \(reason)")
        }
        if let refusal = state.ringRefusal {
            let text = "workers write each packet by a system call of its own: io_uring cannot be used: "
            add(.ring, "workers", text + refusal)
        }
        if let reason = absences[.replyTable] { add(.replies, "nft", "mss.replies: \(reason)") }
        if let reason = absences[.claims] {
            add(.claim, "consume", "consume: frames of some interfaces are not claimed: \(reason)")
        }
        for worker in workers {
            if worker.isStill {
                // It is unhealthy already, which blocks.
                add(.worker, "\(worker.number)", stillness(worker))
            } else if let reason = worker.refusal {
                let text = """
                    worker \(worker.number) goes on as it was before the last change and is asked \
                    again: \(reason)
                    """
                add(.worker, "\(worker.number)", text, severity: .blocking)
            }
        }
        for (stage, refusal) in state.sandboxRefusals.enumerated() {
            add(.sandbox, "\(stage)", refusal)
        }
        if let logFailure {
            add(
                .log, "standard error",
                "lines of the log are lost, standard error cannot be written: \(logFailure)")
        }
        // Links that were stacked while shuck ran: traffic goes on, but each packet arrives twice.
        for double in state.configuration.doubleInterfaces(state.links) {
            add(.interface, double.name, double.text, severity: .blocking)
        }
        return all
    }

    private func absentInterfaces() -> [Finding] {
        interfaces.compactMap { interface in
            let name = interface.name
            let problem: String? =
                switch interface.state {
                case .receiving: nil
                case .down: "interface \(name) is down: ip link set \(name) up"
                case .absent:
                    absences[.interface(name)].map { "interface \(name) is not received from: \($0)" }
                        ?? "interface \(name) is absent"
                }
            return problem.map { Finding(what: .interface, subject: name, text: $0, severity: .blocking) }
        }
    }

    /// A pod that is gone is none of the others' business: its device blocks nothing.
    private func absentDevices() -> [Finding] {
        devices.compactMap { device in
            let (name, isPod) = (device.name, device.netns != nil)
            if let absence = absences[.device(name)] {
                return Finding(
                    what: .device, subject: name,
                    text: "device \(name) is absent, its packets are dropped: \(absence)",
                    severity: isPod ? .degraded : .blocking)
            }
            if isPod || device.state == .up { return nil }
            return Finding(
                what: .device, subject: name,
                text: "device \(name) is not up: ip link set \(name) up", severity: .blocking)
        }
    }
}
