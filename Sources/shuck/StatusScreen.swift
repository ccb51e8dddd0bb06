// The status of a daemon as one screen of text. Takes two reports and fetches nothing itself.

import Daemon
import Forwarding
import Foundation
import Settings

struct StatusScreen {
    let now: StatusReport
    /// An earlier report, for the rates.
    let before: StatusReport
    let painter: Painter

    /// Between the two reports; nil when the daemon was started anew between them.
    private var seconds: Double? {
        guard now.processID == before.processID, now.uptime > before.uptime else { return nil }
        return now.uptime - before.uptime
    }

    var text: String {
        let parts = [
            heading, interfaces, devices, workers, packets, drops, notes,
        ]
        return parts.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") + "\n" }
            .joined(separator: "\n")
    }

    private func rate(_ value: UInt64, since old: UInt64) -> String {
        guard let seconds, value >= old else { return "-" }
        return Figure.count(Double(value - old) / seconds)
    }

    private var heading: [String] {
        let mode = painter.paint(now.mode.rawValue, now.mode == .active ? .good : .attention)
        let name = painter.paint("shuck \(now.version)", .bold)
        let reload =
            now.lastReloadSuccessful
            ? "" : ", " + painter.paint("last reload refused", .bad)
        let state =
            now.ready
            ? painter.paint("ready", .good)
            : painter.paint("not ready: \(now.notReady.joined(separator: "; "))", .bad)
        return [
            state,
            "\(name)  \(mode)  up \(Figure.duration(now.uptime))  process \(now.processID)",
            "configuration  \(now.configurationFile), generation \(now.generation)\(reload)",
            "tunnels        \(now.tunnels.joined(separator: ", "))",
            "engine         \(now.engine)",
            "joining        \(now.joining)",
            "routes         \(now.routesIPv4) IPv4, \(now.routesIPv6) IPv6, \(now.rules) rules"
                + (now.routesAge > 0 ? ", resyncing for \(Int(now.routesAge)) s" : ""),
            "MSS of replies \(replies)",
        ]
    }

    private var replies: String {
        let replies = now.mssReplies
        let holds = replies.active.rawValue == replies.asked.rawValue || now.mode == .shadow
        let active = painter.paint(replies.active.rawValue, holds ? .plain : .bad)
        let table = replies.table.map { ", table inet \($0)" } ?? ""
        return "asked \(replies.asked), active \(active)\(table)"
    }

    private var interfaces: [String] {
        var table = Table(
            "INTERFACE", "STATE", ">MTU", "REVERSE PATH", "CLAIM ASKED", "CLAIM ACTIVE", "NODE", "RING")
        for interface in now.interfaces {
            let ring =
                interface.ringSlots == 0
                ? "-" : "\(interface.ringSlots) of \(interface.slotBytes) bytes"
            table.rows.append([
                .init(interface.name),
                .init(interface.state.rawValue, interface.state == .receiving ? .good : .bad),
                "\(interface.mtu)", .init(interface.reversePath), .init(interface.claimAsked.rawValue),
                .init(interface.claimActive.rawValue, holdsAsAsked(interface) ? .plain : .attention),
                .init(nodes(interface)),
                .init(ring),
            ])
        }
        return table.lines(painter)
    }

    private func nodes(_ interface: StatusReport.Interface) -> String {
        let nodes = interface.nodes ?? []
        return nodes.isEmpty ? "-" : nodes.map(String.init).joined(separator: ",")
    }

    /// Whether a claim is what was asked for; `auto` asks for a program in the kernel.
    private func holdsAsAsked(_ interface: StatusReport.Interface) -> Bool {
        switch interface.claimAsked {
        case _ where now.mode == .shadow: interface.claimActive == .none
        case .off: interface.claimActive == .none
        case .socket: interface.claimActive == .socket
        case .auto, .bpf: interface.claimActive == .tcx || interface.claimActive == .clsact
        }
    }

    private var devices: [String] {
        var table = Table("DEVICE", "STATE", ">MTU", ">QUEUES", "OFFLOADS", "JOINS", "NAMESPACE")
        for device in now.devices {
            table.rows.append([
                .init(device.name), .init(device.state.rawValue, device.state == .up ? .good : .bad),
                "\(device.mtu)", "\(device.queues)",
                .init(device.offloads.isEmpty ? "none" : device.offloads.joined(separator: " ")),
                .init(device.joins.isEmpty ? "none" : device.joins.joined(separator: " ")),
                .init(device.netns ?? "-"),
            ])
        }
        return table.lines(painter)
    }

    private var workers: [String] {
        var table = Table(
            ">WORKER", ">CPU", ">NODE", ">RECEIVED", ">PACKETS/S", ">CPU %", ">CPU NS/PACKET",
            ">RING DROPS", "STATE")
        for worker in now.workers {
            let old = before.workers.first { $0.worker == worker.worker }
            var share = "-"
            var cost = "-"
            if let seconds, let old, worker.received >= old.received {
                let busy = worker.cpuSeconds - old.cpuSeconds
                share = String(format: "%.1f", 100 * busy / seconds)
                if worker.received > old.received {
                    cost = Figure.count(busy * 1e9 / Double(worker.received - old.received))
                }
            }
            table.rows.append([
                "\(worker.worker)", "\(worker.cpu)", .init(worker.node.map { "\($0)" } ?? "-"),
                .init(Figure.count(worker.received)),
                .init(rate(worker.received, since: old?.received ?? worker.received)),
                .init(share), .init(cost),
                .init(
                    Figure.count(worker.ringDropped), worker.ringDropped > 0 ? .attention : .plain),
                .init(worker.state, worker.state == "running" ? .good : .bad),
            ])
        }
        return table.lines(painter)
    }

    private var packets: [String] {
        var table = Table("PACKETS", ">TOTAL", ">PER SECOND")
        func row(_ name: String, _ count: (StatusReport.Packets) -> UInt64) {
            let value = count(now.packets)
            table.rows.append([
                .init(name), .init(Figure.count(value)),
                .init(rate(value, since: count(before.packets))),
            ])
        }
        row("received", \.received)
        row("injected", \.injected)
        for mode in Mode.allCases + [.native] {
            guard let count = now.injectedByMode[mode.name] else { continue }
            table.rows.append([
                .init("  \(mode.name)"), .init(Figure.count(count)),
                .init(rate(count, since: before.injectedByMode[mode.name] ?? 0)),
            ])
        }
        row("passed", \.passed)
        row("dropped", \.dropped)
        row("held", \.held)
        row("replied", \.replied)
        row("lost by rings", \.ringDropped)
        row("MSS lowered", \.mssClamped)
        row("bytes injected", \.injectedBytes)
        row("writes", \.writes)
        return table.lines(painter)
    }

    private var drops: [String] {
        if now.dropsByReason.isEmpty { return [] }
        var table = Table("DROPPED FOR", ">TOTAL", ">PER SECOND", "LAST")
        let sorted = now.dropsByReason.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        for (reason, count) in sorted {
            table.rows.append([
                .init(reason), .init(Figure.count(count)),
                .init(rate(count, since: before.dropsByReason[reason] ?? 0)),
                .init(
                    now.lastDrops?[reason].map {
                        "\(Figure.duration($0.age)) ago on \($0.interface): \($0.packet)"
                    } ?? "-"),
            ])
        }
        return table.lines(painter)
    }

    private var notes: [String] {
        let refused = now.lastReloadProblems.map { painter.paint("! reload refused: \($0)", .bad) }
        let rest = now.notes + (now.placement ?? [])
        return refused + rest.map { painter.paint("! \($0)", .attention) }
    }
}
