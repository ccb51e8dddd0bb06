// The status of a daemon as one screen of text, made of two reports.

import Daemon
import Forwarding
import Foundation

struct StatusScreen {
    let now: StatusReport
    /// An earlier report, for the rates.
    let before: StatusReport
    let painter: Painter

    /// Between the two reports; nil when the daemon was started again between them.
    private var seconds: Double? {
        guard now.processID == before.processID, now.uptime > before.uptime else { return nil }
        return now.uptime - before.uptime
    }

    var text: String {
        [heading, interfaces, devices, workers, packets, drops, notes].filter { !$0.isEmpty }
            .map { $0.joined(separator: "\n") + "\n" }.joined(separator: "\n")
    }

    private func rate(_ value: UInt64, since old: UInt64) -> String {
        guard let seconds, value >= old else { return "-" }
        return Figure.count(Double(value - old) / seconds)
    }

    private func table<Row>(
        _ titles: [String], _ rows: some Collection<Row>, _ cells: (Row) -> [Table.Cell]
    ) -> [String] {
        Table(titles: titles, rows: rows.map(cells)).lines(painter)
    }

    private var heading: [String] {
        let mode = painter.paint(now.mode.rawValue, now.mode == .active ? .good : .attention)
        let name = painter.paint("shuck \(now.version)", .bold)
        let reload = now.lastReloadSuccessful ? "" : ", " + painter.paint("last reload refused", .bad)
        return [
            now.ready
                ? painter.paint("ready", .good)
                : painter.paint("not ready: \(now.notReady.joined(separator: "; "))", .bad),
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
        return "asked \(replies.asked), active \(active)" + (replies.table.map { ", table inet \($0)" } ?? "")
    }

    private var interfaces: [String] {
        table(
            ["INTERFACE", "STATE", ">MTU", "REVERSE PATH", "CLAIM ASKED", "CLAIM ACTIVE", "NODE", "RING"],
            now.interfaces
        ) { interface in
            let nodes = (interface.nodes ?? []).map(String.init).joined(separator: ",")
            let ring = "\(interface.ringSlots) of \(interface.slotBytes) bytes"
            return [
                "\(interface.name)",
                .init(interface.state.rawValue, interface.state == .receiving ? .good : .bad),
                "\(interface.mtu)", "\(interface.reversePath)", "\(interface.claimAsked.rawValue)",
                .init(interface.claimActive.rawValue, holdsAsAsked(interface) ? .plain : .attention),
                "\(nodes.isEmpty ? "-" : nodes)", "\(interface.ringSlots == 0 ? "-" : ring)",
            ]
        }
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
        func list(_ words: [String]) -> String { words.isEmpty ? "none" : words.joined(separator: " ") }
        return table(
            ["DEVICE", "STATE", ">MTU", ">QUEUES", "OFFLOADS", "JOINS", "NAMESPACE"], now.devices
        ) { device in
            [
                "\(device.name)", .init(device.state.rawValue, device.state == .up ? .good : .bad),
                "\(device.mtu)", "\(device.queues)", "\(list(device.offloads))", "\(list(device.joins))",
                "\(device.netns ?? "-")",
            ]
        }
    }

    private var workers: [String] {
        table(
            [
                ">WORKER", ">CPU", ">NODE", ">RECEIVED", ">PACKETS/S", ">CPU %", ">CPU NS/PACKET",
                ">RING DROPS", "STATE",
            ], now.workers
        ) { worker in
            let old = before.workers.first { $0.worker == worker.worker }
            var (share, cost) = ("-", "-")
            if let seconds, let old, worker.received >= old.received {
                let busy = worker.cpuSeconds - old.cpuSeconds
                share = String(format: "%.1f", 100 * busy / seconds)
                if worker.received > old.received {
                    cost = Figure.count(busy * 1e9 / Double(worker.received - old.received))
                }
            }
            return [
                "\(worker.worker)", "\(worker.cpu)", "\(worker.node.map(String.init) ?? "-")",
                "\(Figure.count(worker.received))",
                "\(rate(worker.received, since: old?.received ?? worker.received))", "\(share)", "\(cost)",
                .init(Figure.count(worker.ringDropped), worker.ringDropped > 0 ? .attention : .plain),
                .init(worker.state, worker.state == "running" ? .good : .bad),
            ]
        }
    }

    private var packets: [String] {
        func row(_ name: String, _ count: KeyPath<StatusReport.Packets, UInt64>) -> (String, UInt64, UInt64) {
            (name, now.packets[keyPath: count], before.packets[keyPath: count])
        }
        let modes = (Mode.allCases + [.native]).map(\.name).compactMap { name in
            now.injectedByMode[name].map { ("  \(name)", $0, before.injectedByMode[name] ?? 0) }
        }
        let rows =
            [row("received", \.received), row("injected", \.injected)] + modes + [
                row("passed", \.passed), row("dropped", \.dropped), row("held", \.held),
                row("replied", \.replied), row("lost by rings", \.ringDropped),
                row("MSS lowered", \.mssClamped), row("bytes injected", \.injectedBytes),
                row("writes", \.writes),
            ]
        return table(["PACKETS", ">TOTAL", ">PER SECOND"], rows) { name, count, old in
            ["\(name)", "\(Figure.count(count))", "\(rate(count, since: old))"]
        }
    }

    private var drops: [String] {
        if now.dropsByReason.isEmpty { return [] }
        let sorted = now.dropsByReason.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        return table(["DROPPED FOR", ">TOTAL", ">PER SECOND", "LAST"], sorted) { reason, count in
            let last = now.lastDrops?[reason].map {
                "\(Figure.duration($0.age)) ago on \($0.interface): \($0.packet)"
            }
            return [
                "\(reason)", "\(Figure.count(count))",
                "\(rate(count, since: before.dropsByReason[reason] ?? 0))", "\(last ?? "-")",
            ]
        }
    }

    private var notes: [String] {
        let refused = now.lastReloadProblems.map { painter.paint("! reload refused: \($0)", .bad) }
        let rest = now.notes + (now.placement ?? [])
        return refused + rest.map { painter.paint("! \($0)", .attention) }
    }
}
