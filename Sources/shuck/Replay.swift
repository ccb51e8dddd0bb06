// Drives the worker's batch with the frames of a capture, and writes inner packets to another one. The clock
// is the capture's and the random seed is fixed: the output is the same each time, for each batch size.

import Captures
import Forwarding
import Foundation
import IP
import Settings

/// How many frames got each verdict.
struct ReplayCounts: Encodable {
    var frames = 0
    var injected = 0
    var passed = 0
    var held = 0
    var dropped = 0
    var replied = 0
    /// Of `dropped`, by reason.
    var reasons: [String: Int] = [:]

    /// Whether each frame has exactly one verdict.
    var isConserved: Bool {
        frames == injected + passed + held + dropped + replied
            && dropped == reasons.values.reduce(0, +)
    }

    var text: String {
        let sorted = reasons.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        let why =
            sorted.isEmpty
            ? "" : " (" + sorted.map { "\($0.key) \($0.value)" }.joined(separator: ", ") + ")"
        return """
            \(frames) frames: \(injected) injected, \(passed) passed, \(dropped) dropped\(why), \
            \(held) held, \(replied) replied
            """
    }
}

/// The configured interface of each frame.
struct Arrivals {
    private let configured: [String: UInt16]
    /// Whether `--interface` names the interface of all frames.
    private let isGiven: Bool
    /// The interface of `--interface`, else the first: it counts for frames whose interface is not known.
    private let standard: UInt16
    /// Names by the host's own numbers.
    private let names: [Int32: String]
    private var unknownNames: Set<String> = []
    private var unnamed: Set<Int32> = []

    init(_ policy: Policy, given: Int?, names: [Int32: String]) {
        configured = Dictionary(
            policy.interfaces.enumerated().map { ($1.name, UInt16($0)) }, uniquingKeysWith: { $1 })
        isGiven = given != nil
        standard = UInt16(given ?? 0)
        self.names = names
    }

    mutating func interface(of packet: CapturedPacket) -> UInt16 {
        if isGiven { return standard }
        let named = packet.interfaceIndex.flatMap { names[$0] }
        if let index = packet.interfaceIndex, named == nil { unnamed.insert(index) }
        guard let name = named ?? packet.interface.name, name != "any" else { return standard }
        if let known = configured[name] { return known }
        unknownNames.insert(name)
        return standard
    }

    /// What was missing for some frames.
    func notes(_ policy: Policy) -> [String] {
        let first = policy.interfaces[Int(standard)].name
        var notes: [String] = []
        if !unknownNames.isEmpty {
            notes.append(
                """
                the capture names interfaces that are not configured, \
                \(unknownNames.sorted().joined(separator: ", ")): their frames are taken as \(first)'s; \
                --interface names the interface of all frames
                """)
        }
        if unnamed.count > 1 {
            notes.append(
                """
                the capture's frames came in by \(unnamed.count) interfaces without names, and are \
                taken as \(first)'s: add the output of `ip -j -d link` to --routes
                """)
        }
        return notes
    }
}

final class Replay {
    private(set) var counts = ReplayCounts()
    private let world: ForwardingTables
    private(set) var arrivals: Arrivals
    private var clock = CaptureClock()
    private let output: CaptureWriter
    private let replies: CaptureWriter?
    private let tokens: ICMPErrorTokens?
    private let limits: PacketLimits?
    private let sources: ReplySources
    private let verdictLines: VerdictLines?

    private let reassembler: Reassembler?
    private let memory: UnsafeMutableRawPointer
    private let batch: Batch
    // The frames of the batch: bytes, times of the capture, times of the clock.
    private var frames: [UnsafeMutableRawBufferPointer]
    private var stamps: [timeval] = []
    private var times: [UInt64] = []
    /// The packet that a receiver gets for each of these frames.
    private var packets: [[UInt8]]

    /// - Parameter batchSize: frames that are judged together, at most.
    init(
        world: ForwardingTables, configuration: Configuration, batchSize: Int, arrivals: Arrivals,
        output: CaptureWriter, replies: CaptureWriter?, verdictLines: VerdictLines?
    ) {
        self.world = world
        self.arrivals = arrivals
        self.output = output
        self.replies = replies
        tokens = ICMPErrorTokens(configuration.icmp)
        limits = PacketLimits(
            packetsPerSecond: configuration.limits.packetsPerSecond,
            perRemote: configuration.limits.perRemote, seed: 1)
        sources = ReplySources(configuration)
        self.verdictLines = verdictLines
        let fragments = configuration.outer.fragments
        reassembler =
            fragments.memory == 0
            ? nil
            : Reassembler(
                memory: fragments.memory, timeout: fragments.timeout.nanoseconds, seed: 1,
                batch: batchSize)
        memory = .allocate(byteCount: Batch.byteCount(capacity: batchSize), alignment: 128)
        batch = Batch(in: memory, capacity: batchSize)
        frames = (0..<batchSize).map { _ in .allocate(byteCount: 2048, alignment: 8) }
        packets = [[UInt8]](repeating: [], count: batchSize)
        batch.adopt(
            world.view,
            kinds: world.policy.policy.devices.map { _ in
                configuration.workers.coalesce ? [.tcp, .udp] : []
            },
            errors: tokens, limits: limits, isShadow: false)
    }

    deinit {
        tokens?.deallocate()
        limits?.deallocate()
        memory.deallocate()
        for frame in frames { frame.deallocate() }
    }

    /// Adds a frame to the batch, and finishes the batch when it is full.
    func take(_ packet: CapturedPacket) {
        let place = stamps.count
        // A frame too short for its link layer counts as one of a foreign protocol.
        let parsed = packet.interface.link.parse(packet.bytes) ?? (packet.bytes.count, 0, false)
        if packet.bytes.count > frames[place].count {
            frames[place].deallocate()
            frames[place] = .allocate(byteCount: packet.bytes.count, alignment: 8)
        }
        frames[place].copyMemory(from: packet.bytes)
        (batch.frames + place).initialize(
            to: Frame(
                network: UnsafeRawPointer(frames[place].baseAddress! + parsed.length),
                head: batch.head(place), length: packet.bytes.count - parsed.length,
                wireLength: packet.wireLength - parsed.length, linkLength: parsed.length,
                etherType: parsed.etherType, interface: arrivals.interface(of: packet),
                isForUs: parsed.isForUs))
        clock.advance(to: packet.nanoseconds)
        stamps.append(packet.time)
        times.append(clock.now)
        if stamps.count == batch.capacity { finish() }
    }

    /// Judges and writes the frames of the batch.
    func finish() {
        guard !stamps.isEmpty else { return }
        let plan = batch.plan(
            count: stamps.count, reassembler: reassembler, now: clock.now, arrivals: times)
        for place in plan.operations {
            perform(batch.operations[place])
            batch.operations[place].result = batch.operations[place].length
        }
        precondition(batch.settle(plan.operations) == nil)
        for place in stamps.indices { record(batch.verdicts[place], place) }
        stamps.removeAll(keepingCapacity: true)
        times.removeAll(keepingCapacity: true)
    }

    private func perform(_ operation: Batch.Operation) {
        switch operation.target {
        case .device:
            let bytes = operation.content
            let packet = Array(bytes.dropFirst(VirtioHeader.byteCount))
            guard !operation.joined.isEmpty else {
                packets[Int(operation.frame)] = packet
                return
            }
            let header = bytes.withUnsafeBytes { $0.loadUnaligned(as: VirtioHeader.self) }
            // One segment per coalesced frame; a missing one shows as an empty packet.
            var cut = Segmentation.packets(packet, header)[...]
            batch.forEachFrame(of: operation) { packets[$0] = cut.popFirst() ?? [] }
        case .icmpError:
            guard let replies else { return }
            let target = batch.receiver(of: operation)
            let (message, quoted) = (operation.pieces[0], operation.pieces[1])
            let rest = UnsafeRawBufferPointer(start: quoted.base, count: quoted.count)
            withUnsafeTemporaryAllocation(byteCount: ICMPErrorMessage.headersMax, alignment: 8) {
                let count = ICMPErrorMessage.writePacket(
                    to: $0.baseAddress!, message.base, quoted: rest,
                    source: target.count == 4 ? sources.ipv4 : sources.ipv6, target: target)
                replies.write(
                    stamps[Int(operation.frame)], UnsafeRawBufferPointer(rebasing: $0[..<count]), rest)
            }
        case .probeReturn: break
        }
    }

    private func record(_ verdict: Verdict, _ place: Int) {
        verdictLines?.write(verdict, frame: counts.frames)
        counts.frames += 1
        switch verdict.kind {
        case .inject:
            counts.injected += 1
            packets[place].withUnsafeBytes {
                output.write(stamps[place], $0, UnsafeRawBufferPointer(start: nil, count: 0))
            }
        case .pass: counts.passed += 1
        case .hold: counts.held += 1
        case .drop:
            counts.dropped += 1
            counts.reasons[verdict.reason.name, default: 0] += 1
        case .reply: counts.replied += 1
        }
    }
}

/// Source addresses of ICMP errors. A host chooses `auto` by its routes. Without a host `auto` is the first
/// local address of a tunnel in the family, or the unspecified one.
private struct ReplySources {
    let ipv4: Address
    let ipv6: Address

    init(_ configuration: Configuration) {
        let own = configuration.tunnels.flatMap(\.local).filter(\.isHost).map(\.address)
        ipv4 = configuration.icmp.source4 ?? own.first(where: \.isIPv4) ?? Address(ipv4: 0)
        ipv6 = configuration.icmp.source6 ?? own.first { !$0.isIPv4 } ?? Address(high: 0, low: 0)
    }
}

/// Verdicts as JSON, one object per line, the keys always in the same order.
final class VerdictLines {
    let file: LineFile
    private let tunnels: [String]
    private let devices: [String]

    init(_ file: LineFile, policy: Policy) throws {
        self.file = file
        tunnels = try policy.tunnels.map { try Output.jsonText($0.name) }
        devices = try policy.devices.map { try Output.jsonText($0.name) }
    }

    func write(_ verdict: Verdict, frame: Int) {
        var line = "{\"frame\":\(frame),\"verdict\":\"\(verdict.kind)\""
        if verdict.kind == .drop || verdict.kind == .reply {
            line += ",\"reason\":\"\(verdict.reason.name)\""
        }
        if verdict.tunnel != Verdict.noIndex {
            line += ",\"mode\":\"\(verdict.mode.name)\",\"tunnel\":\(tunnels[Int(verdict.tunnel)])"
        }
        if verdict.kind == .inject { line += ",\"device\":\(devices[Int(verdict.device)])" }
        file.write(line + "}\n")
    }
}
