// What a capture serves: the workers' records as a pcapng file that grows until its reader goes.

import Forwarding
import Foundation
import IP
import LinuxIO
import Settings

/// What is asked for by `/capture?verdict=NAME&reason=NAME&tunnel=NAME&injected=1`; names may come
/// several times.
struct CaptureQuery: Equatable {
    var filter = CaptureFilter()
    /// Names; empty: all.
    var tunnels: Set<String> = []

    /// - Throws: what is wrong, in a line.
    init(_ uri: String) throws(HostProblem) {
        var (kinds, reasons): (UInt64, UInt64) = (0, 0)
        for item in URLComponents(string: uri)?.queryItems ?? [] {
            let value = item.value ?? ""
            switch item.name {
            case "verdict":
                guard let kind = Verdict.Kind.allCases.first(where: { "\($0)" == value }) else {
                    throw HostProblem(description: "there is no verdict \(value)")
                }
                kinds |= 1 << UInt64(kind.rawValue)
            case "reason":
                guard let reason = DropReason.allCases.first(where: { $0.name == value }) else {
                    throw HostProblem(description: "there is no reason \(value)")
                }
                reasons |= 1 << UInt64(reason.rawValue)
            case "tunnel": tunnels.insert(value)
            case "injected": filter.takesInjected = value == "1"
            default: throw HostProblem(description: "there is no \(item.name) of a capture")
            }
        }
        if kinds != 0 { filter.kinds = kinds }
        if reasons != 0 { filter.reasons = reasons }
    }
}

/// One capture. On the admin thread alone.
final class CaptureFeed {
    private let query: CaptureQuery
    private let workers: [Snapshot.WorkerState]
    private let droppedBefore: UInt64
    /// Numbers of the interfaces that the file has.
    private var interfaces: [String: Int] = [:]
    private var nextStatistics: UInt64 = 0
    /// The last configuration that a worker ran on, and its generation.
    private var known: [(configuration: Configuration, generation: UInt64)] = []

    /// - Returns: nil: another capture runs.
    init?(_ query: CaptureQuery, _ snapshot: Snapshot) throws(SystemError) {
        self.query = query
        workers = snapshot.workers
        droppedBefore = workers.reduce(0) { $0 + $1.mailbox.tap.dropped }
        var started: [CaptureTap] = []
        for worker in workers {
            guard try worker.mailbox.tap.start(query.filter, cpu: worker.cpu) else {
                for tap in started { tap.stop() }
                return nil
            }
            started.append(worker.mailbox.tap)
        }
    }

    func stop() { for worker in workers { worker.mailbox.tap.stop() } }

    private var dropped: UInt64 { workers.reduce(0) { $0 + $1.mailbox.tap.dropped } - droppedBefore }

    /// The file's beginning.
    func header(_ snapshot: Snapshot) -> [UInt8] {
        var bytes = CaptureBlock.section("shuck \(Build.version)")
        for name in snapshot.configuration.interfaces { _ = interface(name, .ethernet, &bytes) }
        guard query.filter.takesInjected else { return bytes }
        for device in snapshot.configuration.devices { _ = interface(device.name, .raw, &bytes) }
        return bytes
    }

    private func interface(_ name: String, _ link: LinkType, _ bytes: inout [UInt8]) -> Int {
        // A device may be named as an interface is.
        let key = "\(name) \(link.rawValue)"
        if let number = interfaces[key] { return number }
        interfaces[key] = interfaces.count
        bytes += CaptureBlock.interface(name, link: link.rawValue)
        return interfaces.count - 1
    }

    /// What came since, about `limit` bytes at most, and each second how much was lost.
    func next(_ snapshot: Snapshot?, limit: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        if let snapshot { note(snapshot) }
        for worker in workers {
            worker.mailbox.tap.read { record, packet in
                append(record, packet, worker, &bytes)
                return bytes.count < limit
            }
        }
        let now = Host.monotonicNanoseconds()
        if now >= nextStatistics {
            nextStatistics = now + Timing.captureStatisticsNanoseconds
            bytes += CaptureBlock.statistics(
                dropped: dropped, interface: 0, nanoseconds: UInt64(Host.unixSeconds() * 1e9))
        }
        return bytes
    }

    /// A configuration may be shown before it is counted as accepted.
    private func note(_ snapshot: Snapshot) {
        let (configuration, count) = (snapshot.configuration, snapshot.configurations)
        if known.last?.configuration == configuration && known.last?.generation == count { return }
        let last = known.last?.generation ?? 0
        let earlier = known.firstIndex { $0.configuration == configuration }.map { known.remove(at: $0) }
        known.append((configuration, max(count, earlier?.generation ?? last + 1)))
        if known.count > 8 { known.removeFirst() }
    }

    private func append(
        _ record: CaptureRecord, _ packet: UnsafeRawBufferPointer, _ worker: Snapshot.WorkerState,
        _ bytes: inout [UInt8]
    ) {
        let configuration = worker.mailbox.tap.configuration(record.generation)
        func name(_ names: [String]?, _ index: UInt16) -> String {
            guard let names, Int(index) < names.count else { return "#\(index)" }
            return names[Int(index)]
        }
        let tunnel =
            record.tunnel == Verdict.noIndex ? nil : name(configuration?.tunnels.map(\.name), record.tunnel)
        if !query.tunnels.isEmpty, !(tunnel.map(query.tunnels.contains) ?? false) { return }
        let device = name(configuration?.devices.map(\.name), record.device)
        let received = name(configuration?.interfaces, record.interface)
        let kind = Verdict.Kind(rawValue: record.kind) ?? .pass
        var words = ["verdict=\(kind)"]
        if record.reason != 0, let reason = DropReason(rawValue: record.reason) {
            words.append("reason=\(reason.name)")
        }
        if let tunnel, let mode = Mode(rawValue: record.mode) {
            words += ["tunnel=\(tunnel)", "mode=\(mode.name)"]
        }
        words.append("interface=\(received)")
        if kind == .inject { words.append("device=\(device)") }
        words += ["worker=\(worker.number)", "generation=\(generation(configuration))"]
        if record.isInjected && record.joined > 1 { words.append("joined=\(record.joined)") }
        let number =
            record.isInjected ? interface(device, .raw, &bytes) : interface(received, .ethernet, &bytes)
        bytes += CaptureBlock.packet(
            packet, wireLength: Int(record.wire), interface: number, nanoseconds: record.time,
            comment: words.joined(separator: " "))
    }

    /// As `shuck_config_generation` counts: workers run on a configuration before it is reported.
    private func generation(_ configuration: Configuration?) -> UInt64 {
        let last = known.last?.generation ?? 0
        guard let configuration else { return last }
        return known.last { $0.configuration == configuration }?.generation ?? last + 1
    }
}
