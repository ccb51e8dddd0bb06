// Part of World (World.swift): the control thread's side. Routes change, configurations are reloaded, and the
// worker adopts what was published at a batch border.

import Forwarding
import Routing

extension World {
    mutating func change() {
        if acts(80) { changeRoutes() }
        if acts(200) { reload(isFirst: false) }
        if acts(500) { pass(UInt64(1 + control.below(40_000)) * 1_000_000) }
        if acts(1000) { setBack() }
        // Nobody suspends a host for that long, but a clock that runs on is one.
        if acts(4000) { pass(UInt64(1 + control.below(365)) * 86_400_000_000_000) }
    }

    /// Time goes by.
    mutating func pass(_ nanoseconds: UInt64) {
        clock &+= nanoseconds
        for setup in setups {
            setup.packetBucket.pass(nanoseconds: nanoseconds)
            setup.errorBucket.pass(nanoseconds: nanoseconds)
        }
        if nanoseconds > 1_000_000 { note(.jump, Int(nanoseconds / 1_000_000)) }
    }

    /// The clock goes back: some microseconds, or an hour.
    private mutating func setBack() {
        let nanoseconds = min(UInt64(1 + control.below(1 << (10 + control.below(32)))), clock - 1)
        clock &-= nanoseconds
        for setup in setups {
            setup.packetBucket.goBack(nanoseconds: nanoseconds)
            setup.errorBucket.goBack(nanoseconds: nanoseconds)
        }
        summary.setbacks += 1
        note(.jump, -Int(nanoseconds / 1_000_000))
    }

    /// Those that some worker runs on or will.
    private var setups: [Setup] {
        var setups: [Setup] = []
        for generation in live where !setups.contains(where: { $0 === generation.setup }) {
            setups.append(generation.setup)
        }
        return setups
    }

    mutating func changeRoutes() {
        // Behind a reload that some worker has not adopted, routes would be those of neither.
        let newest = live[live.count - 1]
        if newest.setup !== live[0].setup { return }
        var steps: [[RouteEntry]] = []
        for _ in 0...control.below(4) {
            if !routes.change(mirror, &control, &steps) { fail("the mirror is not sure of a change") }
        }
        summary.routeChanges += 1
        publish(newest.setup, steps)
        note(.routes, generations)
    }

    mutating func reload(isFirst: Bool) {
        let policy = isFirst ? 0 : control.below(policies.count)
        let setup = Setup(
            policy: policy, policies[policy], compiled[policy], isShadow: !isFirst && control.percent(4),
            packetsPerSecond: control.percent(10) ? 10_000 + control.below(1_000_000) : nil)
        if !isFirst { summary.reloads += 1 }
        publish(setup, [routes.entries])
        note(.reload, generations)
    }

    private mutating func publish(_ setup: Setup, _ steps: [[RouteEntry]]) {
        for number in 0..<workerCount where workers[number].generation === live[live.count - 1] {
            workers[number].lateness = control.below(6)
        }
        generations += 1
        live.append(
            Generation(
                number: generations, setup: setup, routes: mirror.generation(),
                settings: steps.map {
                    Self.setting(policies[setup.policy], $0, interfaces, cells: fragmentCells)
                },
                interfaces: interfaces, templates: traffic.templates.count))
    }

    /// As `Worker.adopt`: the newest, at once. Between two batches of the worker whose turn it is.
    mutating func adopt() {
        let old = worker.pointee.generation
        let newest = live[live.count - 1]
        if scenario.sabotage == .staleGeneration && generations > 3 {
            worker.pointee.kept.append(old)
        } else {
            for place in 0..<deviceCount {
                // A reload opens a device that is gone, and finds out again what it cuts.
                if devices[place].mood == .gone { devices[place].mood = .fine }
                worker.pointee.refusals[place] = WorkerState.Refusals()
            }
            let kinds = [Coalescer.Kinds](repeating: [.tcp, .udp], count: deviceCount)
            var limits = newest.setup.limits
            if scenario.sabotage == .bucketsOfItsOwn {
                worker.pointee.bucketsOwner = Setup(newest.setup)
                limits = worker.pointee.bucketsOwner?.limits
            }
            batch.adopt(
                newest.tables.view, kinds: kinds, errors: newest.setup.errors, limits: limits,
                isShadow: newest.setup.isShadow)
        }
        if newest.setup.shape != worker.pointee.block.shape { retireCounters(newest.setup.shape) }
        let held = worker.pointee.model
        worker.pointee.model = newest.model
        worker.pointee.model.takeOver(held)
        worker.pointee.generation = newest
        letGo()
        note(.adopt, newest.number, worker - workers)
    }

    /// As `Engine.letGo`: what no worker runs on any more.
    private mutating func letGo() {
        let oldest = (0..<workerCount).map { workers[$0].generation.number }.min() ?? 0
        live.removeAll { $0.number < oldest }
        if live.count == 1 { mirror.reclaim() }
    }

    /// Goes on in a new block, with what the old one holds.
    mutating func retireCounters(_ shape: CounterBlock.Shape) {
        let found = worker.pointee.block.values
        let values = scenario.sabotage == .unrepairedCounters ? found : found.repaired
        checkParts(values)
        worker.pointee.retired = worker.pointee.retired + Counters(values)
        worker.pointee.block = CounterBlock(shape: shape)
    }
}
