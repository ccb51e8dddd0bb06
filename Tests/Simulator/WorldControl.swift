// Part of World (World.swift): the control thread's side. Routes change, configurations are reloaded, and the
// worker adopts what was published at a batch border.

import Forwarding
import Routing

extension World {
    mutating func change() {
        if acts(80) { changeRoutes() }
        if acts(200) { reload(isFirst: false) }
        if fragments > 300 {
            // The model gives up nothing for want of memory: neither must the worker.
            fragments = 0
            jump(31_000)
        } else if acts(500) {
            jump(1 + control.below(40_000))
        }
        guard live.count > 1 else { return }
        lateness -= 1
        if lateness <= 0 { adopt() }
    }

    private mutating func jump(_ milliseconds: Int) {
        now &+= UInt64(milliseconds) * 1_000_000
        note(.jump, milliseconds)
    }

    private mutating func changeRoutes() {
        // Behind a reload that the worker has not adopted, routes would be those of neither.
        if let newest = live.last, newest.setup !== live[0].setup { return }
        var steps: [[RouteEntry]] = []
        for _ in 0...control.below(4) {
            if !routes.change(mirror, &control, &steps) { fail("the mirror is not sure of a change") }
        }
        summary.routeChanges += 1
        publish(live[0].setup, steps)
        note(.routes, generations)
    }

    mutating func reload(isFirst: Bool) {
        let policy = isFirst ? 0 : control.below(policies.count)
        let setup = Setup(
            policy: policy, tables: compiled[policy], isShadow: !isFirst && control.percent(4),
            packetsPerSecond: control.percent(10) ? 10_000 + control.below(1_000_000) : nil)
        if !isFirst { summary.reloads += 1 }
        publish(setup, [routes.entries])
        note(.reload, generations)
    }

    private mutating func publish(_ setup: Setup, _ steps: [[RouteEntry]]) {
        generations += 1
        live.append(
            Generation(
                number: generations, setup: setup, routes: mirror.generation(),
                settings: steps.map { Self.setting(policies[setup.policy], $0, interfaces) },
                interfaces: interfaces, templates: traffic.templates.count))
        if live.count == 2 { lateness = control.below(6) }
    }

    /// As `Worker.adopt`: the newest, at once.
    mutating func adopt() {
        let old = live[0]
        let newest = live[live.count - 1]
        if scenario.sabotage == .staleGeneration && generations > 3 {
            kept.append(old)
        } else {
            for place in 0..<deviceCount {
                // A reload opens a device that is gone, and finds out again what it cuts.
                if devices[place].mood == .gone { devices[place].mood = .fine }
                (devices[place].refused, devices[place].refusedNow) = ([], [])
            }
            let kinds = [Coalescer.Kinds](repeating: [.tcp, .udp], count: deviceCount)
            batch.adopt(
                newest.tables.view, kinds: kinds, errors: newest.setup.errors, limits: newest.setup.limits,
                isShadow: newest.setup.isShadow)
        }
        if old.setup !== newest.setup || old === newest { acceptedSince = (now, 0, 0) }
        let held = model
        model = newest.model
        model.takeOver(held)
        live.removeFirst(live.count - 1)
        mirror.reclaim()
        note(.adopt, newest.number)
    }
}
