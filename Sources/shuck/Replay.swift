// The second driver of the judge: frames of a capture in batches, inner packets to another one.
// Knows no kernel and no clock, so that the same capture gives the same bytes again.

import Forwarding
import Foundation

/// What became of the frames, for the last line.
struct ReplayCounts: Encodable {
    var frames = 0
    var injected = 0
    var passed = 0
    var held = 0
    var dropped = 0
    var replied = 0
    /// Of `dropped`, by reason.
    var reasons: [String: Int] = [:]

    /// Each frame has exactly one fate.
    var isConserved: Bool {
        frames == injected + passed + held + dropped + replied
            && dropped == reasons.values.reduce(0, +)
    }

    var text: String {
        let sorted = reasons.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        let why = sorted.isEmpty
            ? "" : " (" + sorted.map { "\($0.key) \($0.value)" }.joined(separator: ", ") + ")"
        return """
            \(frames) frames: \(injected) injected, \(passed) passed, \(dropped) dropped\(why), \
            \(held) held, \(replied) replied
            """
    }
}

final class Replay {
    /// A frame that waits for its batch to be full.
    private struct Waiting {
        var time: timeval
        /// Where its network header stands in `bytes`.
        var start: Int
        var length: Int
        var wireLength: Int
        var linkLength: Int
        var etherType: UInt16
        var isForUs: Bool
    }

    private(set) var counts = ReplayCounts()
    private let world: World
    private let interface: UInt16
    private let link: LinkType
    private let output: CaptureWriter
    private let verdictLines: VerdictLines?

    private var waiting: [Waiting] = []
    /// The frames of the batch, one behind the other. Never empty, so that it has an address.
    private var bytes: [UInt8] = [0]
    private let frames = UnsafeMutablePointer<Frame>.allocate(capacity: Limits.batch)
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: Limits.batch)
    private let heads = UnsafeMutableRawPointer.allocate(
        byteCount: Limits.batch * Limits.headBytes, alignment: 64)

    init(
        world: World, interface: Int, link: LinkType, output: CaptureWriter,
        verdictLines: VerdictLines?
    ) {
        self.world = world
        self.interface = UInt16(interface)
        self.link = link
        self.output = output
        self.verdictLines = verdictLines
    }

    deinit {
        frames.deallocate()
        verdicts.deallocate()
        heads.deallocate()
    }

    /// Judges the packet with the others of its batch.
    func take(_ packet: CapturedPacket) {
        // Too short for its link layer: as a frame of a protocol that is not ours.
        let parsed = link.parse(packet.bytes) ?? (packet.bytes.count, 0, false)
        waiting.append(
            Waiting(
                time: packet.time, start: bytes.count + parsed.length,
                length: packet.bytes.count - parsed.length,
                wireLength: packet.wireLength - parsed.length, linkLength: parsed.length,
                etherType: parsed.etherType, isForUs: parsed.isForUs))
        bytes.append(contentsOf: packet.bytes)
        if waiting.count == Limits.batch { finishBatch() }
    }

    /// Judges what waits, also when there is less than a batch of it.
    func finishBatch() {
        bytes.withUnsafeBytes { bytes in
            let base = bytes.baseAddress!
            for (index, frame) in waiting.enumerated() {
                (frames + index).initialize(
                    to: Frame(
                        network: base + frame.start, head: heads + index * Limits.headBytes,
                        length: frame.length, wireLength: frame.wireLength,
                        linkLength: frame.linkLength, etherType: frame.etherType,
                        interface: interface, isForUs: frame.isForUs))
            }
            Judge.judge(frames, into: verdicts, count: waiting.count, world: world.view)
            for (index, frame) in waiting.enumerated() {
                record(frames[index], verdicts[index], frame.time)
            }
        }
        waiting.removeAll(keepingCapacity: true)
        bytes.removeLast(bytes.count - 1)
    }

    private func record(_ frame: Frame, _ verdict: Verdict, _ time: timeval) {
        verdictLines?.write(verdict, frame: counts.frames)
        counts.frames += 1
        switch verdict.kind {
        case .inject:
            counts.injected += 1
            let head = Int(verdict.headLength)
            output.write(
                time, UnsafeRawBufferPointer(start: frame.head, count: head),
                UnsafeRawBufferPointer(
                    start: frame.network + Int(verdict.offset) + head,
                    count: Int(verdict.length) - head))
        case .pass: counts.passed += 1
        case .hold: counts.held += 1
        case .drop:
            counts.dropped += 1
            counts.reasons[verdict.reason.name, default: 0] += 1
        case .reply: counts.replied += 1
        }
    }
}

/// Verdicts as JSON, one object a line, the keys always in the same order.
final class VerdictLines {
    private let file: LineFile
    private let tunnels: [String]
    private let devices: [String]

    init(_ file: LineFile, policy: Policy) throws {
        self.file = file
        tunnels = try policy.tunnels.map { try Output.jsonText($0.name) }
        devices = try policy.devices.map { try Output.jsonText($0) }
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

    func close() throws(Failure) { try file.close() }
}
