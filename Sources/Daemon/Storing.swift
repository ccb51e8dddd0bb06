// Part of Control (Supervisor.swift): what it leaves in the service manager's store, and how the next process
// goes on with it, whether this one was killed or told to end.

import Forwarding
import HostPlan
import LinuxIO
import Logging
import Settings

extension Control {
    /// Puts what is held into the store, where that has changed.
    func keepStored() {
        guard let store, let (document, descriptors) = description() else { return }
        let counters = memories.map(\.counters)
        let count = countOfEarlier()
        let earlier = count.totals
        let isKnown =
            stored.map {
                $0.plumbing.isSame(as: plumbing) && Set($0.earlier) == Set(earlier)
                    && zip($0.counters, counters).allSatisfy { $0 === $1 }
            } ?? false
        if isKnown { return }
        stored = (plumbing, counters, earlier)
        let rest = HandOver.Rest(count: count, report: report)
        store.put(descriptors + counters.map(\.file) + memories.map(\.copies.file)) { names in
            StoredState(handOver: document, rest: rest, names: names, workers: counters.count)
        }
    }

    /// Ends at a batch border and leaves everything in the store: `systemctl restart` loses nothing, and what
    /// is left after `systemctl stop` goes with its descriptors.
    /// - Returns: an exit code; nil: there is no store, or a worker did not end.
    func leaveToStore() -> Int32? {
        guard store != nil else { return nil }
        ServiceNotifier.notify("STOPPING=1")
        report.isStopping = true
        engine.note(provision)
        if !engine.hasEnded, let (left, _) = engine.end(.handedOver), !left.isEmpty { return nil }
        // One that has ended, or did not answer and was killed, is no obstacle: the next process goes on.
        engine.finish()
        // A filter on clsact would outlive its descriptors.
        plumbing.removeOwnerless()
        keepStored()
        log.notice("stopped; what was held is left to the service manager")
        return 0
    }

    /// Goes on with what a process before this one has left in the store, under the configuration that was in
    /// force: the one on disk may be one that was refused. That is then loaded as by a reload.
    /// - Returns: nil where there is nothing, or what is of no use.
    static func resume(_ path: String, _ isStrict: Bool) -> Control? {
        guard let received = ReceivedDescriptors.take() else { return nil }
        do {
            if let state = try received.state() {
                let control = try resume(state, received, path, isStrict)
                control.reloadIfChanged()
                return control
            }
        } catch {
            Logger(label: "shuck").error(
                "what the service manager kept is of no use: \(error); all is opened anew")
        }
        // It would hold the lock and the rings for ever.
        DescriptorStore.remove(received.names)
        ServiceNotifier.waitUntilDone()
        return nil
    }

    private static func resume(
        _ state: StoredState, _ received: ReceivedDescriptors, _ path: String, _ isStrict: Bool
    ) throws -> Control {
        guard state.handOver.format == HandOver.format else {
            throw HostProblem(description: "it was stored in format \(state.handOver.format)")
        }
        let all = state.names.compactMap { received.named[$0] }
        guard all.count == state.names.count, 2 * state.workers <= all.count else {
            throw HostProblem(description: "\(state.names.count - all.count) descriptors are missing")
        }
        let document = state.handOver
        let offer = try Predecessor.Offer(document, Array(all.dropLast(2 * state.workers)))
        let control = try prepared(offer, path, isStrict)
        control.storedBefore = received.names
        let counters = try control.countersLeft(all.suffix(2 * state.workers).prefix(state.workers))
        control.left = try all.suffix(state.workers).map {
            try NamedMemory(adopting: $0, byteCount: FrameCopies.byteCount)
        }
        let (repeated, skipped) = control.resumeRings()
        var rest = state.rest
        rest.count.add(counters, control.configuration)
        rest.report.repeated += repeated
        rest.report.skipped += skipped
        try control.begin(where: rest, offer)
        control.log.notice(
            "goes on where another process ended",
            metadata: ["process": "\(document.processID)", "maybeTwice": "\(repeated)"])
        return control
    }

    /// Finds the place in each ring, with the frames that were taken from its queue already (`left`).
    /// - Returns: frames that may have been injected, and those that were thrown away.
    func resumeRings() -> (repeated: UInt64, skipped: UInt64) {
        var (repeated, skipped): (UInt64, UInt64) = (0, 0)
        for (worker, memory) in left.enumerated() {
            let copies = FrameCopies(in: memory)
            for interface in plumbing.interfaces where worker < interface.rings.count {
                interface.rings[worker].adopt(copies, batch: Limits.batch)
                let (resumption, frames) = interface.rings[worker].resume()
                // The engine takes them up itself.
                interface.rings[worker].forgetLeft()
                repeated += UInt64(resumption.repeated)
                skipped += UInt64(frames.count)
                if !frames.isEmpty { keep(frames, from: interface.specification.interface, worker) }
            }
        }
        return (repeated, skipped)
    }

    /// For whoever looks for the reason.
    private func keep(_ frames: [SkippedFrame], from interface: String, _ worker: Int) {
        let what = "\(frames.count) frames of \(interface), a batch that has killed two processes,"
        do throws(SystemError) {
            let path = try SkippedFrames.keep(
                frames, from: interface, worker: worker, configuration.yaml,
                beside: configuration.admin.socket, unixSeconds: Int(Host.unixSeconds()))
            log.error(
                """
                \(what) were thrown away and are kept in \(path): shuck replay --in \(path) --config \
                \(path).yaml --out /dev/null
                """)
        } catch {
            log.error("\(what) were thrown away, and could not be kept: \(error)")
        }
    }

    private func countersLeft(_ files: ArraySlice<Descriptor>) throws -> [CounterBlock.Values] {
        let shape = CounterBlock.Shape(configuration.policy)
        return try files.map { try CounterBlock(adopting: $0, shape: shape).read().repaired }
    }
}

extension EngineCount {
    /// Adds what the workers' counters hold.
    mutating func add(_ counters: [CounterBlock.Values], _ configuration: Configuration) {
        var sums: Totals = [:]
        for (worker, values) in counters.enumerated() {
            sums.add(values, worker: worker, configuration: configuration)
            // Memory that the engine writes.
            ringDrops[worker, default: 0] &+= values[.truncated]
        }
        totals += sums.map { Value(metric: $0.key.metric, labels: $0.key.labels, value: $0.value) }
    }
}
